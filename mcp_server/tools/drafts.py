"""What the author tools answer: what is wrong with a document, how it differs, what it would do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from pydantic import BaseModel, Field

from dripstone.v1.workflow_pb2 import Problem as WrittenProblem
from mcp_server.tool import Answer, WriteAnswer, lines
from mcp_server.values import clip, compact

PROBLEMS, DIFF_LINES, DIFF_CHARACTERS = 12, 60, 2_000
"""How much of what is wrong, and of a difference, one answer shows."""


class DocumentProblem(BaseModel):
    """One thing wrong with a document."""

    path: str
    line: int = 0
    column: int = 0
    reason: str
    message: str
    hint: str = ""

    def told(self) -> str:
        """Return the problem as one line."""
        where = f"line {self.line}: " if self.line else ""
        return f"- {where}{self.path}: {self.message}. {self.hint}".replace("..", ".").strip()


class Draft(WriteAnswer):
    """A draft, checked and compared."""

    workflow_id: str = ""
    creates: bool = Field(default=False, description="there is no such workflow yet")
    valid: bool = False
    problems: list[DocumentProblem] = Field(default_factory=list)
    problems_omitted: int = 0
    compared_with: str = ""
    replaces: str = Field(default="", description="the unpublished draft that goes: whose, since when")
    diff: list[str] = Field(default_factory=list)
    version: str = Field(default="", description="for if_version")
    published_version: int = 0
    FENCED: ClassVar[str] = "source"

    source: str = ""
    way_back: str = Field(default="", description="the call that puts back what was published before")
    step_kinds: list[dict[str, Any]] = Field(default_factory=list)
    templates: list[dict[str, str]] = Field(default_factory=list)

    def text(self) -> str:
        """Return what is wrong, then what differs; the reference where that was asked for."""
        if self.step_kinds:
            kinds = [f"- {kind.pop('kind')}: {compact(kind)}" for kind in map(dict, self.step_kinds)]
            models = [f"- {one['id']}: {one['title']}" for one in self.templates]
            return lines("Step kinds:", *kinds, "Templates (template=id):" if models else "", *models)
        what = f"{'create' if self.creates else 'change'} the draft of {self.workflow_id or 'a new workflow'}"
        done = f"{'created' if self.creates else 'changed'} the draft of {self.workflow_id}, version {self.version}"
        state = "It can be published." if self.valid else f"{len(self.problems) + self.problems_omitted} problems:"
        more = f"… {self.problems_omitted} more" if self.problems_omitted else ""
        compared = f"Against {self.compared_with}:" if self.diff else ""
        goes = f"! {'Replaces' if self.mode == 'preview' else 'Replaced'} the unpublished draft {self.replaces}."
        return lines(
            self.heading(f"would {what}", done),
            goes if self.replaces else "",
            state,
            *(problem.told() for problem in self.problems),
            more,
            compared,
            *self.diff,
            self.way_back and f"way back: {self.way_back}",
        )


class Proposal(WriteAnswer):
    """What publishing does, or would do."""

    workflow_id: str
    draft: str = Field(default="", description="whose, since when")
    before: int = Field(default=0, description="published version before")
    after: int = Field(default=0, description="published version after")
    valid: bool = False
    problems: list[DocumentProblem] = Field(default_factory=list)
    diff: list[str] = Field(default_factory=list)
    running: int = Field(default=0, description="enrollments that stay on the version they entered")
    steps_removed: dict[str, int] = Field(default_factory=dict, description="step and who stands there")
    approval: str = Field(default="", description="why a person must agree first")
    version: str = Field(default="", description="for if_version")
    way_back: str = Field(default="", description="the call that puts back what was published before")

    def why_approval(self) -> str:
        """Return why a person must agree to the publication first."""
        return self.approval

    def text(self) -> str:
        """Return what becomes of whom, then what differs."""
        published = f"{self.workflow_id} version {self.after} is published"
        stay = f"{self.running} running enrollments stay on the version they entered." if self.running else ""
        gone = (
            f"Steps that are gone, with who stands there: {compact(self.steps_removed)}" if self.steps_removed else ""
        )
        return lines(
            self.heading(f"would publish {self.workflow_id} as version {self.after}", published),
            "" if self.valid else "It cannot be published:",
            *(problem.told() for problem in self.problems),
            f"A person must agree first: {self.approval}" if self.approval else "",
            stay,
            gone,
            f"The draft {self.draft}, against version {self.before}:" if self.diff and self.before else "",
            *self.diff,
            self.way_back and f"way back: {self.way_back}",
        )


class FunnelLine(BaseModel):
    """How many went through a step."""

    step_id: str
    kind: str
    entered: int = 0
    waiting: int = 0
    failed: int = 0
    held: int = 0
    exits: dict[str, int] = Field(default_factory=dict)


class ExclusionLine(BaseModel):
    """Who never entered, for one reason."""

    reason: str
    message: str
    count: int
    contacts: list[str] = Field(default_factory=list)


class SimulationAnswer(Answer):
    """What would happen."""

    entered: int = 0
    states: dict[str, int] = Field(default_factory=dict)
    funnel: list[FunnelLine] = Field(default_factory=list)
    exclusions: list[ExclusionLine] = Field(default_factory=list)
    messages: dict[str, int] = Field(default_factory=dict, description="by channel")
    busiest_day: str = ""
    warnings: list[str] = Field(default_factory=list)
    difference: dict[str, Any] = Field(default_factory=dict)
    timeline: list[str] = Field(default_factory=list, description="one contact, step by step")
    problems: list[DocumentProblem] = Field(default_factory=list)
    start: str = ""
    end: str = ""

    def text(self) -> str:
        """Return the funnel and who is left out."""
        if self.problems:
            return lines("Nothing was simulated:", *(problem.told() for problem in self.problems))
        funnel = [
            f"- {step.step_id} ({step.kind}): {step.entered} in"
            + "".join(f", {count} {name}" for name, count in _notable(step))
            + (f" -> {compact(step.exits)}" if step.exits else "")
            for step in self.funnel
        ]
        out = [
            f"- {one.count} not entered, {one.reason}: {one.message} ({', '.join(one.contacts)})"
            for one in self.exclusions
        ]
        sent = f"Messages: {compact(self.messages)}, most on {self.busiest_day}" if self.messages else ""
        return lines(
            f"SIMULATED, nothing happened: {self.entered} enter, {self.start} to {self.end}",
            f"In the end: {compact(self.states)}",
            *funnel,
            *out,
            sent,
            f"Against the other version: {compact(self.difference)}" if self.difference else "",
            *(f"Warning: {warning}" for warning in self.warnings),
            *self.timeline,
        )


def _notable(step: FunnelLine) -> Iterable[tuple[str, int]]:
    found = (("waiting at the end", step.waiting), ("failed", step.failed), ("held", step.held))
    return (one for one in found if one[1])


def problems_of(found: Sequence[WrittenProblem]) -> list[DocumentProblem]:
    """Return the first problems of a document."""
    return [
        DocumentProblem(
            path=one.path,
            line=one.line,
            column=one.column,
            reason=one.reason,
            message=clip(one.message, 200),
            hint=clip(one.hint, 160),
        )
        for one in found[:PROBLEMS]
    ]


def difference(before: str, after: str) -> list[str]:
    """Return how two texts differ, as the lines of a unified diff without its heading, cut where it is long."""
    found = list(difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=1))[2:]
    shown: list[str] = []
    length = 0
    for line in found[:DIFF_LINES]:
        cut = clip(line, 160)
        length += len(cut)
        if length > DIFF_CHARACTERS:
            break
        shown.append(cut)
    more = len(found) - len(shown)
    return [*shown, f"… {more} more lines"] if more else shown
