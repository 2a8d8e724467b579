"""What qualifying a lead would do: who is meant, what is known of them, what follows. Nothing is written here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Row

from core.domain.control.digest import digest
from core.domain.errors import EtagMismatch, NotFound, ScoringModelNotFound
from core.domain.frozen import frozen
from core.domain.qualification import claims, plan, routing
from core.domain.qualification import score as scoring
from core.domain.qualification.claims import Claim, Settled
from core.domain.qualification.counterfactuals import Counterfactual, counterfactuals
from core.domain.qualification.facts import LeadFacts, Origin
from core.domain.qualification.model import ScoringModel, TierEffect
from core.domain.qualification.parse import compiled
from core.domain.qualification.plan import Setting
from core.domain.qualification.routing import Candidate, Choice
from core.domain.qualification.score import Decision, Score
from core.domain.records import changes as field_changes
from core.domain.records.changes import Change
from core.domain.workflow import own_kinds
from core.rpc.call import Call
from core.store.merging import merges
from core.store.organizations import members
from core.store.qualification import lead_facts, routing_leads
from core.store.qualification import qualification as store
from core.store.qualification.lead_facts import Needs, Wanted
from core.store.records import identifiers, records
from core.store.records.records import Record
from core.store.transaction import Transaction
from core.store.workflows import workflows
from core.store.workflows.workflows import WorkflowState

DEFAULT_MODEL = "default"
_STATUS = {
    Decision.QUALIFIED: "qualified",
    Decision.NURTURE: "nurture",
    Decision.DISQUALIFIED: "disqualified",
}
_OVER = frozenset({"converted", "closed"})
"""Statuses that a qualification leaves alone: the lead's story has gone on."""


@frozen
class Target:
    """Who is to be qualified, as the caller said it."""

    lead_id: str = ""
    """A lead's id or a contact's."""
    email: str = ""
    """In the form that identifies a contact."""
    given: Mapping[str, Any] | None = None
    """Facts to set on the contact, by dotted path."""
    as_of: datetime | None = None
    """Facts observed later are not read; None for now."""
    claims: tuple[Claim, ...] = ()
    """What an agent claims, checked."""
    etag: str = ""
    """The lead's version this is for; empty for any."""

    def patch(self, contact: Record | None) -> dict[str, Any]:
        """Return what the caller sets on the contact; a new one also gets its e-mail."""
        return {**(self.given or {}), **({"email": self.email} if contact is None else {})}


@frozen
class Person:
    """The records behind a target; None where there is none yet."""

    contact: Record | None
    lead: Record | None


@frozen
class Model:
    """A version of a scoring model, compiled."""

    id: str
    version: int
    rules: ScoringModel


@frozen
class Planned:
    """The owner that a plan has promised."""

    owner_id: str
    method: str
    at: datetime | None = None
    """When the plan was made: facts are as old as they were then, or every plan would go stale by itself."""


@frozen
class Qualification:
    """What qualifying would do."""

    person: Person
    model: Model
    result: Score
    choice: Choice | None
    """None when the lead gets no owner by this."""
    approval_reason: str
    contact: Setting
    lead: Setting
    body: Mapping[str, Any]
    """The plan."""
    settled: Settled
    """The facts it was judged by, and what became of the claims."""
    effect: TierEffect | None = None
    """What happens because the lead comes into its tier."""
    obstacle: str = ""
    """Why it is not enrolled by that; empty where nothing stands in the way."""

    @property
    def counterfactuals(self) -> tuple[Counterfactual, ...]:
        """Return what would have to be otherwise for another tier or decision; worked out only when asked for."""
        return counterfactuals(self.model.rules, self.settled.facts)

    @property
    def hash(self) -> str:
        """Return the hash of the plan."""
        return digest(self.body)

    @property
    def settings(self) -> tuple[Setting, ...]:
        """Return what is set, the contact first."""
        return self.contact, self.lead


async def load_model(tx: Transaction, model_id: str, version: int = 0) -> Model:
    """Return a compiled model, the active version for 0. Raises NotFound."""
    model_id = model_id or DEFAULT_MODEL
    row = await model_row(tx, model_id, version) if version else await store.get_active(tx, model_id)
    if row is None:
        raise await unknown_model(tx, model_id)
    return Model(row.model_id, row.version, compiled(row.source, own_kinds.from_json(row.own_kinds)))


