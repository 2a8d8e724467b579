"""Finding records by what identifies them, and making those that are missing: up to 1,000 at a time.

The number of statements does not depend on the number of candidates. Identifiers are claimed before records are
written: of two calls that bring the same new e-mail at once, one claims it, and the other waits, is told who has it,
and goes on with that record.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from core import ids
from core.domain import names
from core.domain.errors import EmailTaken, TooManyIdentifiers, Violation
from core.domain.records import identity
from core.domain.records.fields import missing_fields
from core.domain.records.identity import MOST_IDENTIFIERS, Conflict, Identifier
from core.domain.records.standard import DEFAULTS
from core.store.erasing import erased_people
from core.store.merging import automatic_merges, identity_conflicts, merges
from core.store.merging.identity_conflicts import Seen
from core.store.records import fitting, identifiers, record_events, unsubscribed_field
from core.store.records.candidates import Batch
from core.store.records.candidates import ContactCandidate as ContactCandidate
from core.store.records.candidates import Resolved as Resolved
from core.store.records.record_events import Triggers
from core.store.records.record_rows import Draft, Record, Written, save
from core.store.transaction import StaleEnrollment, Transaction

_MERGES_AT_ONCE = 5
"""How many merges, one into the next, are followed that end while their records are waited for."""


@dataclass(slots=True)
class _Plan:
    """One candidate on its way to a record."""

    candidate: ContactCandidate
    identifiers: list[Identifier]
    target: str = ""
    conflicts: tuple[Conflict, ...] = ()
    violation: Violation | None = None
    also_wrong: Sequence[Violation] = ()
    link_only: bool = False
    """The record is the one meant, but what the candidate says is not believed."""
    other_email: bool = False
    """The e-mail is another one of the record's own: it found the record, and the main one stays."""
    unclaimed: list[Identifier] = field(default_factory=list)
    fields: Mapping[str, Any] = field(default_factory=dict)
    """What the candidate says, with own fields as they are stored."""


async def resolve_contacts(
    tx: Transaction, candidates: Sequence[ContactCandidate], *, actor: str, cause: str
) -> list[Resolved]:
    """Find or make a contact for each candidate and set the fields it brings; answers in order.

    A candidate that something is wrong with changes nothing and stops no other.
    """
    return await resolve(tx, "contact", candidates, actor=actor, cause=cause)


async def upsert(
    tx: Transaction,
    record_type: str,
    fields: Mapping[str, Any],
    identifiers: Sequence[Identifier] = (),
    *,
    actor: str,
    cause: str,
) -> Written:
    """Create a record, or set fields of the one that the identifiers or the e-mail name.

    Raises Invalid, EmailTaken and ValueTaken.
    """
    candidate = ContactCandidate(fields, tuple(identifiers), path="fields")
    resolved = (await resolve(tx, record_type, [candidate], actor=actor, cause=cause))[0]
    if resolved.record is None:
        raise fitting.refusal(record_type, resolved)
    return Written(resolved.record, resolved.changes, resolved.created)


async def resolve(
    tx: Transaction,
    record_type: str,
    candidates: Sequence[ContactCandidate],
    *,
    actor: str,
    cause: str = "",
    triggers: Triggers = "all",
) -> list[Resolved]:
    """Find or make a record of one type for each candidate; see `resolve_contacts`.

    `triggers` says which of it workflows are told.
    """
    batch = Batch(tx, record_type)
    plans = [_Plan(one, _identifiers(record_type, one), fields=one.fields) for one in candidates]
    wanted = {identifier for plan in plans for identifier in plan.identifiers}
    if record_type == "contact":
        await _join(batch, plans, actor, cause)
    await batch.meet(wanted, {plan.candidate.contact_id for plan in plans} - {""})
    await _confirm(batch, plans)
    if record_type == "contact":
        batch.erased = await erased_people.among(tx, wanted - set(batch.known))
    for plan in plans:
        _aim(batch, plan)
    await _check_grants(batch, plans)
    await _claim(batch, plans)
    await fitting.fit(batch, plans)
    await fitting.look_back(batch, plans)
    drafts: dict[str, Draft] = {}
    answers = [_write(batch, drafts, plan, actor, cause) for plan in plans]
    written = {item.record.id: item for item in await save(tx, drafts.values())}
    await record_events.announce(tx, written.values(), triggers)
    await unsubscribed_field.heed(tx, drafts.values())
    await identity_conflicts.note(
        tx, [one for plan, answer in zip(plans, answers, strict=True) for one in _seen(batch, plan, answer, cause)]
    )
    return [_final(answer, written) for answer in answers]


