"""What a key with hidden fields, or of some types of records, is shown of what quotes values: that it is there."""

from __future__ import annotations

from typing import Any

import pytest

from core.domain.control.key_limits import UNLIMITED, KeyLimits
from core.domain.errors import DripstoneError, FieldContradicted, NotFound
from core.domain.records.standard import KNOWN_TO_WORKFLOWS
from core.rpc.admission.hiding import hidden_from_errors, shown
from core.rpc.convert import from_struct, to_struct
from core.rpc.enrollments.enrolling import NotEnrolled
from dripstone.v1 import agent_pb2, approval_pb2, enrollment_pb2, event_pb2, plan_pb2, qualification_pb2

NO_PHONE = KeyLimits(hidden_fields=frozenset({"contact.phone"}))
COMPANIES = KeyLimits(record_types=frozenset({"company"}))
PHONE = "+4930123456"
WHY = f"The entry condition was not met (contact.phone is {PHONE})."


@pytest.mark.parametrize(
    ("kind", "details", "kept"),
    [
        (
            "call",
            {"reason": "Two look", "request": {"fields": {"phone": PHONE}}, "changes": {"phone": {"new": PHONE}}},
            {"reason": "Two look"},
        ),
        (
            "plan",
            {"counts": {"field.phone": 2}, "items": [{"changes": [{"field": "phone", "old": None, "new": PHONE}]}]},
            {"counts": {"field.phone": 2}},
        ),
        ("plan", {"who": PHONE, "changes": [{"field": "phone", "new": PHONE}], "risk": "high"}, {"risk": "high"}),
        ("step", {"phone": PHONE, "question": "May we?"}, {"question": "May we?"}),  # the author's own words stay
    ],
)
def test_an_approval_tells_no_hidden_value(kind: str, details: dict[str, Any], kept: dict[str, Any]) -> None:
    approval = approval_pb2.Approval(subject_kind=kind, title="Ask", details=to_struct(details))
    seen = shown(approval, NO_PHONE)
    assert isinstance(seen, approval_pb2.Approval)
    assert from_struct(seen.details) == kept
    assert seen.title == ("Ask" if kind == "step" else "")


def test_a_plan_is_shown_without_its_title() -> None:
    plan = plan_pb2.Plan(id="pln_1", title=f"Qualify {PHONE}", item_count=1)
    assert shown(plan, NO_PHONE) == plan_pb2.Plan(id="pln_1", item_count=1)
    untouched = plan_pb2.Plan(id="pln_1", title="Qualify")
    assert shown(untouched, KeyLimits()) == plan_pb2.Plan(id="pln_1", title="Qualify")


@pytest.mark.parametrize("limits", [NO_PHONE, COMPANIES], ids=["hidden", "types"])
@pytest.mark.parametrize(
    "message",
    [
        enrollment_pb2.EnrollResult(outcome="ENROLL_OUTCOME_NOT_ELIGIBLE", reason="ENTRY_CONDITION", message=WHY),
        enrollment_pb2.EnrollContactsResponse(results=[{"outcome": "ENROLL_OUTCOME_NOT_ELIGIBLE", "message": WHY}]),
        enrollment_pb2.WhyNotResponse(why=WHY, reasons=[{"message": WHY, "inputs": {"contact.phone": PHONE}}]),
        qualification_pb2.Fact(path="contact.phone", value={"string_value": PHONE}),
        enrollment_pb2.ExplainEnrollmentResponse(why=WHY, enrollment={"end_reason": PHONE, "key": PHONE}),
        enrollment_pb2.TraceEntry(reason=WHY, inputs={"contact.phone": PHONE}),
        enrollment_pb2.DeadLetter(reason=WHY),
        enrollment_pb2.RedriveDeadLettersResponse(results=[{"failure": WHY}]),
        agent_pb2.Execution(error=WHY, steps=[{"reason": WHY, "logs": [PHONE]}]),
    ],
    ids=lambda message: message.DESCRIPTOR.name,
)
def test_no_explanation_quotes_a_value_to_a_key_that_does_not_see_it(message: Any, limits: KeyLimits) -> None:
    def copied() -> Any:  # what is shown is taken from the message itself
        return type(message).FromString(message.SerializeToString())

    assert shown(copied(), UNLIMITED) == message
    assert PHONE not in str(shown(copied(), limits))


def test_a_key_of_standard_types_is_told_nothing_of_own_objects() -> None:
    told = enrollment_pb2.TraceEntry(reason="plan.custom.pin is 4711", inputs={"plan.custom.pin": "4711"})
    assert "4711" not in str(shown(told, KeyLimits(record_types=frozenset(KNOWN_TO_WORKFLOWS))))


def test_what_is_wrong_with_the_input_is_still_said() -> None:
    wrong = enrollment_pb2.EnrollResult(outcome="ENROLL_OUTCOME_INVALID", message="is no e-mail address")
    assert shown(wrong, NO_PHONE) == enrollment_pb2.EnrollResult(
        outcome="ENROLL_OUTCOME_INVALID", message="is no e-mail address"
    )
    assert not str(shown(event_pb2.QuarantinedEvent(message=f"{PHONE} is no phone number"), NO_PHONE))


@pytest.mark.parametrize(
    "error",
    [
        NotEnrolled(why=f"contact.phone is {PHONE}"),
        FieldContradicted(count=1, record_type="contact", field="phone", samples=PHONE),
    ],
    ids=lambda error: error.reason,
)
@pytest.mark.parametrize("limits", [NO_PHONE, COMPANIES], ids=["hidden", "types"])
def test_an_error_quotes_no_value_to_a_key_that_does_not_see_it(error: DripstoneError, limits: KeyLimits) -> None:
    with pytest.raises(type(error)) as told, hidden_from_errors(limits):
        raise error
    assert PHONE not in f"{told.value} {told.value.message} {told.value.variables}"
    assert told.value.reason == error.reason
    with pytest.raises(type(error), match="30123456"), hidden_from_errors(UNLIMITED):
        raise error
    with pytest.raises(NotFound, match="enr_1"), hidden_from_errors(limits):
        raise NotFound(kind="enrollment", id="enr_1")
