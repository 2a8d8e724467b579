"""The tool that tells whether an earlier call was carried out, by the idempotency key it was sent with."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import grpc
from pydantic import Field

from dripstone.v1 import audit_pb2
from dripstone.v1.client import ApiError, Client
from mcp_server.tool import Answer, lines
from mcp_server.tools.read import READ
from mcp_server.values import compact, fit, from_struct, instant, invocation


class PastCall(Answer):
    """What became of a call."""

    idempotency_key: str
    known: bool
    state: Literal["done", "unknown"]
    method: str = ""
    request_hash: str = ""
    time: str = ""
    answer: dict[str, Any] = Field(default_factory=dict, description="as the core gave it")
    undo: str = Field(default="", description="what undo-changes takes to take it back")

    def text(self) -> str:
        """Return whether it was done, when, and its answer."""
        if not self.known:
            return f"Nothing was done under {self.idempotency_key}: it did not happen, or not yet."
        done = f"DONE at {self.time}: {self.method} under {self.idempotency_key}, request {self.request_hash[:16]}"
        return lines(done, compact(self.answer) if self.answer else "")

    def told(self) -> str:
        """Return the whole text: what was done, how to take it back, and what follows."""
        undo = self.undo and f"undo: {invocation('undo-changes', undo=self.undo)}"
        return lines(self._quoted(), undo, self.next and f"next: {self.next}")


@READ.tool("get-call", "Did my call happen?", "AuditService.GetCall", read_only=True)
async def get_call(
    client: Client,
    idempotency_key: Annotated[str, Field(min_length=1, max_length=200, description="of your commit")],
) -> PastCall:
    """Check whether a request or write of yours went through and was saved: after a timeout or a lost connection."""
    try:
        past = await client.audit.GetCall(audit_pb2.GetCallRequest(key=idempotency_key))
    except grpc.aio.AioRpcError as error:
        if ApiError.of(error).reason != "NOT_FOUND":
            raise
        again = "Send the commit again with the same idempotency_key: it acts once. If it waits for an approval: "
        return PastCall(
            idempotency_key=idempotency_key,
            known=False,
            state="unknown",
            next=again + 'list-approvals {"state":"pending"}',
        )
    return PastCall(
        idempotency_key=idempotency_key,
        known=True,
        state="done",
        method=past.method,
        request_hash=past.request_hash,
        time=instant(past.create_time),
        answer=fit(from_struct(past.answer), 3_000),
        undo=_undo_of(past),
        next="It is done: do not repeat it under another key.",
    )


def _undo_of(past: audit_pb2.PastCall) -> str:
    """Return the handle that takes a call back; empty where its answer named another one, or nothing can."""
    if past.method == "EnrollmentService.EnrollContacts":
        return f"enrolled:{past.key}"
    return past.cause if past.method.startswith(("RecordService.", "QualificationService.")) else ""
