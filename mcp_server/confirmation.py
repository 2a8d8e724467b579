"""A person confirms what an agent is about to do in their name, where their client can ask them.

The answer of a client proves nothing: a model may give it, and it may be sent again. So it never lets anything happen
that the core would not; all it can do is stop. Whoever must agree does so in the core, as another principal. A
decision that is a person's own is not made at all where nobody can be asked; `Person` tells tools which it is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from enum import Enum
from typing import Any

import grpc
from mcp.server.context import ServerRequestContext
from mcp.server.mcpserver import AcceptedElicitation, Context, Elicit, ElicitationResult, Resolve
from mcp.server.mcpserver.resolve import build_resolver_plans
from mcp.types import ClientCapabilities
from mcp.types.version import is_version_at_least
from pydantic import BaseModel, Field

from dripstone.v1 import audit_pb2, plan_pb2
from dripstone.v1.client import ApiError, Client
from mcp_server.refusals import Refusal
from mcp_server.values import clip, compact

INTENT = "confirmed_by_person"
"""The parameter that holds the answer; no argument of any tool."""

_ASKED_BETWEEN_CALLS = "2026-07-28"
"""Since this revision a question is the answer of one request, and its answer comes with the next."""


class Confirmation(BaseModel):
    """What a person is asked."""

    confirm: bool = Field(title="Yes, in my name", description="No leaves everything as it is.")


Intent = ElicitationResult[Confirmation]
Question = Callable[[Client, Mapping[str, Any]], Awaitable[str]]
"""Returns what to ask before a commit with these arguments; empty for nothing."""


class _Unasked(Confirmation):
    """Nobody was asked, as nobody had to be, or nobody could be."""


UNASKED = _Unasked(confirm=True)


class Person(Enum):
    """Where the person is, of a call that goes on."""

    OUT_OF_REACH = "out of reach"
    WITHIN_REACH = "within reach"
    AGREED = "agreed"


_person: ContextVar[Person] = ContextVar("person", default=Person.OUT_OF_REACH)

_FINAL = ("NOT_FOUND", "INVALID_ARGUMENT", "FAILED_PRECONDITION", "ABORTED", "ALREADY_EXISTS", "UNAUTHENTICATED")
"""Errors that the commit meets as well, and tells itself."""


def shows_forms(capabilities: ClientCapabilities | None) -> bool:
    """Tell whether a client can ask its person by a form."""
    asks = capabilities.elicitation if capabilities is not None else None
    return asks is not None and (asks.form is not None or asks.url is None)


def can_be_asked(ctx: ServerRequestContext[Any, Any]) -> bool:
    """Tell whether a question of this call can reach a person: not where a client can only be answered."""
    if not shows_forms(ctx.session.client_capabilities):
        return False
    return is_version_at_least(ctx.protocol_version or "", _ASKED_BETWEEN_CALLS) or ctx.session.can_send_request


def meet(ctx: ServerRequestContext[Any, Any], *, agreed: bool) -> None:
    """Say for the rest of this request where its person is."""
    reach = Person.WITHIN_REACH if can_be_asked(ctx) else Person.OUT_OF_REACH
    _person.set(Person.AGREED if agreed else reach)


def person() -> Person:
    """Return where the person of this request is; out of reach where nobody has said."""
    return _person.get()


def resolving(asking: Callable[[Context[Any, Any]], Awaitable[str]]) -> dict[str, Any]:
    """Return what makes a registered tool ask: `asking` returns the question of a call, empty for none."""

    async def confirm(ctx: Context[Any, Any]) -> Confirmation | Elicit[Confirmation]:
        question = await asking(ctx) if can_be_asked(ctx.request_context) else ""
        return Elicit(question, Confirmation) if question else UNASKED

    confirm.__module__, confirm.__qualname__ = "dripstone", "confirm"  # what a client sees of it
    resolved = {INTENT: (Resolve(confirm), True)}
    return {"resolved_params": resolved, "resolver_plans": build_resolver_plans(resolved, set())}


NOT_CONFIRMED = Refusal(
    reason="NOT_CONFIRMED",
    message="The person did not confirm it, so nothing was sent.",
    next="Stop. Make this call again only when the person asks for it.",
)


def was_asked(intent: Intent) -> bool:
    """Tell whether there was a question."""
    return not (isinstance(intent, AcceptedElicitation) and isinstance(intent.data, _Unasked))


@dataclass(frozen=True, slots=True)
class Answered:
    """What a person answered to the question before a call."""

    agreed: bool
    key: str = ""
    """What stands for the question in the core; empty where its answer came in the same request."""

    async def stands(self, client: Client, tool: str) -> bool:
        """Tell whether the call goes on: after a yes, and no other answer to the same question before.

        The first answer stands in the core, so that a no cannot be sent again as a yes. Raises the core's error where
        that cannot be known.
        """
        if not self.key:
            return self.agreed
        request = audit_pb2.NoteAnswerRequest(question=tool, confirmed=self.agreed, request_id=self.key)
        said = f"The person was asked, and said {'yes' if self.agreed else 'no'}."
        try:
            await client.audit.NoteAnswer(request, metadata=(("x-dripstone-reason", said), ("x-dripstone-tool", tool)))
        except grpc.aio.AioRpcError as error:
            if self.agreed and ApiError.of(error).reason != "IDEMPOTENCY_CONFLICT":
                raise
            return False
        return self.agreed


def answered_by(intent: Intent, key: str) -> Answered:
    """Return the answer in what the protocol's library says of a question."""
    return Answered(isinstance(intent, AcceptedElicitation) and intent.data.confirm, key)


async def wants_approval(title: str, client: Client, plan_id: str, dry_run: Callable[[], Awaitable[str]]) -> str:
    """Return the question before a commit that somebody else must approve; empty where nobody must.

    `dry_run` makes the call as a preview and returns why an approval would be needed; a plan says so itself.
    Raises what the preview raises.
    """
    try:
        why = await (_of_plan(client, plan_id) if plan_id else dry_run())
    except grpc.aio.AioRpcError as error:
        told = ApiError.of(error)
        if told.reason != "APPROVAL_REQUIRED":
            raise
        why = str(told.variables.get("why") or told.message)
    if not why:
        return ""
    return (
        f"{title}: this needs the approval of somebody else. Why, in words that others wrote: "
        f"{compact(clip(why, 1_000))}. Do you want it done? Your yes does not approve it."
    )


def unclear(title: str, error: ApiError, *, same_call: bool) -> str:
    """Return the question before a commit of which an error hid whether there is one; silence is no yes.

    Empty where the commit cannot get past the same error: of the same method (`same_call`), or of any.
    """
    if error.code in _FINAL or (same_call and error.code == "PERMISSION_DENIED"):
        return ""
    return f"{title}: what it is about cannot be shown now. Do you want it done all the same?"


async def _of_plan(client: Client, plan_id: str) -> str:
    plan = await client.approvals.GetPlan(plan_pb2.GetPlanRequest(plan_id=plan_id))
    return plan.approval_reason
