"""Finding records by what identifies them, and making those that are missing: up to 1,000 at a time.

The number of statements does not depend on the number of candidates. Identifiers are claimed before records are
written: of two calls that bring the same new e-mail at once, one claims it, and the other waits, is told who has it,
and goes on with that record.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from core import ids
from core.domain import names
from core.domain.errors import EmailTaken, Invalid, Violation
from core.domain.records import identity
from core.domain.records.changes import Change
from core.domain.records.fields import missing_fields
from core.domain.records.identity import Conflict, Identifier
from core.store import identifiers, record_events
from core.store.record_rows import Draft, Record, Written, hold, save
from core.store.transaction import Transaction


@dataclass(frozen=True, slots=True)
class ContactCandidate:
    """A record as a caller describes it: what it is called and which fields it shall have."""

    fields: Mapping[str, Any]
    """Dotted path to value in stored form, as `validate_fields` returns them."""
    identifiers: tuple[Identifier, ...] = ()
    """Beside the e-mail and the phone among the fields; each in normal form."""
    contact_id: str = ""
    """Id of a record that must be there."""
    path: str = ""
    """Where the caller wrote it, such as `contacts[3]`, for what is wrong with it."""
    observed: bool = False
    """True for what an event tells: it never changes an e-mail, and where e-mails differ it changes nothing."""
    initial: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the record if it must be made."""
    cause: str = ""
    """Of this candidate's changes, where it has one of its own."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """The record that a candidate turned out to be, or what is wrong with the candidate."""

    record: Record | None = None
    created: bool = False
    changes: tuple[Change, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    """Identifiers that name somebody else."""
    violation: Violation | None = None

    @property
    def contact_id(self) -> str:
        """Return the record's id; empty where something is wrong."""
        return "" if self.record is None else self.record.id


@dataclass(slots=True)
class _Plan:
    """One candidate on its way to a record."""

    candidate: ContactCandidate
    identifiers: list[Identifier]
    target: str = ""
    conflicts: tuple[Conflict, ...] = ()
    violation: Violation | None = None
    link_only: bool = False
    """The record is the one meant, but what the candidate says is not believed."""


@dataclass(slots=True)
class _Batch:
    """What is known while candidates become records."""

    tx: Transaction
    record_type: str
    seen: Mapping[Identifier, str] = field(default_factory=dict)
    """Whose identifiers they were at the start."""
    known: dict[Identifier, str] = field(default_factory=dict)
    """Whose they are by now, with those that this batch gives away."""
    held: dict[str, Record] = field(default_factory=dict)
    new: dict[str, object] = field(default_factory=dict)
    """The e-mail of each record that is being made, by its id."""

    def email_of(self, record_id: str) -> object:
        record = self.held.get(record_id)
        return self.new.get(record_id) if record is None else record.fields.get("email")

    async def hold(self, record_ids: Iterable[str]) -> None:
        found = await hold(self.tx, [(self.tx.org_id, record_id) for record_id in record_ids])
        self.held.update({record.id: record for record in found.values() if record.type == self.record_type})

    async def owners(self, wanted: Iterable[Identifier]) -> dict[Identifier, str]:
        keys = [(self.tx.org_id, self.record_type, *identifier) for identifier in wanted]
        return {(key[2], key[3]): owner for key, owner in (await identifiers.owners(self.tx, keys)).items()}


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

    Raises Invalid and EmailTaken.
    """
    candidate = ContactCandidate(fields, tuple(identifiers), path="fields")
    resolved = (await resolve(tx, record_type, [candidate], actor=actor, cause=cause))[0]
    if resolved.violation is not None:
        if resolved.violation.reason == "EMAIL_TAKEN":
            raise EmailTaken(owner=resolved.conflicts[0].record_id)
        raise Invalid(resolved.violation)
    assert resolved.record is not None
    return Written(resolved.record, resolved.changes, resolved.created)


async def resolve(
    tx: Transaction, record_type: str, candidates: Sequence[ContactCandidate], *, actor: str, cause: str = ""
) -> list[Resolved]:
    """Find or make a record of one type for each candidate; see `resolve_contacts`."""
    batch = _Batch(tx, record_type)
    plans = [_Plan(candidate, _identifiers(record_type, candidate)) for candidate in candidates]
    batch.seen = await batch.owners({identifier for plan in plans for identifier in plan.identifiers})
    batch.known = dict(batch.seen)
    await batch.hold({*batch.known.values(), *(plan.candidate.contact_id for plan in plans)})
    for plan in plans:
        _aim(batch, plan)
    await _claim(batch, plans)
    drafts: dict[str, Draft] = {}
    answers = [_write(batch, drafts, plan, actor, cause) for plan in plans]
    written = {item.record.id: item for item in await save(tx, drafts.values())}
    await record_events.announce(tx, written.values())
    return [_final(answer, written) for answer in answers]


def _identifiers(record_type: str, candidate: ContactCandidate) -> list[Identifier]:
    return list(dict.fromkeys([*candidate.identifiers, *identity.of_fields(record_type, candidate.fields)]))


def _aim(batch: _Batch, plan: _Plan) -> None:
    """Decide which record a candidate means, from what is known so far; earlier candidates count."""
    email = plan.candidate.fields.get("email")
    if plan.candidate.contact_id:
        plan.target = plan.candidate.contact_id
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
    _check_email(batch, plan, email)
    if plan.violation is None:
        for identifier in _claims(plan):
            batch.known.setdefault(identifier, plan.target)


def _may_be_made(batch: _Batch, plan: _Plan) -> bool:
    missing = missing_fields(batch.record_type, plan.candidate.fields, plan.candidate.path)
    if missing:
        plan.violation = missing[0]
    elif batch.record_type == "contact" and not plan.identifiers:
        message = "nothing identifies the contact"
        hint = "Send an e-mail, a phone that starts with +, an external reference or the contact's id."
        plan.violation = _violation(plan, "email", "NO_IDENTIFIER", message, hint)
    return plan.violation is None


def _new_record(batch: _Batch, email: object) -> str:
    record_id = ids.mint(names.RECORD_PREFIXES[batch.record_type], batch.tx.now)
    batch.new[record_id] = email
    return record_id


def _check_email(batch: _Batch, plan: _Plan, email: object) -> None:
    """Refuse an e-mail that is somebody else's, and do not believe an event that brings another e-mail."""
    identifier = identity.normalise("email", email) if batch.record_type == "contact" else None
    if identifier is None:
        return
    if plan.candidate.observed:
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


