"""What an agent should do about an error of the core: each reason leads to the exact next call."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

import grpc

from dripstone.v1 import workflow_pb2
from dripstone.v1.client import ApiError, Client
from mcp_server.refusals import Problem, Refusal
from mcp_server.values import invocation

ARGUMENTS = {"request_id": "idempotency_key", "page_size": "limit", "page_token": "cursor"}
"""Request fields of the contract whose tool argument has another name."""

PERSON = "Stop and tell the person: this needs somebody else."

_LISTED = {
    "workflow": invocation("list-workflows"),
    "contact": invocation("find-records", type="contact"),
    "company": invocation("find-records", type="company"),
    "lead": invocation("find-records", type="lead"),
    "record": invocation("find-records"),
    "approval": invocation("list-approvals"),
}


async def refusal_of(error: ApiError, client: Client, tool: str, arguments: Mapping[str, Any]) -> Refusal:
    """Return the refusal for an error of the core; an unknown workflow is answered with the nearest one."""
    problems = tuple(Problem(_argument(v.field), v.reason, v.message) for v in error.violations)
    message, hint = error.message, error.hint
    if error.code in ("INTERNAL", "UNKNOWN") or not message:
        message = message if error.reason == "INTERNAL" else "The core could not answer."
    if error.reason == "APPROVAL_REJECTED":
        # The decider's comment is data; inside an error it would read as if we had said it.
        message, hint = f"The approval {error.variables.get('approval_id', '')} was rejected.", ""
    following = _next(error, tool, arguments)
    given = str(arguments.get("workflow_id", ""))
    if error.reason == "NOT_FOUND" and error.variables.get("kind") == "workflow" and given:
        near, known = await _workflows(client, given)
        if near:
            hint = f"Did you mean {near}?"
            following = _again(tool, {**arguments, "workflow_id": near})
        elif known:
            hint = f"Workflows: {', '.join(known)}."
    return Refusal(
        reason=error.reason,
        message=message,
        field=problems[0].field if problems else "",
        hint=hint,
        next=following,
        retry_after=error.retry_after,
        problems=problems if len(problems) > 1 else (),
    )


def _argument(path: str) -> str:
    head, dot, rest = path.partition(".")
    return ARGUMENTS.get(head, head) + dot + rest


def _next(error: ApiError, tool: str, arguments: Mapping[str, Any]) -> str:
    again = _again(tool, arguments)
    preview = invocation(
        "qualify-lead", lead_id=arguments.get("lead_id", ""), email=arguments.get("email", ""), mode="preview"
    )
    if error.reason == "NOT_FOUND":
        kind = error.variables.get("kind", "")
        return preview if kind == "plan" else _LISTED.get(kind, "Check the id in the result that named it.")
    if error.reason in ("UNAVAILABLE", "DEADLINE_EXCEEDED") and _may_have_acted(arguments):
        return "It may have happened: read what it would have changed before calling again with an idempotency_key"
    ways = {
        "INVALID_ARGUMENT": f"{tool} with the named arguments corrected",
        "ETAG_MISMATCH": invocation("get-record", record_id=arguments.get("record_id", "")),
        "PLAN_STALE": preview,
        "APPROVAL_REQUIRED": f"Tell the person, wait for the decision, then send this call again: {again}",
        "APPROVAL_MISMATCH": invocation("list-approvals", state="pending"),
        "APPROVAL_REJECTED": "Stop and tell the person that it was rejected; list-approvals shows the comment.",
        "WORKFLOW_NOT_ACTIVE": invocation("list-workflows", state="active"),
        "WRONG_STATE": _read_again(arguments),
        "IDEMPOTENCY_CONFLICT": f"{tool} with a new idempotency_key, or the first arguments unchanged",
        "ALREADY_EXISTS": f"{tool} with another id",
        "RATE_LIMITED": again,
        "RESOURCE_EXHAUSTED": again,
        "UNAVAILABLE": again,
        "DEADLINE_EXCEEDED": again,
        "INTERNAL": f"{again}, once; if it persists, tell the person",
    }
    return ways.get(error.reason, PERSON)


def _may_have_acted(arguments: Mapping[str, Any]) -> bool:
    return arguments.get("mode") == "commit" and not arguments.get("idempotency_key")


def _again(tool: str, arguments: Mapping[str, Any]) -> str:
    call = invocation(tool, **arguments)
    return call if len(call) <= 400 else f"the same {tool} call again, unchanged"


def _read_again(arguments: Mapping[str, Any]) -> str:
    for argument, call in (
        ("enrollment_id", "get-enrollment"),
        ("execution_id", "get-execution"),
        ("record_id", "get-record"),
        ("workflow_id", "get-workflow"),
    ):
        if arguments.get(argument):
            return invocation(call, **{argument: arguments[argument]})
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
    return next(iter(difflib.get_close_matches(given, known, n=1, cutoff=0.5)), ""), known[:10]
