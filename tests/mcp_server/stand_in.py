"""A stand-in for the core: the contract's services over real gRPC, with a few rows in memory and the core's own errors.

It serves until the whole core can be started inside a test; the tests see only addresses and keys.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import grpc
from google.protobuf.message import Message
from grpc_status import rpc_status

from core.domain import errors
from core.rpc.convert import to_struct, to_timestamp
from core.rpc.errors import to_status
from dripstone.v1 import (
    organization_pb2,
    qualification_pb2,
    record_pb2,
    workflow_pb2,
)

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
EVERYTHING = (
    "records:read", "records:write", "workflows:read", "enrollments:read", "enrollments:write", "leads:qualify",
    "executions:read", "executions:write", "approvals:read",
)  # fmt: skip
AGENT, APPROVER, READER = "dripstone_live_agent", "dripstone_live_approver", "dripstone_live_reader"
LIMITED = "dripstone_live_limited"
LIMITS = {LIMITED: organization_pb2.KeyLimits(methods=["WorkflowService.ListWorkflows"])}
SCOPES = {
    AGENT: EVERYTHING,
    APPROVER: ("approvals:read", "approvals:decide"),
    READER: ("records:read", "workflows:read"),
    LIMITED: ("records:read", "workflows:read"),
}
LEAD, CONTACT = "lead_1", "cnt_1"
WORKFLOW = workflow_pb2.Workflow(
    id="nurture",
    title="Nurture for trials",
    state=workflow_pb2.WORKFLOW_STATE_ACTIVE,
    published_version=2,
    document=workflow_pb2.WorkflowDocument(
        title="Nurture for trials",
        description="Three touches.",
        steps=[workflow_pb2.Step(id="pause", kind="wait"), workflow_pb2.Step(id="tell", kind="webhook")],
    ),
    source="title: Nurture for trials\n",
)

Context = grpc.aio.ServicerContext[Any, Any]


@dataclass
class StandIn:
    """A running stand-in and what it remembers."""

    grpc_target: str = ""
    api_key: str = AGENT
    approver_api_key: str = APPROVER
    reader_api_key: str = READER
    calls: list[tuple[str, Message]] = field(default_factory=list)
    answers: dict[str, tuple[str, Message]] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=lambda: {"email": "ada@example.com", "first_name": "Ada"})
    rev: int = 1
    needs_approval: bool = False
    disqualifiers: list[qualification_pb2.Contribution] = field(default_factory=list)
    approved: bool = False
    applied: bool = False
    broken: Exception | None = None

    def sent(self, kind: type[Message]) -> list[Any]:
        """Return the requests of a kind, in order."""
        return [request for _, request in self.calls if isinstance(request, kind)]

    async def admit(
        self, request: Any, context: Context, scope: str, act: Callable[[], Message | Awaitable[Message]]
    ) -> Any:
        """Do what the pipeline does: know the caller, answer repeats from the store, translate errors."""
        metadata = dict(context.invocation_metadata() or ())
        key = str(metadata.get("authorization", "")).removeprefix("Bearer ")
        self.calls.append((key, request))
        try:
            if self.broken:
                raise self.broken
            if key not in SCOPES:
                raise errors.Unauthenticated()
            if scope and scope not in SCOPES[key]:
                raise errors.ScopeMissing(scope=scope, method=type(request).__name__)
            request_id = getattr(request, "request_id", "") or getattr(request, "idempotency_key", "")
            digest = hashlib.sha256(request.SerializeToString(deterministic=True)).hexdigest()
            if request_id and (stored := self.answers.get(request_id)):
                if stored[0] != digest:
                    raise errors.IdempotencyConflict(
                        key=request_id, method="X.Y", first_hash=stored[0][:12], first_time="2026-03-02T09:00:00Z"
                    )
                context.set_trailing_metadata((("dripstone-replayed", "true"),))
                return stored[1]
            answer = act()
            if request_id:
                self.answers[request_id] = (digest, answer)
            return answer
        except errors.DripstoneError as error:
            await context.abort_with_status(rpc_status.to_status(to_status(error)))

    def record(self) -> record_pb2.Record:
        return record_pb2.Record(
            id=CONTACT, type="contact", fields=to_struct(self.fields), etag=str(self.rev), update_time=to_timestamp(NOW)
        )