async def _join(batch: Batch, plans: Sequence[_Plan], actor: str, cause: str) -> None:
    """Merge those who are one by what an event tells; only one that names somebody twice can tell of two."""
    doubly = [plan for plan in plans if plan.candidate.observed and len(plan.identifiers) > 1]
    owners = await batch.owners({identifier for plan in doubly for identifier in plan.identifiers})
    told = [
        ({one: owners[one] for one in plan.identifiers if one in owners}, plan.candidate.cause or cause)
        for plan in doubly
    ]
    await automatic_merges.join(batch.tx, told, actor)


def _seen(batch: Batch, plan: _Plan, answer: Resolved, cause: str) -> list[Seen]:
    if answer.record is None:
        return []
    return [
        Seen(batch.record_type, plan.candidate.cause or cause, answer.contact_id, one.kind, one.value, one.record_id)
        for one in answer.conflicts
    ]


async def _confirm(batch: Batch, plans: Sequence[_Plan]) -> None:
    """Ask once more, with the records held, for e-mails that are not their records' main ones.

    They are a merged record's, or were given up since they were seen. Learn too which records went into others, be it
    while this waited for them.
    """
    for _ in range(_MERGES_AT_ONCE):
        gone = [identifier for identifier, owner in batch.known.items() if owner not in batch.held]
        if not gone:
            break
        there = await batch.owners(gone)
        batch.known.update(there)
        batch.seen.update(there)
        await batch.hold(there.values())
    doubtful = [
        identifier
        for identifier, owner in batch.known.items()
        if identifier[0] == "email" and identity.normalise("email", batch.email_of(owner)) != identifier
    ]
    if doubtful:
        there = await batch.owners(doubtful)
        for identifier in doubtful:
            if there.get(identifier) == batch.known[identifier]:
                batch.confirmed.add(identifier)
            elif identifier not in there:
                del batch.known[identifier], batch.seen[identifier]
    missing = {plan.candidate.contact_id for plan in plans} - set(batch.held) - {""}
    for record_id in await merges.standing_of(batch.tx, missing):
        into = await merges.kept_by(batch.tx, record_id)
        if into is not None:
            batch.merged[record_id] = into


def _identifiers(record_type: str, candidate: ContactCandidate) -> list[Identifier]:
    return list(dict.fromkeys([*candidate.identifiers, *identity.of_fields(record_type, candidate.fields)]))


def _aim(batch: Batch, plan: _Plan) -> None:
    """Decide which record a candidate means, from what is known so far; earlier candidates count."""
    email = plan.candidate.fields.get("email")
    if plan.candidate.contact_id:
        plan.target = plan.candidate.contact_id
        if plan.target in batch.merged:
            gone = batch.merged[plan.target]
            plan.violation = _violation(plan, "contact_id", gone.reason, gone.message, gone.way_out)
            return
        if plan.target not in batch.held:
            message = f"there is no {batch.record_type} {plan.target}"
            plan.violation = _violation(plan, "contact_id", "NOT_FOUND", message, "Check the id, or send an e-mail.")
            return
    else:
        found = {
            identifier: batch.known[identifier]
            for identifier in plan.identifiers
            if identifier in batch.known
            and not identity.keeps_apart(identifier, email, batch.email_of(batch.known[identifier]))
        }
        target, plan.conflicts = identity.choose(found)
        if target is None and not _may_be_made(batch, plan):
            return
        plan.target = target or _new_record(batch, email)
    plan.link_only = plan.candidate.known
    _check_email(batch, plan, email)
    if plan.violation is None:
        for identifier in _claims(plan):
            batch.known.setdefault(identifier, plan.target)


