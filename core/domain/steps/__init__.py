"""The step kinds: one file each, listed here; parser, error texts and JSON Schema derive from their fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core.domain.steps.approval import Approval
from core.domain.steps.base import Step, config_schema
from core.domain.steps.branch import Branch
from core.domain.steps.exit import Exit
from core.domain.steps.log import Log
from core.domain.steps.update import Update
from core.domain.steps.wait import Wait
from core.domain.steps.wait_for_event import WaitForEvent
from core.domain.steps.webhook import Webhook

KINDS: tuple[type[Step], ...] = (Wait, Branch, WaitForEvent, Webhook, Update, Approval, Log, Exit)
"""Every step kind, in the order in which they are listed."""

BY_NAME: Mapping[str, type[Step]] = {kind.kind: kind for kind in KINDS}


@dataclass(frozen=True, slots=True)
class StepType:
    """A step kind as authors and agents are told of it."""

    kind: str
    summary: str
    config_schema: Mapping[str, Any]
    exits: tuple[str, ...]
    waits: bool


def step_types() -> tuple[StepType, ...]:
    """Return every step kind with the JSON Schema of its configuration."""
    return tuple(StepType(kind.kind, kind.summary, config_schema(kind), kind.exits, kind.waits) for kind in KINDS)
