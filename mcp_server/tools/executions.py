"""What the execution tools answer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import grpc
from pydantic import BaseModel, Field

from dripstone.v1 import agent_pb2, enrollment_pb2
from dripstone.v1.agent_pb2 import ExecutionState
from dripstone.v1.client import Client
from mcp_server.progress import Progress
from mcp_server.tool import Answer, WriteAnswer, lines
from mcp_server.values import compact, invocation, word

LONGEST_WATCH = 25
"""Seconds for which one call follows a run; clients and what lies between give up on a silent one soon after."""


class ExecutedStep(BaseModel):
    """A step that an execution took."""

    step_id: str
    outcome: str
    reason: str = ""
    cost: float = 0
    time: str = ""


class ExecutionAnswer(Answer):
    """One execution."""

    execution_id: str
    workflow_id: str
    state: str
    agent_id: str = ""
    enrollment_id: str = ""
    contact_id: str = ""
    result: dict[str, Any] = Field(default_factory=dict)
    error: str = ""
    waiting_for: str = ""
    waiting_until: str = ""
    steps: list[ExecutedStep] = Field(default_factory=list, description="the last ones taken, oldest first")
    cost: float = 0
    tokens: int = 0

    def text(self) -> str:
        """Return state, wait, steps and outcome."""
        waits = f"waits for {self.waiting_for or 'its turn'}" if self.waiting_for or self.waiting_until else ""
        until = f" until {self.waiting_until}" if self.waiting_until else ""
        steps = [f"- {s.time} {s.step_id} {s.outcome}: {s.reason}" for s in self.steps]
        cost = f"cost {self.cost:g}, {self.tokens} tokens" if self.cost or self.tokens else ""
        outcome = self.error or (compact(self.result) if self.result else "")
        head = f"{self.execution_id} {self.state}: {self.workflow_id} for {self.contact_id}"
        return lines(head, waits and waits + until, *steps, cost, outcome)


class Execution(WriteAnswer):
    """A run of a workflow, started."""

    execution_id: str = ""
    workflow_id: str
    agent_id: str = ""
    state: str
    enrollment_id: str = ""
    contact_id: str = ""
    contact: str = Field(default="", description="as the input names it")
    version: str = Field(default="", description="of a preview, for if_version")
    result: dict[str, Any] = Field(default_factory=dict)
    error: str = ""

    def text(self) -> str:
        """Return what runs, or would run."""
        what = f"{self.workflow_id} for {self.contact or self.contact_id or 'the contact'}"
        started = f"execution {self.execution_id} {self.state}: {what}, enrollment {self.enrollment_id}"
        return lines(
            self.heading(f"would run {what}", started), self.error or (compact(self.result) if self.result else "")
        )


async def watched(client: Client, execution_id: str, seconds: int, progress: Progress) -> agent_pb2.Execution:
    """Return an execution as it is, or once it has ended within so many seconds; each step is told as it is taken."""
    request = agent_pb2.GetExecutionRequest(execution_id=execution_id)
    execution = await client.agents.GetExecution(request)
    over = execution.state not in (
        ExecutionState.EXECUTION_STATE_RUNNING,
        ExecutionState.EXECUTION_STATE_AWAITING_APPROVAL,
    )
    if not seconds or over or not execution.enrollment_id:
        return execution
    watching = client.enrollments.WatchEnrollment(
        enrollment_pb2.WatchEnrollmentRequest(enrollment_id=execution.enrollment_id)
    )
    try:
        async with asyncio.timeout(seconds):
            async for message in watching:
                entry = message.entry
                if entry.seq:
                    await progress.tell(entry.seq, message=f"{entry.step_id or entry.kind}: {entry.outcome}")
    except (TimeoutError, grpc.aio.AioRpcError):  # the key may follow executions and not enrollments
        pass
    finally:
        watching.cancel()
    return await client.agents.GetExecution(request)


def execution_state(execution: agent_pb2.Execution) -> str:
    """Return the state of an execution as a word."""
    return word(ExecutionState.Name(execution.state), "EXECUTION_STATE_")


def contact_in(payload: Mapping[str, Any]) -> str:
    """Return the contact of a payload as the caller named it."""
    return next((str(payload[name])[:80] for name in ("email", "contact_id", "lead_ref") if payload.get(name)), "")


def follow_execution(execution: agent_pb2.Execution) -> str:
    """Return the call that shows what becomes of an execution, or what it waits for."""
    running = execution.state == ExecutionState.EXECUTION_STATE_RUNNING
    if execution.state == ExecutionState.EXECUTION_STATE_AWAITING_APPROVAL:
        return f"Tell the person that another principal must decide; {invocation('list-approvals', state='pending')}"
    if not execution.enrollment_id:
        return "It still runs: come back when the person asks; do not poll." if running else ""
    call = invocation("get-enrollment", enrollment_id=execution.enrollment_id)
    return f"It still runs; do not poll. What it waits for and until when: {call}" if running else call
