"""Handlers of QualificationService: scoring models, and qualifying a lead by preview and commit.

A preview changes no record, not even for an unknown e-mail: it judges the given facts and keeps nothing but the plan.
A commit with a plan applies exactly that or says what has changed; one without judges and applies at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Row

from core.domain import names
from core.domain.errors import Invalid, NotFound, Violation, invalid
from core.domain.qualification.facts import Fact
from core.domain.qualification.parse import compiled
from core.domain.qualification.score import Contribution
from core.domain.records import identity
from core.domain.records.fields import validate_fields
from core.domain.workflow import source
from core.rpc import committing
from core.rpc.call import Call
from core.rpc.committing import Outcome, stored_target
from core.rpc.convert import from_struct, from_timestamp, to_timestamp, to_value
from core.rpc.qualifying import Person, Qualification, Target, find, load_model, model_row, weigh
from core.store import qualification as store
from dripstone.v1 import qualification_pb2 as pb

_DECISIONS = {name.removeprefix("DECISION_").lower(): number for name, number in pb.Decision.items()}
_ID_HINT = "Use lower-case letters, digits, hyphens and underscores, at most 63, such as inbound-2026."


async def publish_scoring_model(request: pb.PublishScoringModelRequest, call: Call) -> pb.ScoringModel:
    """Compile a model and make it the newest version."""
    if not names.is_slug(request.model_id):
        raise invalid("model_id", "NOT_A_SLUG", "cannot be an id", _ID_HINT)
    model = compiled(request.source)
    row = await store.publish(
        call.tx,
        request.model_id,
        title=model.title,
        source=request.source,
        document=source.parse(request.source),
        published_by=call.caller.principal_id,
    )
    return _model(row)


async def get_scoring_model(request: pb.GetScoringModelRequest, call: Call) -> pb.ScoringModel:
    """Return a version of a model. Raises NotFound."""
    if request.version < 0:
        raise invalid("version", "OUT_OF_RANGE", "must be 0 or more", "Send 0 for the newest version.")
    return _model(await model_row(call.tx, request.model_id, request.version))


async def list_scoring_models(request: pb.ListScoringModelsRequest, call: Call) -> pb.ListScoringModelsResponse:
    """Return a page of models, the most recently published first."""
    rows, token = await store.list_newest(call.tx, request.page_size, request.page_token)
    models = [
        pb.ScoringModel(
            id=row.id, version=row.newest_version, title=row.title, create_time=to_timestamp(row.updated_at)
        )
        for row in rows
    ]
    return pb.ListScoringModelsResponse(scoring_models=models, next_page_token=token)


async def qualify_lead(request: pb.QualifyLeadRequest, call: Call) -> pb.QualifyLeadResponse:
    """Qualify a lead: preview, commit a plan, or commit at once."""
    committed = request.mode == pb.QUALIFY_MODE_COMMIT
    if request.plan_id:
        if not committed:
            hint = "Send mode QUALIFY_MODE_COMMIT, or leave plan_id out to preview again."
            raise invalid("plan_id", "NOT_ALLOWED", "a preview makes a plan and takes none", hint)
        outcome = await _commit_plan(request, call)
        call.tx.answer_is_final = outcome.applied  # asked again under its key after the approval, it is carried out
        return _response(outcome, dry=request.validate_only)
    target = _target(request, call)
    model = await load_model(call.tx, request.model_id)
    if committed:
        outcome = await committing.commit_now(call, target, model)
    else:
        person = await find(call.tx, target, lock=False)
        qualification = await weigh(call, model, target, person)
        plan = None if request.validate_only else await committing.keep(call, qualification, target)
        outcome = Outcome(qualification, plan, person, applied=False)
    return _response(outcome, dry=request.validate_only)


async def _commit_plan(request: pb.QualifyLeadRequest, call: Call) -> Outcome:
    row = await store.get_plan(call.tx, request.plan_id, lock=True)
    if row is None or row.kind != committing.KIND:
        raise NotFound(kind="plan", id=request.plan_id)
    target = stored_target(row)
    _check_same(request, row.body["effect"], target)
    return await committing.commit_plan(call, row, target)


def _check_same(request: pb.QualifyLeadRequest, effect: Mapping[str, Any], target: Target) -> None:
    """Check that what a caller says beside a plan is what the plan is about."""
    about = {target.lead_id, effect["lead_id"], effect["contact_id"]}
    differing = []
    if request.lead_id and request.lead_id not in about:
        differing.append("lead_id")
    if request.email and target.email and _email(request.email) != target.email:
        differing.append("email")
    if request.model_id and request.model_id != effect["model_id"]:
        differing.append("model_id")
    if request.HasField("as_of") and from_timestamp(request.as_of) != target.as_of:
        differing.append("as_of")
    if request.HasField("fields") and target.email and _given(request, target.email) != target.given:
        differing.append("fields")
    if differing:
        hint = "Leave it out: the plan says it. Preview again for something else."
        message = "is not what the plan was made for"
        raise Invalid(*(Violation(name, "DIFFERS_FROM_PLAN", message, hint) for name in differing))


def _target(request: pb.QualifyLeadRequest, call: Call) -> Target:
    """Return whom the request is about. Raises Invalid."""
    as_of = from_timestamp(request.as_of) if request.HasField("as_of") else None
    problems = []
    if bool(request.lead_id) == bool(request.email):
        message = "is needed, or email" if not request.lead_id else "and email cannot both be given"
        problems.append(Violation("lead_id", "ONE_OF", message, "Send lead_id (lead_… or cnt_…) or email."))
    elif request.lead_id and not request.lead_id.startswith(("lead_", "cnt_")):
        hint = "Send lead_… or cnt_…, or put an e-mail into email."
        problems.append(Violation("lead_id", "NOT_A_REFERENCE", "is neither a lead's id nor a contact's", hint))
    if request.HasField("fields") and not request.email:
        hint = "Send email instead of lead_id, or change the contact with UpdateRecord first."
        problems.append(Violation("fields", "NOT_ALLOWED", "only come with email", hint))
    if as_of is not None and as_of > call.now:
        problems.append(Violation("as_of", "IN_THE_FUTURE", "is later than now", "Leave it out for now."))
    if as_of is not None and request.HasField("fields"):
        hint = "Leave out as_of, or the fields."
        problems.append(Violation("as_of", "NOT_WITH_FIELDS", "facts given now were not known then", hint))
    if problems:
        raise Invalid(*problems)
    if not request.email:
        return Target(lead_id=request.lead_id, as_of=as_of)
    email = _email(request.email)
    return Target(email=email, given=_given(request, email), as_of=as_of)


def _email(text: str) -> str:
    """Return an e-mail in the form that identifies a contact. Raises Invalid."""
    accepted, problems = validate_fields("contact", {"email": text}, "")
    if problems:
        raise Invalid(*problems)
    identifier = identity.normalise("email", accepted["email"])
    if identifier is None:
        raise invalid("email", "IDENTIFIES_NOBODY", "does not name a person", "Send the person's own address.")
    return identifier[1]


def _given(request: pb.QualifyLeadRequest, email: str) -> dict[str, Any]:
    accepted, problems = validate_fields("contact", from_struct(request.fields), "fields")
    if identity.emails_differ(accepted.pop("email", None), email):
        hint = "Leave it out of the fields."
        problems.append(Violation("fields.email", "DIFFERS", "is not the e-mail that names the contact", hint))
    if problems:
        raise Invalid(*problems)
    return accepted


def _model(row: Row[Any]) -> pb.ScoringModel:
    return pb.ScoringModel(
        id=row.model_id,
        version=row.version,
        title=row.title,
        source=row.source,
        create_time=to_timestamp(row.created_at),
    )


def _response(outcome: Outcome, *, dry: bool) -> pb.QualifyLeadResponse:
    """Return the answer; a dry run has applied nothing and kept no plan."""
    qualification = outcome.qualification
    result = qualification.result
    person = qualification.person if dry else outcome.person
    decision = _DECISIONS[result.decision.value]
    withheld = bool(qualification.approval_reason) and not outcome.applied
    response = pb.QualifyLeadResponse(
        lead_id=person.lead.id if person.lead else "",
        contact_id=person.contact.id if person.contact else "",
        decision=pb.DECISION_NEEDS_APPROVAL if withheld else decision,
        pending_decision=decision if withheld else pb.DECISION_UNSPECIFIED,
        score=result.score,
        fit=result.fit,
        engagement=result.engagement,
        tier=result.tier,
        contributions=_contributions(result.contributions),
        disqualifiers=_contributions(result.disqualifiers),
        missing=[
            pb.MissingFact(path=one.path, rule_ids=one.rule_ids, points_at_stake=one.points) for one in result.missing
        ],
        confidence=result.confidence,
        owner=_owner(qualification),
        planned_changes=_changes(qualification, person),
        plan_hash=qualification.hash,
        applied=outcome.applied and not dry,
        approval_reason=qualification.approval_reason,
        approval_id="" if dry else outcome.approval_id,
        model_id=qualification.model.id,
        model_version=qualification.model.version,
    )
    if outcome.plan is not None and not dry:
        response.plan_id = outcome.plan.id
        response.plan_expire_time.FromDatetime(outcome.plan.expires_at)
    return response


def _changes(qualification: Qualification, person: Person) -> list[pb.PlannedChange]:
    made = {
        "contact": person.contact.id if person.contact else "contact",
        "lead": person.lead.id if person.lead else "lead",
    }
    return [
        pb.PlannedChange(
            record_id=made.get(setting.record, setting.record),
            field=change.field,
            old_value=to_value(change.old),
            new_value=to_value(change.new),
        )
        for setting in qualification.settings
        for change in setting.changes
    ]


def _owner(qualification: Qualification) -> pb.OwnerChoice | None:
    choice = qualification.choice
    if choice is None:
        return None
    return pb.OwnerChoice(
        member_id=choice.member_id,
        method=choice.method,
        display_name=choice.display_name,
        skipped=[pb.OwnerCandidate(member_id=one.member, reason=one.reason) for one in choice.skipped],
    )


def _contributions(contributions: Iterable[Contribution]) -> list[pb.Contribution]:
    return [
        pb.Contribution(
            rule_id=one.rule_id,
            group=one.group,
            when=one.when,
            raw_points=one.raw_points,
            points=one.points,
            inputs=[_fact(fact) for fact in one.inputs],
        )
        for one in contributions
    ]


def _fact(fact: Fact) -> pb.Fact:
    return pb.Fact(
        path=fact.path, value=to_value(fact.value), source=fact.source, observe_time=to_timestamp(fact.observed_at)
    )
