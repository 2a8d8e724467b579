"""What an agent should do about an error of the core: each reason leads to the exact next call."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import grpc

from dripstone.v1 import workflow_pb2
from dripstone.v1.client import ApiError, Client, FieldViolation
from mcp_server.corrections import nearest, placeholder, tentative
from mcp_server.refusals import Problem, Refusal, refused_arguments
from mcp_server.values import invocation

ARGUMENTS = {"request_id": "idempotency_key", "page_size": "limit", "page_token": "cursor", "etag": "if_version"}
"""Request fields of the contract whose tool argument has another name."""

_WITHIN = {"contacts.contact_ids": "contacts", "contacts.filter": "filter", "contacts.sample_size": "sample"}
"""Fields inside a request's field that tools take apart."""

PERSON = "Stop and tell the person: this needs somebody else."

_LISTED = {
    "workflow": invocation("list-workflows"),
    "contact": invocation("find-records", type="contact"),
    "company": invocation("find-records", type="company"),
    "lead": invocation("find-records", type="lead"),
    "record": invocation("find-records"),
    "approval": invocation("list-approvals", state="all"),
    "call": "Send the commit again with the same idempotency_key: nothing was done under it.",
    "delivery": invocation("find-deliveries"),
    "endpoint": invocation("find-deliveries"),
    "dead letter": invocation("redrive-dead-letters"),
    **dict.fromkeys(("task", "agent task"), invocation("claim-task")),
    "merge": invocation("merge-records"),
    "change": invocation("get-record", record_id=placeholder("record_id"), history=10),
    "agent": f"Check the agent_id, or run a workflow by its own id: {invocation('list-workflows')}",
    "enrollment": "To see who is enrolled already, with the enrollment_id: "
    + invocation("enroll", workflow_id="<workflow_id>", contacts=placeholder("contacts"), mode="preview"),
    "execution": f"Tell the person; to see what became of the contact: {invocation('find-records', type='contact')}",
}
_ORIGINS = {
    "plan": "A plan_id comes from a preview of qualify-lead, by the same API key.",
    "approval": "An approval_id comes from list-approvals.",
    "enrollment": "An enrollment_id comes from a commit of enroll.",
    "execution": "An execution_id comes from a commit of execute-workflow.",
    "workflow version": "get-workflow without version shows the published one.",
    "agent": "An agent_id comes from the person.",
}
"""Where an id comes from that no tool lists."""


async def refusal_of(error: ApiError, client: Client, tool: str, arguments: Mapping[str, Any]) -> Refusal:
    """Return the refusal for an error of the core; an unknown workflow is answered with the nearest one."""
    following = _next(error, tool, arguments)
    if error.reason == "INVALID_ARGUMENT" and error.violations:
        return refused_arguments(_problems(error), error.hint, following, joint=": ")
    message, hint = error.message, error.hint
    if error.code in ("INTERNAL", "UNKNOWN") or not message:
        message = message if error.reason == "INTERNAL" else "The core could not answer."
    if error.reason == "APPROVAL_REJECTED":
        # The decider's comment is data; inside an error it would read as if we had said it.
        message, hint = f"The approval {error.variables.get('approval_id', '')} was rejected.", ""
    kind = error.variables.get("kind", "")
    if error.reason == "NOT_FOUND":
        hint = _ORIGINS.get(kind, hint)
    if _done_already(error):
        hint = "The plan is applied: nothing is left to do."
    given = str(arguments.get("workflow_id", ""))
    if error.reason == "NOT_FOUND" and kind == "workflow" and given:
        near, known = await _workflows(client, given)
        if near:
            hint = f"Did you mean {near}?"
            following = _again(tool, tentative({**arguments, "workflow_id": near}))
        elif known:
            hint = f"Workflows: {', '.join(known)}."
    return Refusal(
        reason=error.reason,
        message=message,
        field=_argument(error.violations[0].field) if error.violations else "",
        hint=hint,
        next=following,
        retry_after=error.retry_after,
        approval_id=error.variables.get("approval_id", "") if error.reason == "APPROVAL_REQUIRED" else "",
    )


def _problems(error: ApiError) -> tuple[Problem, ...]:
    """Return the violations with what is wrong apart from the way out, which the contract sends as one text."""
    summary = re.sub(r" \(and \d+ more\)$", "", error.variables.get("summary", ""))
    problems: list[Problem] = []
    for violation in error.violations:
        message = summary.removeprefix(f"{violation.field}: ")
        if problems or message == summary or not violation.message.startswith(message):
            message = _first_sentence(violation)
        hint = violation.message.removeprefix(message).strip()
        problems.append(Problem(_argument(violation.field), violation.reason, message, hint))
    return tuple(problems)


