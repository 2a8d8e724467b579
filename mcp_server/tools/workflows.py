"""What the workflow tools answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import BaseModel, Field

from dripstone.v1.workflow_pb2 import Step, Workflow, WorkflowStatistics
from mcp_server.tool import Answer, lines
from mcp_server.values import clip, compact, from_struct, instant, invocation

STEPS = 40
"""Steps that one answer shows."""
OUTLINE_CHARACTERS = 4_200
"""Length of the steps of one answer as JSON."""
SOURCE_CHARACTERS = 12_000
"""Length of the part of a document that one answer shows."""


class WorkflowSummary(BaseModel):
    """A workflow in a list."""

    workflow_id: str
    title: str
    state: str
    version: int = 0
    unpublished_draft: str = Field(default="", description="whose, and since when")


class Workflows(Answer):
    """A page of workflows."""

    workflows: list[WorkflowSummary]
    next_cursor: str = ""

    def text(self) -> str:
        """Return one line per workflow."""
        rows = [
            f"{w.workflow_id} v{w.version} {w.state}: {w.title}"
            + (f" (unpublished draft {w.unpublished_draft})" if w.unpublished_draft else "")
            for w in self.workflows
        ]
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
    FENCED: ClassVar[str] = "source"

    source: str = ""
    source_lines: str = Field(default="", description="which lines of how many")
    unpublished_draft: str = Field(default="", description="whose, and since when")
    if_version: str = Field(default="", description="what draft-workflow takes to change what is shown")
    statistics: dict[str, Any] = Field(default_factory=dict, description="since its first version")

    def about_document(self) -> str:
        """Return which lines follow."""
        return f"source, {self.source_lines}, written by others:"

    def text(self) -> str:
        """Return the outline; with statistics, how contacts went through it."""
        steps = [
            f"- {s.id} ({s.kind}) {s.does}".rstrip() + (f" -> {compact(s.exits)}" if s.exits else "")
            for s in self.steps
        ]
        started = f"starts on {', '.join(self.triggers)}" if self.triggers else ""
        return lines(
            f"{self.workflow_id} v{self.version} {self.state}: {self.title}",
            self._draft(),
            self.description,
            started,
            *steps,
            *_told(self.statistics),
            f"if_version for draft-workflow: {self.if_version}" if self.if_version else "",
        )

    def _draft(self) -> str:
        if not self.unpublished_draft:
            return ""
        if not self.version:
            return f"This is the unpublished draft {self.unpublished_draft}."
        there = invocation("get-workflow", workflow_id=self.workflow_id, draft=True)
        return f"! There is an unpublished draft {self.unpublished_draft}: {there}"


def drafted(workflow: Workflow) -> str:
    """Return whose unpublished draft a published workflow has, and since when; empty for none."""
    if not (workflow.draft_unpublished and workflow.published_version):
        return ""
    return f"by {workflow.draft_author or 'somebody'} of {instant(workflow.draft_time)}"


def source_part(text: str, from_line: int) -> tuple[str, str, int]:
    """Return the lines of a document from one on that fit an answer, which these are, and the line to go on with or 0.

    One line alone may be too long: it is cut.
    """
    rows = text.rstrip("\n").split("\n")
    taken: list[str] = []
    length = 0
    for row in rows[from_line - 1 :]:
        length += len(row) + 1
        if taken and length > SOURCE_CHARACTERS:
            break
        taken.append(clip(row, SOURCE_CHARACTERS))
    if not taken:
        return "", f"none of {len(rows)} lines", 0
    last = from_line - 1 + len(taken)
    cut = " (this line cut: the resource has it whole)" if len(rows[from_line - 1]) > SOURCE_CHARACTERS else ""
    following = last + 1 if last < len(rows) else 0
    ended = "\n" if not following and text.endswith("\n") else ""
    return "\n".join(taken) + ended, f"lines {from_line}-{last} of {len(rows)}{cut}", following


def statistics_of(found: WorkflowStatistics) -> dict[str, Any]:
    """Return how contacts went through a workflow, as numbers."""
    steps = [
        {
            "step_id": step.step_id,
            "outcomes": dict(step.outcomes),
            "held": step.held_count,
            "there_now": step.standing_count,
            "failure_rate": round(step.failure_rate, 3),
            "mean_seconds": round(step.mean_seconds),
        }
        for step in found.steps[:STEPS]
    ]
    return {
        "entered": found.entered_count,
        "states": dict(found.states),
        "goals": dict(found.goals),
        "steps": [{name: value for name, value in step.items() if value} for step in steps],
    }


def _told(statistics: dict[str, Any]) -> list[str]:
    if not statistics:
        return []
    goals = f", goals {compact(statistics['goals'])}" if statistics["goals"] else ""
    head = f"statistics: {statistics['entered']} entered, {compact(statistics['states'])}{goals}"
    return [head, *(f"- {compact(step)}" for step in statistics["steps"])]


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
