"""Handler of QualificationService that qualifies a lead, by preview and commit.

A preview changes no record, not even for an unknown e-mail: it judges the given facts and keeps nothing but the plan.
A commit with a plan applies exactly that or says what has changed; one without judges and applies at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from core.domain.errors import Invalid, PlanStale, Violation, invalid
from core.domain.qualification import claims
from core.domain.qualification.claims import Claim
from core.domain.records import identity
from core.domain.records.fields import validate_fields
from core.rpc.approvals import plan_kinds
from core.rpc.call import Call
from core.rpc.convert import from_struct, from_timestamp, from_value
from core.rpc.qualification import committing
from core.rpc.qualification.committing import Outcome, stored_target
from core.rpc.qualification.qualification_messages import response
from core.rpc.qualification.qualifying import Target, find, load_model, weigh
from dripstone.v1 import qualification_pb2 as pb


async def qualify_lead(request: pb.QualifyLeadRequest, call: Call) -> pb.QualifyLeadResponse:
    """Qualify a lead: preview, commit a plan, or commit at once."""
    committed = request.mode == pb.QUALIFY_MODE_COMMIT
    if request.plan_id:
        if not committed:
            hint = "Send mode QUALIFY_MODE_COMMIT, or leave plan_id out to preview again."
            raise invalid("plan_id", "NOT_ALLOWED", "a preview makes a plan and takes none", hint)
        outcome = await _commit_plan(request, call)
        call.tx.answer_is_final = outcome.applied  # asked again under its key after the approval, it is carried out
        return response(outcome, call, dry=request.validate_only)
    target = _target(request, call)
    model = await load_model(call.tx, request.model_id, request.model_version)
    if committed:
        outcome = await committing.commit_now(call, target, model)
    else:
        person = await find(call.tx, target, lock=False)
        qualification = await weigh(call, model, target, person)
        plan = None if request.validate_only else await committing.keep(call, qualification, target)
        outcome = Outcome(qualification, plan, person, applied=False)
    return response(outcome, call, dry=request.validate_only)


async def _commit_plan(request: pb.QualifyLeadRequest, call: Call) -> Outcome:
    row = await plan_kinds.held(call, request.plan_id, committing.KIND)
    _check_same(request, row.body["effect"], stored_target(row), call.now)
    if request.etag:
        await find(call.tx, replace(stored_target(row), etag=request.etag), lock=True)
    try:
        return await committing.commit_plan(call, row)
    except PlanStale as stale:  # the lead is what the caller previews again
        why, lead_id = stale.variables["why"], row.body["effect"]["lead_id"] or ""
        raise PlanStale(plan_id=row.id, why=why, lead_id=lead_id) from None


def _same_claims(given: Sequence[Claim], planned: Sequence[Claim]) -> bool:
    """Tell whether these are the same claims; one without an instant was seen when it was made."""
    return [(one.path, one.value, one.source, one.confidence) for one in given] == [
        (one.path, one.value, one.source, one.confidence) for one in planned
    ]


def _check_same(request: pb.QualifyLeadRequest, effect: Mapping[str, Any], target: Target, now: datetime) -> None:
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
    if request.model_version and request.model_version != effect["model_version"]:
        differing.append("model_version")
    if request.evidence and not _same_claims(_claims(request, now)[0], target.claims):
        differing.append("evidence")
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
    if request.model_version < 0:
        problems.append(Violation("model_version", "OUT_OF_RANGE", "must be 0 or more", "Send 0 for the active one."))
    claimed, wrong = _claims(request, call.now)
    if problems or wrong:
        raise Invalid(*problems, *wrong)
    if not request.email:
        return Target(lead_id=request.lead_id, as_of=as_of, claims=claimed, etag=request.etag)
    email = _email(request.email)
    return Target(email=email, given=_given(request, email), as_of=as_of, claims=claimed, etag=request.etag)


def _claims(request: pb.QualifyLeadRequest, now: datetime) -> tuple[tuple[Claim, ...], list[Violation]]:
    """Return what an agent claims, in stored form, and everything that is wrong with it."""
    found: list[Claim] = []
    problems: list[Violation] = []
    for index, one in enumerate(request.evidence):
        observed_at = from_timestamp(one.observe_time) if one.HasField("observe_time") else now
        claim = Claim(one.path, from_value(one.value), one.source, observed_at, one.confidence)
        claim, wrong = claims.check(claim, f"evidence[{index}]", now)
        found.append(claim)
        problems += wrong
    return tuple(found), problems


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
