"""What the workflow tools answer."""

from __future__ import annotations

from pydantic import BaseModel, Field

from mcp_server.tool import Answer, lines
from mcp_server.values import compact


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
    """A step of a workflow."""

    id: str
    kind: str
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
        steps = [f"- {s.id} ({s.kind}){f' {compact(s.exits)}' if s.exits else ''}" for s in self.steps]
        started = f"starts on {', '.join(self.triggers)}" if self.triggers else ""
        return lines(
            f"{self.workflow_id} v{self.version} {self.state}: {self.title}",
            self.description,
            started,
            *steps,
            self.source,
        )
