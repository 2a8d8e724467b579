"""What the workflow tools answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, Field

from dripstone.v1.workflow_pb2 import Step
from mcp_server.tool import Answer, lines
from mcp_server.values import clip, compact, from_struct

STEPS = 40
"""Steps that one answer shows."""
OUTLINE_CHARACTERS = 4_200
"""Length of the steps of one answer as JSON."""


class WorkflowSummary(BaseModel):
    """A workflow in a list."""

    workflow_id: str
    title: str
    state: str
    version: int = 0


class Workflows(Answer):
    """A page of workflows."""

    workflows: list[WorkflowSummary]
    next_cursor: str = ""

    def text(self) -> str:
        """Return one line per workflow."""
        rows = [f"{w.workflow_id} v{w.version} {w.state}: {w.title}" for w in self.workflows]
        return lines(*rows) or "No workflow matches."


class StepSummary(BaseModel):
    """A step of a workflow: what it is, what it does, where it leads."""

    id: str
    kind: str
    does: str = Field(default="", description="its configuration")
    exits: dict[str, str] = Field(default_factory=dict)


class WorkflowAnswer(Answer):
    """One workflow."""

    workflow_id: str
    title: str
    state: str
    version: int = Field(default=0, description="the version shown; 0 is the draft")
    description: str = ""
    reentry: str = ""
    triggers: list[str] = Field(default_factory=list)
    steps: list[StepSummary] = Field(default_factory=list)
    source: str = ""
    source_omitted: int = Field(default=0, description="characters of source left out")

    def text(self) -> str:
        """Return the outline, and the source where it was asked for."""
        steps = [
            f"- {s.id} ({s.kind}) {s.does}".rstrip() + (f" -> {compact(s.exits)}" if s.exits else "")
            for s in self.steps
        ]
        started = f"starts on {', '.join(self.triggers)}" if self.triggers else ""
        return lines(
            f"{self.workflow_id} v{self.version} {self.state}: {self.title}",
            self.description,
            started,
            *steps,
            self.source,
        )


def outline(steps: Sequence[Step]) -> list[StepSummary]:
    """Return what each step is and does, cut as little as keeps the whole short enough for a model."""
    for length in (120, 60, 30, 0):
        found = [
            StepSummary(id=step.id, kind=step.kind, does=_does(step, length), exits=dict(step.exits))
            for step in steps[:STEPS]
        ]
        if len(compact([step.model_dump(exclude_defaults=True) for step in found])) <= OUTLINE_CHARACTERS:
            break
    return found


def _does(step: Step, length: int) -> str:
    """Return the configuration of a step in one line: `for 2d`; `event reply.received; timeout 3d`."""
    config = {name: value for name, value in from_struct(step.config).items() if name != "title"}
    short_first = sorted(config.items(), key=lambda item: (isinstance(item[1], dict | list), item[0]))
    said = "; ".join(f"{name} {_said(value)}" for name, value in short_first)
    return str(clip(said, length)) if length else ""


def _said(value: Any) -> str:
    match value:
        case str():
            return value
        case {"cel": str() as expression}:
            return expression
        case {"name": str() as name, "when": str() as when}:
            return f"{name} when {when}"
        case {}:
            return ", ".join(f"{name} = {_said(item)}" for name, item in value.items())
        case []:
            return ""
        case [*items]:
            return ", ".join(_said(item) for item in items)
        case _:
            return compact(value)
