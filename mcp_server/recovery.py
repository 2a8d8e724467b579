"""What an agent should do about an error of the core: each reason leads to the exact next call."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import grpc

from dripstone.v1 import workflow_pb2
from dripstone.v1.client import ApiError, Client, FieldViolation
from mcp_server.corrections import nearest
from mcp_server.identifiers import is_email, prefix_of, shown_by
from mcp_server.mending import Called, argument_of
from mcp_server.refusals import Problem, Refusal, refused_arguments
from mcp_server.schemas import placeholder
from mcp_server.values import invocation, version_of

__all__ = ["Called", "refusal_of"]

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
    "enrollment": "To find it by its workflow and contact: "
    + invocation("explain-enrollment", workflow_id=placeholder("workflow_id"), email=placeholder("email")),
    "execution": "To find it by the key of the commit that started it: "
    + invocation("get-call", idempotency_key=placeholder("idempotency_key")),
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

_OUR_WORDS = (
    (re.compile(r"\betag\b"), "version"),
    (re.compile(r"\bpage_token\b"), "cursor"),
    (re.compile(r"\bpage_size\b"), "limit"),
    (re.compile(r"\brequest_id\b"), "idempotency_key"),
    (re.compile(r"\b(?:RecordService\.)?UpdateRecord\b"), "update-record"),
)
"""Words of the contract that tools have others for."""


async def refusal_of(error: ApiError, client: Client, called: Called) -> Refusal:
    """Return the refusal for an error of the core; an unknown workflow is answered with the nearest one."""
    arguments = called.arguments
    following = _next(error, called)
    if error.reason == "INVALID_ARGUMENT" and error.violations:
        return refused_arguments(_problems(error), _worded(error.hint), following, joint=": ")
    message, hint = error.message, _worded(error.hint)
    if error.code in ("INTERNAL", "UNKNOWN") or not message:
        message = message if error.reason == "INTERNAL" else "The core could not answer."
    if error.reason == "APPROVAL_REJECTED":
        # The decider's comment is data; inside an error it would read as if we had said it.
        message, hint = f"The approval {error.variables.get('approval_id', '')} was rejected.", ""
    if error.reason == "ETAG_MISMATCH":
        message, hint = (
            _changed(error.variables),
            "Read it again, and send the version that you then see as if_version.",
        )
    kind = _kind(error)
    if error.reason == "NOT_FOUND":
        hint = _ORIGINS.get(kind, "Check the id." if hint.startswith("Check the id") else hint)
    if _done_already(error):
        hint = "The plan is applied: nothing is left to do."
    given = str(arguments.get("workflow_id", ""))
    if error.reason == "NOT_FOUND" and kind == "workflow" and given:
        near, known = await _workflows(client, given)
        if near:
            hint = f"Did you mean {near}?"
            following = called.again(workflow_id=near)
        elif known:
            hint = f"Workflows: {', '.join(known)}."
    return Refusal(
        reason=error.reason,
        message=message,
        field=argument_of(error.violations[0].field) if error.violations else "",
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
        problems.append(Problem(argument_of(violation.field), violation.reason, _worded(message), _worded(hint)))
    return tuple(problems)


def _worded(text: str) -> str:
    """Return a text of the core in the words of the tools."""
    for theirs, ours in _OUR_WORDS:
        text = theirs.sub(ours, text)
    return text


def _changed(told: Mapping[str, str]) -> str:
    current, given = (version_of(told.get(name, "")) for name in ("current", "given"))
    return f"{told.get('kind', '')} {told.get('id', '')} is at version {current} now; the call was made for {given}."


def _first_sentence(violation: FieldViolation) -> str:
    # A way out begins with a capital: "is not a time zone Use an IANA name."; a name such as Europe/Berlin does not.
    return re.split(r"(?<=[^,:;]) (?=[A-Z][a-z]+[ ,])", violation.message, maxsplit=1)[0]


def _done_already(error: ApiError) -> bool:
    told = error.variables
    return error.reason == "WRONG_STATE" and (told.get("kind"), told.get("state")) == ("plan", "applied")


def _kind(error: ApiError) -> str:
    kind = error.variables.get("kind", "")
    return "plan" if kind.endswith(" plan") else kind


def _next(error: ApiError, called: Called) -> str:
    arguments, tool = called.arguments, called.tool
    match error.reason:
        case "NOT_FOUND":
            return _instead_of_missing(error, called)
        case "PREVIEW_STALE" | "ETAG_MISMATCH" if tool != "update-record" or not arguments.get("record_id"):
            return called.without("if_version")  # a preview shows what is there now
        case "INVALID_ARGUMENT":
            nobody = any(violation.field == "input" for violation in error.violations)
            return called.with_contact() if nobody else called.mended(error.violations)
    if _done_already(error):
        return f"Tell the person that it is done; to see the lead: {_lead(arguments)}"
    again = called.again()
    ways = {
        "ETAG_MISMATCH": invocation("get-record", record_id=arguments.get("record_id", "")),
        "PLAN_STALE": _preview(called, error.variables.get("lead_id", "")),
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
        **dict.fromkeys(
            ("RATE_LIMITED", "RESOURCE_EXHAUSTED", "UNAVAILABLE", "DEADLINE_EXCEEDED", "GOING_AWAY",
             "STORE_UNAVAILABLE"), again,
        ),
        **dict.fromkeys(("INTERNAL", "UNKNOWN"), f"{again}, once; if it persists, tell the person"),
    }  # fmt: skip
    return ways.get(error.reason, PERSON)


def _instead_of_missing(error: ApiError, called: Called) -> str:
    arguments = called.arguments
    wanted = error.variables.get("id", "")
    if moved := called.elsewhere(wanted):
        return moved
    match _kind(error):
        case "plan":
            return _preview(called)
        case "workflow version":
            return invocation("get-workflow", workflow_id=arguments.get("workflow_id", ""))
        case "scoring model":
            known = error.variables.get("known", "")
            near = nearest(str(arguments.get("model_id", "")), known.split(", "))
            if near:
                return called.again(model_id=near)
            return (
                "Tell the person which scoring models there are, and ask for one."
                if known
                else "Tell the person that there is no scoring model yet; `dripstone model publish` makes one known."
            )
        case "record" | "contact" if not prefix_of(wanted) and re.search("[A-Za-z]", wanted):  # a name
            return invocation("find-records", query=wanted[:200])
        case kind:
            return _LISTED.get(kind, "Check the id in the result that named it.")


def _preview(called: Called, lead_id: str = "") -> str:
    """Return the call that previews anew what a plan was about."""
    if called.tool == "undo-changes":
        return invocation("undo-changes", undo=placeholder("undo"), mode="preview")
    given = called.arguments
    about = {name: given[name] for name in ("lead_id", "email") if given.get(name)} or {"lead_id": lead_id}
    more = {name: given[name] for name in ("fields", "evidence", "model_id") if given.get(name)}
    if about == {"lead_id": ""}:
        about, more = {"lead_id": placeholder("lead_id")}, {}
    return invocation("qualify-lead", **about, **more, mode="preview")


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


def _read_again(arguments: Mapping[str, Any]) -> str:
    for argument in ("enrollment_id", "execution_id", "task_id", "delivery_id", "kept_id", "record_id", "lead_id"):
        if call := shown_by(arguments.get(argument)):
            return call
    if arguments.get("workflow_id"):
        return invocation("get-workflow", workflow_id=arguments["workflow_id"])
    if arguments.get("plan_id"):
        return _lead(arguments)
    return invocation("list-approvals", state="all") if arguments.get("approval_id") else PERSON


async def _workflows(client: Client, given: str) -> tuple[str, list[str]]:
    """Return the workflow id nearest to the given id or title, and the ids there are; nothing when none may be read."""
    if is_email(given):
        return "", []
    try:
        answer = await client.workflows.ListWorkflows(
            workflow_pb2.ListWorkflowsRequest(filter='state = "active"', page_size=100)
        )
    except grpc.aio.AioRpcError:
        return "", []
    known = [workflow.id for workflow in answer.workflows]
    titled = next((one.id for one in answer.workflows if one.title.lower() == given.strip().lower()), "")
    return titled or nearest(given, known), known[:10]