async def model_row(tx: Transaction, model_id: str, version: int) -> Row[Any]:
    """Return a version of a model as stored, the newest for 0. Raises NotFound, which names the models there are."""
    row = await store.get_version(tx, model_id, version)
    if row is None:
        raise await unknown_model(tx, f"{model_id} version {version}" if version else model_id)
    return row


async def unknown_model(tx: Transaction, name: str) -> ScoringModelNotFound:
    """Return the error for a model that there is not; it names those that there are."""
    known = ", ".join(await store.model_ids(tx)) or "none"
    return ScoringModelNotFound(kind="scoring model", id=name, known=known)


async def find(tx: Transaction, target: Target, *, lock: bool) -> Person:
    """Return the contact and its lead; `lock` holds both until the transaction ends.

    A contact stands for its newest lead. Raises NotFound for an id that is nobody's; an unknown e-mail is nobody yet.
    """
    lead_id = target.lead_id if target.lead_id.startswith("lead_") else ""
    if lead_id:
        lead = await records.get(tx, lead_id)
        if lead is None or lead.type != "lead":
            raise await merges.kept_by(tx, lead_id) or NotFound(kind="lead", id=lead_id)
        contact_id = lead.contact_id or ""
    else:
        contact_id = target.lead_id or await identifiers.owner(tx, "contact", ("email", target.email)) or ""
    contact = await _held(tx, contact_id) if lock else await records.get(tx, contact_id)
    if contact is None or contact.type != "contact":
        if target.lead_id:
            raise await merges.kept_by(tx, contact_id) or NotFound(kind="contact", id=contact_id)
        return Person(None, None)
    if not lead_id:
        newest = await _newest_lead(tx, contact.id, target.as_of)
        lead_id = newest.id if newest else ""
    lead = None
    if lead_id:
        lead = await _held(tx, lead_id) if lock else await records.get(tx, lead_id)
    if target.etag and (lead is None or lead.etag != target.etag):
        raise EtagMismatch(kind="lead", id=lead_id or "-", current=lead.etag if lead else "-", given=target.etag)
    return Person(contact, lead)


async def _newest_lead(tx: Transaction, contact_id: str, as_of: datetime | None) -> Record | None:
    if as_of is not None:
        return await lead_facts.newest_lead_then(tx, contact_id, as_of)
    return (await records.newest_leads(tx, [contact_id])).get(contact_id)


async def _held(tx: Transaction, record_id: str) -> Record | None:
    return (await records.hold(tx, [(tx.org_id, record_id)])).get((tx.org_id, record_id))


async def weigh(
    call: Call, model: Model, target: Target, person: Person, *, planned: Planned | None = None, lock: bool = False
) -> Qualification:
    """Return what qualifying this person would do now; a planned owner stays, as long as it can own leads.

    `lock` takes the model's turns for this transaction.
    """
    settled = claims.settle(model.rules, await _facts(call, model.rules, target, person, planned), target.claims)
    facts = settled.facts
    result = scoring.score(model.rules, facts)
    choice = await _owner(call.tx, model, person.lead, facts, result, planned, lock=lock)
    reason = scoring.demand(model.rules, facts, result)
    contact_fields = person.contact.fields if person.contact else {}
    lead_fields = person.lead.fields if person.lead else {}
    contact = Setting(
        person.contact.id if person.contact else "contact",
        _diff(contact_fields, target.patch(person.contact)),
    )
    lead = Setting(
        person.lead.id if person.lead else "lead",
        _diff(lead_fields, _lead_patch(model, result, choice, lead_fields)),
    )
    effect = model.rules.on_tier.get(result.tier) if result.tier != lead_fields.get("tier") else None
    obstacle = await _obstacle(call.tx, effect)
    body = plan.body(
        subject={
            "contact_id": person.contact.id if person.contact else None,
            "lead_id": person.lead.id if person.lead else None,
        },
        model_id=model.id,
        model_version=model.version,
        result=result,
        choice=choice,
        approval_reason=reason,
        settings=(contact, lead),
        claims=settled.used,
        effect=effect,
        obstacle=obstacle,
    )
    return Qualification(person, model, result, choice, reason, contact, lead, body, settled, effect, obstacle)


async def _obstacle(tx: Transaction, effect: TierEffect | None) -> str:
    """Return why the workflow of an effect takes nobody now; empty when it does."""
    if effect is None or not effect.enroll:
        return ""
    row = await workflows.get(tx, effect.enroll)
    if row is None:
        return "there is no such workflow"
    return "" if row.state in (WorkflowState.ACTIVE, WorkflowState.PAUSED) else f"it is {row.state}"