def _may_be_made(batch: Batch, plan: _Plan) -> bool:
    if gone := next((one for one in plan.identifiers if one in batch.erased), None):
        plan.violation = replace(erased_people.REFUSED, field=_at(plan, gone[0]))
        return False
    missing = missing_fields(batch.record_type, plan.candidate.fields, plan.candidate.path)
    if plan.candidate.known:
        message = f"no {batch.record_type} is known by what is given"
        plan.violation = _violation(plan, "email", "UNKNOWN_CONTACT", message, "Create it with UpsertRecord.")
    elif missing:
        plan.violation = missing[0]
    elif batch.record_type == "contact" and not plan.identifiers:
        message = "nothing identifies the contact"
        hint = "Send an e-mail, a phone that starts with +, an external reference or the contact's id."
        plan.violation = _violation(plan, "email", "NO_IDENTIFIER", message, hint)
    return plan.violation is None


def _new_record(batch: Batch, email: object) -> str:
    record_id = ids.mint(names.record_prefix(batch.record_type), batch.tx.now)
    batch.new[record_id] = email
    return record_id


def _check_email(batch: Batch, plan: _Plan, email: object) -> None:
    """Refuse an e-mail that is somebody else's, and do not believe an event that brings another e-mail."""
    identifier = identity.normalise("email", email) if batch.record_type == "contact" else None
    if identifier is None:
        return
    own = identifier in batch.confirmed and batch.known.get(identifier) == plan.target
    if own and not plan.candidate.contact_id:
        plan.other_email = True
    elif plan.candidate.observed:
        if identity.emails_differ(email, batch.email_of(plan.target)):
            plan.link_only = True
            if not any(conflict.kind == "email" for conflict in plan.conflicts):
                plan.conflicts += (Conflict(*identifier, batch.known.get(identifier, "")),)
    elif batch.known.get(identifier, plan.target) != plan.target:
        _refuse_email(plan, identifier, batch.known[identifier])


def _claims(plan: _Plan) -> list[Identifier]:
    """Return what shall identify the record from now on."""
    given = list(plan.candidate.identifiers)
    return given if plan.link_only else plan.identifiers


async def _check_grants(batch: Batch, plans: Sequence[_Plan]) -> None:
    """Refuse what overrides a contact's own refusal."""
    named = [(batch.held.get(plan.target), plan.candidate.fields) for plan in plans]
    own = await unsubscribed_field.overridden(batch.tx, named)
    for plan, (record, fields) in zip(plans, named, strict=True):
        actor = own.get((batch.tx.org_id, plan.target))
        if actor is not None and plan.violation is None and unsubscribed_field.grants(record, fields):
            plan.violation = unsubscribed_field.refused_themself(_at(plan, unsubscribed_field.FIELD), actor)


async def _claim(batch: Batch, plans: Sequence[_Plan]) -> None:
    """Take the identifiers that seemed free, and follow whoever was faster."""
    tx, record_type = batch.tx, batch.record_type
    wanted = {
        identifier: batch.known[identifier]
        for plan in plans
        if plan.violation is None
        for identifier in _claims(plan)
        if batch.known[identifier] == plan.target and not _is_settled(batch, identifier)
    }
    for refused in await _too_many(batch, plans, wanted):
        del wanted[refused]
    rows = [(tx.org_id, record_type, *identifier, record_id) for identifier, record_id in wanted.items()]
    won = {(key[2], key[3]) for key in await identifiers.claim(tx, rows)}
    lost = {identifier: record_id for identifier, record_id in wanted.items() if identifier not in won}
    if not lost:
        return
    there = await batch.owners(lost)
    beaten = {identifier: owner for identifier, owner in there.items() if owner != lost[identifier]}
    if not beaten:
        return  # they were ours before
    await batch.hold(beaten.values())
    batch.known.update(beaten)
    for plan in plans:
        await _follow(batch, plan, beaten)


