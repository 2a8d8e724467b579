"""The step kinds: one file each, listed here; parser, error texts and JSON Schema derive from their fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.domain.frozen import frozen
from core.domain.steps.agent_task import AgentTask
from core.domain.steps.approval import Approval
from core.domain.steps.assign_owner import AssignOwner
from core.domain.steps.base import Step, config_schema
from core.domain.steps.branch import Branch
from core.domain.steps.create import Create
from core.domain.steps.emit_event import EmitEvent
from core.domain.steps.enroll import Enroll
from core.domain.steps.exit import Exit
from core.domain.steps.filter import Filter
from core.domain.steps.goal import Goal
from core.domain.steps.list import List
from core.domain.steps.log import Log
from core.domain.steps.message import Message
from core.domain.steps.score import Score
from core.domain.steps.split import Split
from core.domain.steps.update import Update
from core.domain.steps.wait import Wait
from core.domain.steps.wait_for_event import WaitForEvent
from core.domain.steps.webhook import Webhook

KINDS: tuple[type[Step], ...] = (
    Wait,
    Filter,
    Branch,
    Split,
    Score,
    WaitForEvent,
    Message,
    Webhook,
    Update,
    Create,
    AssignOwner,
    List,
    AgentTask,
    Approval,
    EmitEvent,
    Enroll,
    Log,
    Goal,
    Exit,
)
"""Every step kind, in the order in which they are listed."""

BY_NAME: Mapping[str, type[Step]] = {kind.kind: kind for kind in KINDS}


@frozen
class StepType:
    """A step kind as authors and agents are told of it."""

    kind: str
    summary: str
    config_schema: Mapping[str, Any]
    exits: tuple[str, ...]
    """Its exits, those included that it has only where the author writes them; `*` for those the author names."""
    waits: bool


def step_types() -> tuple[StepType, ...]:
    """Return every step kind with the JSON Schema of its configuration."""
    return tuple(
        StepType(kind.kind, kind.summary, config_schema(kind), (*kind.exits, *kind.optional_exits), kind.waits)
        for kind in KINDS
    )