def _first_sentence(violation: FieldViolation) -> str:
    # A way out begins with a capital: "is not a time zone Use an IANA name."; a name such as Europe/Berlin does not.
    return re.split(r"(?<=[^,:;]) (?=[A-Z][a-z]+[ ,])", violation.message, maxsplit=1)[0]


def _done_already(error: ApiError) -> bool:
    told = error.variables
    return error.reason == "WRONG_STATE" and (told.get("kind"), told.get("state")) == ("plan", "applied")


def _argument(path: str) -> str:
    for within, argument in _WITHIN.items():
        if path.startswith(within):
            return argument + path.removeprefix(within)
    head, dot, rest = path.partition(".")
    return ARGUMENTS.get(head, head) + dot + rest


def _next(error: ApiError, tool: str, arguments: Mapping[str, Any]) -> str:
    again = _again(tool, arguments)
    if error.reason == "NOT_FOUND":
        return _instead_of_missing(error, tool, arguments)
    if error.reason == "ETAG_MISMATCH" and not arguments.get("record_id"):  # a preview shows what is there now
        looked = tentative({name: value for name, value in arguments.items() if name != "if_version"})
        call = invocation(tool, **looked)
        return call if len(call) <= 400 else f"the same {tool} call with mode preview and without if_version"
    if error.reason == "INVALID_ARGUMENT" and any(violation.field == "input" for violation in error.violations):
        payload = {**placeholder("input"), **(arguments.get("input") or {})}
        return _again(tool, tentative({**arguments, "input": payload}))
    if _done_already(error):
        return f"Tell the person that it is done; to see the lead: {_lead(arguments)}"
    if error.reason in ("UNAVAILABLE", "DEADLINE_EXCEEDED") and _may_have_acted(arguments):
        return "It may have happened: read what it would have changed before calling again with an idempotency_key"
    ways = {
        "INVALID_ARGUMENT": _held_open(error, tool, arguments),
        "ETAG_MISMATCH": invocation("get-record", record_id=arguments.get("record_id", "")),
        "PLAN_STALE": _preview(arguments),
        "APPROVAL_REQUIRED": f"Tell the person, wait for the decision, then send this call again: {again}",
        "APPROVAL_MISMATCH": invocation("list-approvals", state="pending"),
        "APPROVAL_REJECTED": "Stop and tell the person that it was rejected; list-approvals shows the comment.",
        "WORKFLOW_NOT_ACTIVE": invocation("list-workflows", state="active"),
        "EMAIL_TAKEN": _contact({**arguments, **(arguments.get("fields") or {})}),
        "VALUE_TAKEN": _contact({**arguments, **(arguments.get("fields") or {})}),
        "NOT_ENROLLED": f"Tell the person why; to see the contact: {_contact(arguments.get('input') or {})}",
        "WRONG_STATE": _read_again(arguments),
        "IDEMPOTENCY_CONFLICT": f"{_past_call(arguments)} shows what it did; then {tool} with a new idempotency_key, "
        "or the first arguments unchanged",
        "DELIVERY_UNDER_WAY": f"Wait a minute, then {_delivery(arguments)}",
        **dict.fromkeys(
            ("ENDPOINT_NOT_ACTIVE", "ENDPOINT_DELETED", "PAYLOAD_NOT_KEPT"),
            f"Tell the person; to see the delivery: {_delivery(arguments)}",
        ),
        "MERGED": _kept(error),
        **dict.fromkeys(
            ("TOO_MANY_IDENTIFIERS", "TOO_MUCH_TO_MERGE", "RECORD_ERASED"),
            f"Tell the person why it cannot be; to see it: {_read_again(arguments)}",
        ),
        "TOO_MUCH_TO_REVERT": "Tell the person that it is too much to preview; if they want it all the same: "
        f"{tool} with mode commit, again until more is false",
        "ALREADY_EXISTS": f"{tool} with another id",
        "BUDGET_EXHAUSTED": f"{tool} for no more than {error.variables.get('left', '0')} today, or tell the person",
        "RATE_LIMITED": again,
        "RESOURCE_EXHAUSTED": again,
        "UNAVAILABLE": again,
        "DEADLINE_EXCEEDED": again,
        "GOING_AWAY": again,
        "STORE_UNAVAILABLE": again,
        **dict.fromkeys(("INTERNAL", "UNKNOWN"), f"{again}, once; if it persists, tell the person"),
    }
    return ways.get(error.reason, PERSON)


