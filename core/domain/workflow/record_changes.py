"""A change of a record as an event: its name, what it carries, and what of it matters to an expression.

A change travels like everything else that happens, as an event of the core's own, `$record.contact` and the like.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from core.domain.enrollment import EventFacts
from core.domain.frozen import frozen
from core.domain.records.changes import Change
from core.domain.records.standard import KNOWN_TO_WORKFLOWS, is_known_to_workflows
from core.domain.workflow.expression_text import Mention
from core.domain.workflow.variables import NO_RECORDS

RECORD = "record"
"""Type of the events that tell of changed records; no event that comes in has it."""

OF_CONTACT = ("contact", "lead", "company")
"""The types of which a contact has one in hand; of others, an enrollment is about the one whose change led to it."""

LISTS = "lists"
"""How a change of the contact's lists is called among the changed fields."""


CONTACT = "contact_id"
"""The field by which records usually refer to a contact."""


def record_event(record_type: str, by: str = CONTACT) -> str:
    """Return the name of the event that tells of a changed record; empty for types that nobody listens to.

    `by` is the field that refers to the contact whose event it is.
    """
    if not is_known_to_workflows(record_type):
        return ""
    return f"$record.{record_type}" if by == CONTACT else f"$record.{record_type}:{by}"


@frozen
class ChangedRecord:
    """A record that was created or changed, as its event carries it."""

    record_type: str
    record_id: str
    created: bool
    changes: tuple[Change, ...]
    actor: str = ""
    cause: str = ""
    workflow_id: str = ""
    """The workflow whose enrollment changed it; it is not triggered by its own doing."""
    rev: int = 0
    """The record's, after the change; 0 for what is kept beside the record."""
    left: bool = False
    """It is told to the contact that the record referred to before: this starts nothing."""

    @property
    def about(self) -> dict[str, str]:
        """Return what an enrollment is about that this change leads to, id by type."""
        return {} if self.record_type in OF_CONTACT else {self.record_type: self.record_id}

    @classmethod
    def of(cls, event: EventFacts) -> ChangedRecord:
        """Return the change that an event tells of."""
        told = event.fields
        changes = (Change(one["field"], one.get("old_value"), one.get("new_value")) for one in told.get("changes", ()))
        return cls(
            str(told.get("record_type", "")),
            str(told.get("record_id", "")),
            told.get("created") is True,
            tuple(changes),
            str(told.get("actor", "")),
            str(told.get("cause", "")),
            str(told.get("workflow_id", "")),
            int(told.get("rev", 0)),
            told.get("left") is True,
        )

    def to_fields(self) -> dict[str, Any]:
        """Return it as the fields of its event."""
        return {
            "record_type": self.record_type,
            "record_id": self.record_id,
            "created": self.created,
            "changes": [{"field": one.field, "old_value": one.old, "new_value": one.new} for one in self.changes],
            "actor": self.actor,
            "cause": self.cause,
            "workflow_id": self.workflow_id,
            "rev": self.rev,
            **({"left": True} if self.left else {}),
        }


def events_that_matter(mentions: Collection[Mention]) -> list[str]:
    """Return the names of the record events that may change what is mentioned."""
    roots = {mention.variable.partition(".")[0] for mention in mentions} - NO_RECORDS
    if "company" in roots:
        roots.add("contact")  # says which company it is
    in_order = (*KNOWN_TO_WORKFLOWS, *sorted(roots - frozenset(KNOWN_TO_WORKFLOWS)))
    return [name for root in in_order if root in roots and (name := record_event(root))]


def concerns(named: str, changed: str) -> bool:
    """Tell whether a change is of a named field, of a part of it, or of what it is a part of."""
    return changed == named or changed.startswith(f"{named}.") or named.startswith(f"{changed}.")


def touches(event: EventFacts, mentions: Collection[Mention]) -> bool:
    """Tell whether an event tells of a change of something that is mentioned."""
    if event.type != RECORD:
        return False
    change = ChangedRecord.of(event)
    named = [mention.label.partition(".") for mention in mentions]
    if any(root == "company" for root, _, _ in named) and change.record_type == "contact":
        named.append(("contact", ".", "company_id"))
    fields = [one.field for one in change.changes]
    return any(root == change.record_type and any(concerns(field, one) for one in fields) for root, _, field in named)
