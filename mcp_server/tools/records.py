"""What the record tools answer: records in lists and in full, and each field before and after."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, Field

from dripstone.v1.record_pb2 import Record, RecordChange
from mcp_server.tool import Answer, WriteAnswer, lines
from mcp_server.values import clip, compact, from_struct, from_value

HEADLINE = (
    "email", "first_name", "last_name", "name", "title", "subject", "text", "domain", "company_name", "job_title",
    "contact_id", "company_id", "kind", "status", "stage_id", "amount", "due_at", "decision", "tier", "score",
    "owner_id",
)  # fmt: skip
"""Fields that a list shows of a record, where it has them."""


class RecordSummary(BaseModel):
    """A record in a list."""

    record_id: str
    fields: dict[str, Any]


class Records(Answer):
    """A page of records."""

    records: list[RecordSummary]
    next_cursor: str = ""

    def text(self) -> str:
        """Return one line per record."""
        rows = [f"{record.record_id} {compact(record.fields)}" for record in self.records]
        return lines(*rows) or "No record matches."


class Change(BaseModel):
    """One edit of one field."""

    field: str
    old: Any
    new: Any
    actor: str = ""
    cause: str = ""
    time: str = ""


class RecordAnswer(Answer):
    """One record."""

    record_id: str
    type: str
    fields: dict[str, Any]
    external_refs: dict[str, str] = Field(default_factory=dict)
    version: str = Field(default="", description="what if_version takes")
    updated: str = ""
    changes: list[Change] = Field(default_factory=list, description="newest first")

    def text(self) -> str:
        """Return the fields and the changes asked for."""
        changes = [f"- {c.time} {c.field}: {compact(c.old)} -> {compact(c.new)} by {c.actor}" for c in self.changes]
        refs = f" refs {compact(self.external_refs)}" if self.external_refs else ""
        return lines(f"{self.type} {self.record_id} version {self.version}{refs}", compact(self.fields), *changes)


def headline(record: Record) -> dict[str, Any]:
    """Return the fields of a record that a list shows."""
    fields = from_struct(record.fields)
    return {name: clip(fields[name], 80) for name in HEADLINE if fields.get(name) not in (None, "")}


class Update(WriteAnswer):
    """What changed in a record."""

    record_id: str = ""
    type: str = Field(default="", description="of a record that was not named by its id")
    created: bool = Field(default=False, description="there was none; or, in a preview, is none yet")
    changes: list[Change] = Field(default_factory=list)
    version: str = Field(default="", description="after a commit; in a preview the one it was made for")

    def text(self) -> str:
        """Return each field before and after."""
        if not self.changes and not self.created:
            return self.heading(
                f"{self.record_id} has these values already", f"{self.record_id} had these values already"
            )
        changes = [f"- {change.field}: {compact(change.old)} -> {compact(change.new)}" for change in self.changes]
        at = f", version {self.version}" if self.version else ""
        if self.created:
            heading = self.heading(f"would create a {self.type}", f"created the {self.type} {self.record_id}{at}")
            return lines(heading, *changes, "Taking it back deletes it." if self.undo else "")
        return lines(self.heading(f"would change {self.record_id}{at}", f"changed {self.record_id}{at}"), *changes)


def changes_of(changes: Sequence[RecordChange]) -> list[Change]:
    """Return what a write changed, field by field."""
    return [
        Change(field=change.field, old=clip(from_value(change.old_value)), new=clip(from_value(change.new_value)))
        for change in changes
    ]


FEW = 4
"""Changes that an undo handle names one by one; more are named by the call that made them."""


def undo_of(changes: Sequence[RecordChange]) -> str:
    """Return the handle that takes changes of one call back; empty where there were none."""
    if len(changes) > FEW:
        return cause_of(changes)
    return ",".join(change.id for change in changes)


def cause_of(changes: Sequence[RecordChange]) -> str:
    """Return what caused changes, without the reason that is told with it; empty where nothing says."""
    return next((change.cause.partition(" (")[0] for change in changes if change.cause), "")
