"""The catalogue of outbound events: what each type means and the JSON Schema of its data. Adding one is one entry."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from core.domain.errors import Invalid, Violation
from core.domain.frozen import frozen

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator

MAX_NAME_LENGTH = 128

ID: dict[str, Any] = {"type": "string", "minLength": 1}
TEXT: dict[str, Any] = {"type": "string"}
INTEGER: dict[str, Any] = {"type": "integer"}
OBJECT: dict[str, Any] = {"type": "object"}


@frozen
class EventType:
    """A kind of event that endpoints subscribe to."""

    name: str
    version: int
    description: str
    schema: Mapping[str, Any]
    """JSON Schema of `data`, draft 2020-12; receivers must ignore fields they do not know."""


def _data(required: Mapping[str, Any], optional: Mapping[str, Any] | None = None) -> dict[str, Any]:
    return {"type": "object", "required": list(required), "properties": {**required, **(optional or {})}}


_RECORD = {"record_id": ID, "record_type": ID}
_CAUSE = {"actor": TEXT, "cause": TEXT}
_CHANGE = _data({"field": ID}, {"old_value": {}, "new_value": {}})
_ROUTED = {"routing_id": TEXT, "rule_id": TEXT, "response_due_at": TEXT}
_ENROLLMENT = {"enrollment_id": ID, "workflow_id": ID, "contact_id": ID}
_POSITION = {"version": INTEGER, "key": TEXT, "step_id": TEXT}
_APPROVAL = {"approval_id": ID, "title": TEXT}
_SUBJECT = {"subject_kind": TEXT, "subject_id": TEXT, "requester_id": TEXT}
_EXECUTION = {"execution_id": ID, "workflow_id": ID}
_MESSAGE = {
    "message_id": ID,
    "channel": ID,
    "contact_id": ID,
    "enrollment_id": ID,
    "workflow_id": ID,
    "ordinal": {"type": "integer", "minimum": 1},
}
_SENDER = {"purpose": TEXT, "step_id": TEXT}
_ABOUT_A_MESSAGE = {
    "address": TEXT,
    "purpose": TEXT,
    "reason": TEXT,
    "source_id": TEXT,
    "event_id": TEXT,
    "message_id": TEXT,
    "enrollment_id": TEXT,
    "workflow_id": TEXT,
    **_CAUSE,
}
_ENDPOINT = {"endpoint_id": ID}
_DELIVERY_OF = {"url": TEXT, "delivery_id": TEXT, "last_outcome": TEXT}
_RUN = {"agent_id": TEXT, "enrollment_id": TEXT, "contact_id": TEXT, "result": OBJECT}

EVENT_TYPES: tuple[EventType, ...] = (
    EventType(
        "record.created",
        1,
        "A contact, company or lead was created.",
        _data({**_RECORD, "fields": OBJECT}, _CAUSE),
    ),
    EventType(
        "record.updated",
        1,
        "Fields of a contact, company or lead changed.",
        _data({**_RECORD, "changes": {"type": "array", "minItems": 1, "items": _CHANGE}}, _CAUSE),
    ),
    EventType(
        "lead.qualified",
        1,
        "A qualification was committed, whatever it decided.",
        _data(
            {
                "lead_id": ID,
                "contact_id": ID,
                "decision": {"enum": ["qualified", "nurture", "disqualified", "needs_info", "needs_approval"]},
                "score": {"type": "number"},
                "tier": TEXT,
            },
            {"owner_id": TEXT, "model_id": TEXT, "model_version": INTEGER, "plan_id": TEXT, **_CAUSE},
        ),
    ),
    EventType(
        "lead.assigned",
        1,
        "A lead was given to a member: by a routing, by somebody, or because another one did not respond in time.",
        _data(
            {"lead_id": ID, "assignment_id": ID, "member_id": ID, "method": ID},
            {**_ROUTED, "contact_id": TEXT, "previous_assignment_id": TEXT, **_CAUSE},
        ),
    ),
    EventType(
        "lead.assignment_overdue",
        1,
        "A lead waits for a person: its owner did not respond in time or gave it back, and nobody else got it.",
        _data({"lead_id": ID, "assignment_id": ID, "member_id": ID, "reason": ID}, {**_ROUTED, "cause": TEXT}),
    ),
    EventType("enrollment.created", 1, "A contact entered a workflow.", _data(_ENROLLMENT, {**_POSITION, **_CAUSE})),
    EventType("enrollment.completed", 1, "An enrollment reached its end.", _data(_ENROLLMENT, _POSITION)),
    EventType(
        "enrollment.exited",
        1,
        "An enrollment left its workflow early: an exit step, or somebody cancelled it.",
        _data({**_ENROLLMENT, "reason": TEXT}, _POSITION),
    ),
    EventType(
        "enrollment.failed",
        1,
        "An enrollment ended because a step failed.",
        _data({**_ENROLLMENT, "reason": TEXT}, _POSITION),
    ),
    EventType(
        "workflow.published",
        1,
        "A version of a workflow was published.",
        _data({"workflow_id": ID, "version": INTEGER}, {"title": TEXT, **_CAUSE}),
    ),
    EventType(
        "workflow.failed",
        1,
        "A workflow could not go on as a whole, such as when a trigger of it broke.",
        _data({"workflow_id": ID, "reason": TEXT}, {"version": INTEGER, "step_id": TEXT, "trigger": TEXT}),
    ),
    EventType(
        "automation.paused",
        1,
        "A workflow was paused, by somebody or because too many of its steps failed; everybody in it waits.",
        _data(
            {"workflow_id": ID, "reason": TEXT}, {"version": INTEGER, "failed": INTEGER, "of_last": INTEGER, **_CAUSE}
        ),
    ),
    EventType(
        "automation.out_of_leads",
        1,
        "A workflow that draws contacts from an audience has drawn them all; said once each time it runs out.",
        _data({"workflow_id": ID}, {"version": INTEGER, "audience": TEXT, "drawn": INTEGER}),
    ),
    EventType(
        "message.requested",
        1,
        "A message is to be carried to a contact over a channel that the core does not send on itself.",
        _data({**_MESSAGE, "to": ID, "text": TEXT}, _SENDER),
    ),
    EventType("message.sent", 1, "A message to a contact was sent.", _data(_MESSAGE, _SENDER)),
    EventType(
        "message.failed",
        1,
        "A message to a contact was not sent, and is not tried again.",
        _data({**_MESSAGE, "reason": TEXT}, {**_SENDER, "attempts": INTEGER}),
    ),
    EventType("cold_dm.sent", 1, "The first direct message of an enrollment was sent.", _data(_MESSAGE, _SENDER)),
    EventType("followup.sent", 1, "A later direct message of an enrollment was sent.", _data(_MESSAGE, _SENDER)),
    EventType(
        "reply.received",
        1,
        "A contact answered a message.",
        _data(
            {"contact_id": ID},
            {"event_id": TEXT, "message_id": TEXT, "channel": TEXT, "enrollment_id": TEXT, "workflow_id": TEXT},
        ),
    ),
    EventType(
        "agent_task.created",
        1,
        "A piece of work waits for an agent.",
        _data({"task_id": ID, "title": TEXT, **_ENROLLMENT}, {"step_id": TEXT, "expires_at": TEXT}),
    ),
    EventType(
        "approval.requested",
        1,
        "A second principal has to decide.",
        _data(_APPROVAL, {**_SUBJECT, "details": OBJECT, "expires_at": TEXT}),
    ),
    EventType(
        "approval.decided",
        1,
        "An approval was given, refused, withdrawn or ran out of time.",
        _data(
            {**_APPROVAL, "decision": {"enum": ["approved", "rejected", "expired", "cancelled"]}},
            {**_SUBJECT, "decider_id": TEXT, "comment": TEXT},
        ),
    ),
    EventType("execution.completed", 1, "An execution finished.", _data(_EXECUTION, _RUN)),
    EventType("execution.failed", 1, "An execution failed.", _data({**_EXECUTION, "error": TEXT}, _RUN)),
    EventType(
        "message.bounced",
        1,
        "An address gave a message back: for good (hard), or for now (soft).",
        _data({"channel": ID, "kind": {"enum": ["hard", "soft"]}}, {**_ABOUT_A_MESSAGE, "contact_id": TEXT}),
    ),
    EventType(
        "contact.unsubscribed",
        1,
        "A contact no longer wants messages of a purpose, or any; nothing more of that kind is sent.",
        _data({"contact_id": ID, "channel": ID}, {**_ABOUT_A_MESSAGE, "everything": {"type": "boolean"}}),
    ),
    EventType(
        "contact.spam_complaint",
        1,
        "A contact reported a message as spam; no more marketing is sent.",
        _data({"contact_id": ID, "channel": ID}, _ABOUT_A_MESSAGE),
    ),
    EventType(
        "contact.erased",
        1,
        "A person was erased: who has copies of what was said of them is asked to erase those, too.",
        _data({"record_id": ID, "erasure_id": ID}, {"actor": TEXT}),
    ),
    EventType(
        "endpoint.failing",
        1,
        "An endpoint keeps failing and comes closer to being turned off; said at 50, 70 and 90 percent.",
        _data(
            {**_ENDPOINT, "progress_percent": {"type": "integer", "minimum": 0, "maximum": 100}},
            {**_DELIVERY_OF, "failing_since": TEXT, "failures": INTEGER, "disable_at": TEXT},
        ),
    ),
    EventType(
        "endpoint.disabled",
        1,
        "An endpoint was turned off; what is meant for it meanwhile is kept and can be replayed.",
        _data(
            {**_ENDPOINT, "reason": TEXT},
            {**_DELIVERY_OF, "failing_since": TEXT, "failures": INTEGER, "skipped": INTEGER},
        ),
    ),
    EventType(
        "endpoint.recovered",
        1,
        "An endpoint that had been failing answered again before it was turned off.",
        _data(_ENDPOINT, {**_DELIVERY_OF, "failing_since": TEXT, "failures": INTEGER}),
    ),
    EventType(
        "endpoint.enabled",
        1,
        "An endpoint that was turned off is sent to again: by somebody, or because it answered a probe.",
        _data(_ENDPOINT, {**_DELIVERY_OF, "reason": TEXT, "skipped": INTEGER, **_CAUSE}),
    ),
    EventType(
        "message.attempt.exhausted",
        1,
        "A delivery ran out of attempts.",
        _data(
            {"message_id": ID, "delivery_id": ID, "endpoint_id": ID, "event_type": ID, "attempt_count": INTEGER},
            {"last_outcome": TEXT, "status_code": INTEGER, "enrollment_id": TEXT},
        ),
    ),
    EventType("endpoint.test", 1, "Sent by a test call, never by itself.", _data({"endpoint_id": ID}, {"note": TEXT})),
)
"""Every event type that the core itself sends."""

CATALOGUE: Mapping[str, EventType] = {event_type.name: event_type for event_type in EVENT_TYPES}

OPERATIONAL = frozenset(
    {"endpoint.failing", "endpoint.disabled", "endpoint.recovered", "endpoint.enabled", "message.attempt.exhausted"}
)
"""Types about delivery itself; their own failures are not reported again."""

_NAME = re.compile(r"[a-z][a-z0-9_]*(?:\.[a-z0-9_]+)+")


def is_event_type_name(text: str) -> bool:
    """Tell whether a text can name an event type: dotted, lower case, such as `deal.won`; at most 128 characters."""
    return len(text) <= MAX_NAME_LENGTH and _NAME.fullmatch(text) is not None


def validate_payload(event_type: str, data: Mapping[str, Any]) -> None:
    """Check data against the schema of its type; a type that is not in the catalogue has none.

    Raises Invalid with every violation.
    """
    if event_type not in CATALOGUE:
        return
    validator = _validator(event_type)
    violations = [
        Violation(
            "data" + error.json_path.removeprefix("$"),
            "SCHEMA_VIOLATION",
            error.message,
            f"See the schema of {event_type} in ListEventTypes.",
        )
        for error in sorted(validator.iter_errors(data), key=lambda error: error.json_path)
    ]
    if violations:
        raise Invalid(*violations)


@cache
def _validator(event_type: str) -> Draft202012Validator:
    from jsonschema import Draft202012Validator  # slow to load: see core.loading

    return Draft202012Validator(dict(CATALOGUE[event_type].schema))
