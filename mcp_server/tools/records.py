"""What the record tools answer: records in lists and in full, and each field before and after."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, Field

from dripstone.v1.record_pb2 import Record, RecordChange
from mcp_server.tool import Answer, WriteAnswer, lines
from mcp_server.values import clip, compact, from_struct

HEADLINE = (
    "email", "first_name", "last_name", "name", "domain", "company_name", "job_title", "contact_id", "status",
    "decision", "tier", "score", "owner_id",
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

    record_id: str
    changes: list[Change] = Field(default_factory=list)
    version: str = Field(default="", description="after a commit; in a preview the one it was made for")

    def text(self) -> str:
        """Return each field before and after."""
        if not self.changes:
            return self.heading(
                f"{self.record_id} has these values already", f"{self.record_id} had these values already"
            )
        changes = [f"- {change.field}: {compact(change.old)} -> {compact(change.new)}" for change in self.changes]
        return lines(self.heading(f"would change {self.record_id}", f"changed {self.record_id}"), *changes)


FEW = 4
"""Changes that an undo handle names one by one; more are named by the call that made them."""


def undo_of(changes: Sequence[RecordChange], key: str) -> str:
    """Return the handle that takes changes of one call back; empty where there were none."""
    if len(changes) > FEW:
        return f"call:{key}"
    return ",".join(change.id for change in changes)