async def _claim(batch: _Batch, plans: Sequence[_Plan]) -> None:
    """Take the identifiers that seemed free, and follow whoever was faster."""
    tx, record_type = batch.tx, batch.record_type
    wanted = {
        identifier: batch.known[identifier]
        for plan in plans
        if plan.violation is None
        for identifier in _claims(plan)
        if batch.known[identifier] == plan.target and not _is_settled(batch, identifier)
    }
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


def _is_settled(batch: _Batch, identifier: Identifier) -> bool:
    """Tell whether an identifier need not be claimed; an e-mail may have been given up since it was seen."""
    owner = batch.seen.get(identifier)
    if owner is None:
        return False
    return identifier[0] != "email" or identity.normalise("email", batch.email_of(owner)) == identifier


async def _follow(batch: _Batch, plan: _Plan, beaten: Mapping[Identifier, str]) -> None:
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


def _write(batch: _Batch, drafts: dict[str, Draft], plan: _Plan, actor: str, cause: str) -> Resolved:
    if plan.violation is not None:
        return Resolved(conflicts=plan.conflicts, violation=plan.violation)
    tx, target = batch.tx, plan.target
    draft, created = drafts.get(target), False
    if draft is None:
        record = batch.held.get(target)
        created = record is None
        if record is None:
            record = Record(tx.org_id, target, batch.record_type, {}, 1, tx.now, tx.now)
        draft = drafts[target] = Draft(record, created)
    fields = {**plan.candidate.initial, **plan.candidate.fields} if created else plan.candidate.fields
    changes = () if plan.link_only else draft.patch(fields, actor, plan.candidate.cause or cause)
    return Resolved(draft.record, created, changes, plan.conflicts)


def _final(answer: Resolved, written: Mapping[str, Written]) -> Resolved:
    """Return an answer with its record as it is after the whole batch."""
    if answer.record is None:
        return answer
    record = written[answer.record.id].record
    return Resolved(record, answer.created, answer.changes, answer.conflicts)


def _at(plan: _Plan, name: str) -> str:
    return f"{plan.candidate.path}.{name}" if plan.candidate.path else name


def _violation(plan: _Plan, name: str, reason: str, message: str, hint: str) -> Violation:
    return Violation(_at(plan, name), reason, message, hint)


def _refuse_email(plan: _Plan, identifier: Identifier, owner: str) -> None:
    error = EmailTaken(owner=owner)
    plan.violation = _violation(plan, "email", error.reason, error.message, error.way_out)
    plan.conflicts = (Conflict(*identifier, owner),)