async def _too_many(batch: Batch, plans: Sequence[_Plan], wanted: Mapping[Identifier, str]) -> set[Identifier]:
    """Return the identifiers that records of long standing cannot have as well; events go on without them."""
    more: dict[str, list[Identifier]] = {}
    for identifier, record_id in wanted.items():
        if record_id in batch.held and identifier not in batch.seen:
            more.setdefault(record_id, []).append(identifier)
    there = await identifiers.counts(batch.tx, more)
    refused = {
        identifier
        for record_id, new in more.items()
        for identifier in new[max(0, MOST_IDENTIFIERS - there.get(record_id, 0)) :]
    }
    for plan in plans if refused else ():
        over = [identifier for identifier in plan.identifiers if identifier in refused]
        if over and plan.violation is None and not plan.candidate.observed:
            count = there.get(plan.target, 0) + len(over)
            error = TooManyIdentifiers(id=plan.target, count=count, limit=MOST_IDENTIFIERS)
            plan.violation = _violation(plan, over[0][0], error.reason, error.message, error.way_out)
            refused |= {identifier for identifier in plan.identifiers if identifier in wanted}
        plan.unclaimed += over
    return refused


def _is_settled(batch: Batch, identifier: Identifier) -> bool:
    """Tell whether an identifier need not be claimed; an e-mail may have been given up since it was seen."""
    owner = batch.seen.get(identifier)
    if owner is None:
        return False
    if identifier[0] != "email" or identifier in batch.confirmed:
        return True
    return identity.normalise("email", batch.email_of(owner)) == identifier


async def _follow(batch: Batch, plan: _Plan, beaten: Mapping[Identifier, str]) -> None:
    lost = {identifier: beaten[identifier] for identifier in plan.identifiers if identifier in beaten}
    if plan.violation is not None or not lost:
        return
    owner, _ = identity.choose(
        {identifier: owner for identifier, owner in lost.items() if identity.is_strong(identifier)}
    )
    if owner is None:
        return
    if plan.target in batch.new:
        await identifiers.repoint(batch.tx, plan.target, owner)
        plan.target = owner
    elif plan.target in batch.held and not plan.candidate.observed:
        email = identity.normalise("email", plan.candidate.fields.get("email"))
        if email is not None and email in lost and lost[email] != plan.target:
            _refuse_email(plan, email, lost[email])
            return
    _check_email(batch, plan, plan.candidate.fields.get("email"))


def _write(batch: Batch, drafts: dict[str, Draft], plan: _Plan, actor: str, cause: str) -> Resolved:
    if plan.violation is not None:
        return Resolved(conflicts=plan.conflicts, violation=plan.violation, also_wrong=tuple(plan.also_wrong))
    tx, target = batch.tx, plan.target
    draft, created = drafts.get(target), False
    if draft is None:
        record = batch.held.get(target)
        created = record is None
        if record is None and target not in batch.new:
            raise StaleEnrollment(f"{target} has gone while this waited for it")  # the call is carried out again
        if record is None:
            record = Record(tx.org_id, target, batch.record_type, {}, 1, tx.now, tx.now)
        draft = drafts[target] = Draft(record, created)
    fields = plan.fields
    if created:
        fields = {**DEFAULTS.get(batch.record_type, {}), **plan.candidate.initial, **fields}
    if not created:
        fields = fitting.still_so(batch, plan, draft.record, fields)
    if plan.other_email:
        fields = {name: value for name, value in fields.items() if name != "email"}
    changes = () if plan.link_only else draft.patch(fields, actor, plan.candidate.cause or cause)
    if batch.set_at is not None:
        batch.set_at.setdefault(target, {}).update((one.field, plan.candidate.as_of or tx.now) for one in changes)
    return Resolved(draft.record, created, changes, plan.conflicts, unclaimed=tuple(plan.unclaimed))


def _final(answer: Resolved, written: Mapping[str, Written]) -> Resolved:
    """Return an answer with its record as it is after the whole batch."""
    if answer.record is None:
        return answer
    return replace(answer, record=written[answer.record.id].record)


def _at(plan: _Plan, name: str) -> str:
    return f"{plan.candidate.path}.{name}" if plan.candidate.path else name


def _violation(plan: _Plan, name: str, reason: str, message: str, hint: str) -> Violation:
    return Violation(_at(plan, name), reason, message, hint)


def _refuse_email(plan: _Plan, identifier: Identifier, owner: str) -> None:
    error = EmailTaken(owner=owner)
    plan.violation = _violation(plan, "email", error.reason, error.message, error.way_out)
    plan.conflicts = (Conflict(*identifier, owner),)
