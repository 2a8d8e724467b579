"""The tool that tells whether an earlier call was carried out, by the idempotency key it was sent with."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import grpc
from pydantic import Field

from dripstone.v1 import audit_pb2
from dripstone.v1.client import ApiError, Client
from mcp_server.tool import Answer, lines
from mcp_server.tools.read import READ
from mcp_server.values import compact, fit, from_struct, instant


class PastCall(Answer):
    """What became of a call."""

    idempotency_key: str
    known: bool
    state: Literal["done", "unknown"]
    method: str = ""
    request_hash: str = ""
    time: str = ""
    answer: dict[str, Any] = Field(default_factory=dict, description="as the core gave it")

    def text(self) -> str:
        """Return whether it was done, when, and its answer."""
        if not self.known:
            return f"Nothing was done under {self.idempotency_key}: it did not happen, or not yet."
        done = f"DONE at {self.time}: {self.method} under {self.idempotency_key}, request {self.request_hash[:16]}"
        return lines(done, compact(self.answer) if self.answer else "")


@READ.tool("get-call", "Did my call happen?", "AuditService.GetCall", read_only=True)
async def get_call(
    client: Client,
    idempotency_key: Annotated[str, Field(min_length=1, max_length=200, description="of your commit")],
) -> PastCall:
    """Tell whether a commit of yours was carried out, when, and what it answered. For answers lost on the way."""
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
        next="It is done: do not repeat it under another key.",
    )
