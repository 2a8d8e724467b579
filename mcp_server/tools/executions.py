"""What the execution tools answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from dripstone.v1 import agent_pb2
from dripstone.v1.agent_pb2 import ExecutionState
from mcp_server.tool import Answer, WriteAnswer, lines
from mcp_server.values import compact, invocation, word


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

    def text(self) -> str:
        """Return state and outcome."""
        outcome = self.error or (compact(self.result) if self.result else "")
        return lines(f"{self.execution_id} {self.state}: {self.workflow_id} for {self.contact_id}", outcome)


class Execution(WriteAnswer):
    """A run of a workflow, started."""

    execution_id: str = ""
    workflow_id: str
    agent_id: str = ""
    state: str
    enrollment_id: str = ""
    contact_id: str = ""
    contact: str = Field(default="", description="as the input names it")
    result: dict[str, Any] = Field(default_factory=dict)
    error: str = ""

    def text(self) -> str:
        """Return what runs, or would run."""
        what = f"{self.workflow_id} for {self.contact or self.contact_id or 'the contact'}"
        started = f"execution {self.execution_id} {self.state}: {what}, enrollment {self.enrollment_id}"
        return lines(
            self.heading(f"would run {what}", started), self.error or (compact(self.result) if self.result else "")
        )


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