def _diff(fields: Mapping[str, Any], patch: Mapping[str, Any]) -> tuple[Change, ...]:
    """Return what a patch changes, by field: a stored patch may have come back in another order."""
    return field_changes.diff(fields, dict(sorted(patch.items())))


def _lead_patch(model: Model, result: Score, choice: Choice | None, lead: Mapping[str, Any]) -> dict[str, Any]:
    patch: dict[str, Any] = {
        "score": result.score,
        "fit": result.fit,
        "engagement": result.engagement,
        "tier": result.tier or None,
        "decision": result.decision.value,
        "model_id": model.id,
        "model_version": model.version,
    }
    status = _STATUS.get(result.decision, lead.get("status") or "new")
    if lead.get("status") not in _OVER:
        patch["status"] = status
    if choice is not None and choice.member_id:
        patch["owner_id"] = choice.member_id
    if result.decision is Decision.QUALIFIED:
        patch |= model.rules.on_qualified
    return patch


async def _facts(call: Call, rules: ScoringModel, target: Target, person: Person, planned: Planned | None) -> LeadFacts:
    wanted = Wanted(person.lead, person.contact, target.as_of or call.now, past=target.as_of is not None)
    needs = Needs.of([rules], provenance=True)
    at = planned.at if planned is not None and target.as_of is None else None
    if at is not None:
        needs = replace(needs, window=needs.window + (call.now - at))
    (facts,) = await lead_facts.load(call.tx, [wanted], needs)
    if at is not None:
        facts = facts.as_old_as_at(at)
    changed = field_changes.diff(facts.contact.fields, target.patch(person.contact))
    if not changed:
        return facts
    contact = replace(facts.contact, fields=field_changes.apply(facts.contact.fields, changed))
    own = Origin(call.caller.principal_id, call.now)
    origins = {**facts.origins, **{f"contact.{change.field}": own for change in changed}}
    return replace(facts, contact=contact, origins=origins)


async def _owner(
    tx: Transaction,
    model: Model,
    lead: Record | None,
    facts: LeadFacts,
    result: Score,
    planned: Planned | None,
    *,
    lock: bool,
) -> Choice | None:
    if lead is not None and (owner_id := lead.fields.get("owner_id")):
        owner = await members.get_active(tx, owner_id)
        if owner is not None:
            return routing.keep(owner.id, owner.display_name)
    if result.decision is not Decision.QUALIFIED:
        return None
    if model.rules.routing_id:
        patch = _lead_patch(model, result, None, lead.fields if lead is not None else {})
        return await _routed(tx, model.rules.routing_id, _with_result(facts, patch), planned)
    if model.rules.routing is None:
        return None
    cursor = await store.cursor(tx, model.id, lock=lock)
    there = await candidates(tx, model.rules.routing.members)
    if planned is not None and not planned.owner_id:
        return Choice("", "", planned.method, (), cursor)
    choice = routing.choose(model.rules.routing, there, cursor)
    if planned is None or choice.member_id == planned.owner_id:
        return choice
    promised = next((one for one in there.values() if one.member_id == planned.owner_id), None)
    if promised is None or promised.unavailable:
        return choice
    # Others have taken turns since the preview. The promise holds, and costs nobody the turn that is theirs now.
    return Choice(promised.member_id, promised.display_name, planned.method, (), cursor)


def _with_result(facts: LeadFacts, patch: Mapping[str, Any]) -> LeadFacts:
    """Return facts in which the lead is what the qualification makes of it: rules of routings read score and tier."""
    lead = field_changes.apply(facts.lead.fields, _diff(facts.lead.fields, patch))
    return replace(facts, lead=replace(facts.lead, fields=lead))


async def _routed(tx: Transaction, routing_id: str, facts: LeadFacts, planned: Planned | None) -> Choice:
    """Return whom a routing gives the lead to; a promise is kept as long as that member can own leads."""
    if planned is not None and not planned.owner_id:
        return Choice("", "", planned.method, ())
    promised = planned.owner_id if planned is not None else ""
    choice = await routing_leads.propose(tx, routing_id, facts.contact, facts.lead, promised=promised)
    if planned is not None and choice.member_id == planned.owner_id:
        return replace(choice, method=planned.method)
    return choice


async def candidates(tx: Transaction, emails: tuple[str, ...]) -> dict[str, Candidate]:
    """Return the members among these, by e-mail."""
    there = await members.active_by_email(tx, emails)
    return {email: Candidate(row.id, email, row.display_name) for email, row in there.items()}