def _instead_of_missing(error: ApiError, tool: str, arguments: Mapping[str, Any]) -> str:
    match error.variables.get("kind", ""):
        case "plan":
            return _preview(arguments)
        case "workflow version":
            return invocation("get-workflow", workflow_id=arguments.get("workflow_id", ""))
        case "scoring model":
            near = nearest(str(arguments.get("model_id", "")), error.variables.get("known", "").split(", "))
            published = "Tell the person which scoring models there are, and ask for one."
            return _again(tool, tentative({**arguments, "model_id": near})) if near else published
        case kind:
            return _LISTED.get(kind, "Check the id in the result that named it.")


def _held_open(error: ApiError, tool: str, arguments: Mapping[str, Any]) -> str:
    """Return the call with a place held open for each value that does not fit; in words where that is not so simple."""
    mended = tentative(arguments)
    for violation in error.violations:
        name, *inside = _argument(violation.field).split(".")
        value = mended.get(name)
        if isinstance(value, str) and not inside:
            mended[name] = placeholder(name)
        elif isinstance(value, dict) and len(inside) == 1:
            mended[name] = {**value, inside[0]: placeholder(inside[0])}
        else:
            return f"{tool} with the named arguments corrected"
    return _again(tool, mended)


def _preview(arguments: Mapping[str, Any]) -> str:
    about = {name: arguments[name] for name in ("lead_id", "email") if arguments.get(name)}
    return invocation("qualify-lead", **(about or {"lead_id": placeholder("lead_id")}), mode="preview")


def _lead(arguments: Mapping[str, Any]) -> str:
    if arguments.get("lead_id"):
        return invocation("get-record", record_id=arguments["lead_id"])
    return invocation("find-records", type="lead", email=arguments.get("email", ""))


def _contact(given: Mapping[str, Any]) -> str:
    """Return the call that shows the contact that arguments or fields name."""
    if given.get("contact_id"):
        return invocation("get-record", record_id=given["contact_id"])
    return invocation("find-records", type="contact", email=given.get("email", ""))


def _past_call(arguments: Mapping[str, Any]) -> str:
    return invocation("get-call", idempotency_key=arguments.get("idempotency_key", ""))


def _delivery(arguments: Mapping[str, Any]) -> str:
    return invocation("find-deliveries", delivery_id=arguments.get("delivery_id", ""))


def _kept(error: ApiError) -> str:
    """Return the call that shows the record which another one went into."""
    return invocation("get-record", record_id=error.variables.get("kept_id", "") or placeholder("record_id"))


def _may_have_acted(arguments: Mapping[str, Any]) -> bool:
    return arguments.get("mode") == "commit" and not arguments.get("idempotency_key")


def _again(tool: str, arguments: Mapping[str, Any]) -> str:
    call = invocation(tool, **arguments)
    return call if len(call) <= 400 else f"the same {tool} call again, unchanged"


def _read_again(arguments: Mapping[str, Any]) -> str:
    for argument, call, name in (
        ("enrollment_id", "get-enrollment", "enrollment_id"),
        ("execution_id", "get-execution", "execution_id"),
        ("task_id", "claim-task", "task_id"),
        ("delivery_id", "find-deliveries", "delivery_id"),
        ("kept_id", "get-record", "record_id"),
        ("record_id", "get-record", "record_id"),
        ("lead_id", "get-record", "record_id"),
        ("workflow_id", "get-workflow", "workflow_id"),
    ):
        if arguments.get(argument):
            return invocation(call, **{name: arguments[argument]})
    if arguments.get("plan_id"):
        return _lead(arguments)
    return invocation("list-approvals", state="all") if arguments.get("approval_id") else PERSON


async def _workflows(client: Client, given: str) -> tuple[str, list[str]]:
    """Return the workflow id nearest to the given one, and the ids there are; nothing when they may not be read."""
    try:
        answer = await client.workflows.ListWorkflows(
            workflow_pb2.ListWorkflowsRequest(filter='state = "active"', page_size=100)
        )
    except grpc.aio.AioRpcError:
        return "", []
    known = [workflow.id for workflow in answer.workflows]
    return nearest(given, known), known[:10]
