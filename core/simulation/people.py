"""The contacts while they are simulated: their facts as they change, and the enrollments they are in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from core.domain.effects import ChangeList, CreateRecord, SendMessage, UpdateRecord, WithdrawMessages
from core.domain.enrollment import Enrollment, Facts, MessageEnded, RecordFacts, Sent, Stimulus
from core.domain.frozen import copied
from core.domain.records import pipelines
from core.domain.records.changes import Change, apply, diff
from core.domain.records.fields import CLOSED_LEAD_STATUSES
from core.domain.trace import TraceEntry
from core.domain.workflow.record_changes import LISTS, ChangedRecord
from core.simulation.result import Turn
from core.simulation.subjects import Subject

MOST_MOVES = 5_000
"""Decisions about one enrollment; one that has more is left where it stands, and the result warns of it."""


@dataclass(slots=True, eq=False)
class Running:
    """One enrollment on its way."""

    person: Person
    enrollment: Enrollment
    visiting: str = ""
    """The step it stands in and has not left; empty between steps."""
    since: datetime | None = None
    """When that visit began."""
    followed: str = ""
    """The step of which the events that follow it are on their way already."""
    moves: int = 0
    turns: list[Turn] = field(default_factory=list)
    entries: list[TraceEntry] | None = None
    """Its trace, where a timeline is wanted."""
    unsent: dict[str, str] = field(default_factory=dict)
    """Messages of whose outcome it has not heard, and the step of each."""

    def hears(self, stimulus: Stimulus) -> bool:
        """Tell whether something can happen to it: what was taken back has no other outcome any more."""
        return not isinstance(stimulus, MessageEnded) or self.unsent.pop(stimulus.message_id, None) is not None

    def take_back(self, effect: WithdrawMessages) -> list[MessageEnded]:
        """Return the outcomes of messages that have not left and are not wanted any more."""
        gone = [one for one in self.unsent if effect.message_id in ("", one)]
        return [MessageEnded(one, False, f"skipped: {effect.reason}", self.unsent[one]) for one in gone]

    def waits_for(self, event: str, key: str) -> bool:
        """Tell whether it waits for an event of this name under a key."""
        waiting = self.enrollment.waiting
        return waiting is not None and waiting.key == key and event in waiting.events

    def visits(self, step: str) -> int:
        """Return how often it has left a step."""
        return sum(left == step for left, _ in self.turns)


@dataclass(slots=True, eq=False)
class Person:
    """One contact."""

    index: int
    subject: Subject
    facts: Facts
    running: list[Running] = field(default_factory=list)
    """Its enrollments that are not over."""
    enrolled: list[Running] = field(default_factory=list)
    """All its enrollments, oldest first."""
    latest: dict[str, Running] = field(default_factory=dict)
    """The latest one under each key."""
    kept_out: str = ""
    """Why it did not enter, when last it tried."""

    @property
    def id(self) -> str:
        """Return the contact's id."""
        return self.facts.contact.id

    @property
    def lacks_lead(self) -> bool:
        """Tell whether its newest lead is closed, or there is none."""
        lead = self.facts.lead
        return lead is None or lead.fields.get("status") in CLOSED_LEAD_STATUSES

    def take(self, key: str, run: Running) -> None:
        """Take in a new enrollment."""
        self.running.append(run)
        self.enrolled.append(run)
        self.latest[key] = run

    def update(self, effect: UpdateRecord, workflow_id: str) -> ChangedRecord | None:
        """Set fields of a record and return what that changed."""
        record = self._record(effect.record_type, effect.record_id)
        if record is None:
            return None
        return self._change(record, effect.fields, workflow_id, created=False)

    def create(self, effect: CreateRecord, workflow_id: str) -> ChangedRecord | None:
        """Make a record: a new lead is the one in hand from now on."""
        if effect.record_type not in ("lead", "company", "opportunity"):
            return None
        return self._change(RecordFacts(effect.id, effect.record_type, {}), effect.fields, workflow_id, created=True)

    def change_list(self, effect: ChangeList, workflow_id: str) -> ChangedRecord | None:
        """Put the contact on a list, or take it off."""
        before = self.facts.lists
        after = before | {effect.list_name} if effect.on else before - {effect.list_name}
        if after == before:
            return None
        self.facts = copied(self.facts, lists=after)
        change = Change(LISTS, sorted(before), sorted(after))
        return ChangedRecord("contact", self.id, False, (change,), workflow_id=workflow_id)

    def sent(self, effect: SendMessage, now: datetime, counted: timedelta, workflow_id: str) -> None:
        """Remember a message for as long as frequency caps count it."""
        recent = tuple(one for one in self.facts.sent if one.at > now - counted)
        self.facts = copied(self.facts, sent=(*recent, Sent(effect.channel, now, workflow_id)))

    def set(self, record_type: str, fields: Mapping[str, Any]) -> ChangedRecord | None:
        """Set fields because of what came from outside."""
        record = self._record(record_type, "")
        if record is None:
            return None
        if record_type == "opportunity" and self.facts.pipelines and not pipelines.PLACE.isdisjoint(fields):
            fields = pipelines.placed(self.facts.pipelines, record.fields, fields)
        return self._change(record, fields, "", created=False)

    def open_lead(self, lead_id: str, source: str) -> ChangedRecord | None:
        """Make a lead as an event of the type `lead` does when it comes in, where there is none that is open."""
        if not self.lacks_lead:
            return None
        fields = {"contact_id": self.id, "status": "new", "source": source}
        return self._change(RecordFacts(lead_id, "lead", {}), fields, "", created=True)

    def _record(self, record_type: str, record_id: str) -> RecordFacts | None:
        record = self.facts.in_hand(record_type, {record_type: record_id} if record_id in self.facts.records else {})
        return record if record is not None and record_id in ("", record.id) else None

    def _change(
        self, record: RecordFacts, fields: Mapping[str, Any], workflow_id: str, *, created: bool
    ) -> ChangedRecord | None:
        touched = {path.partition(".")[0] for path in fields}  # the rest need not be copied
        before = {name: value for name, value in record.fields.items() if name in touched}
        changes = diff(before, fields)
        if not changes and not created:
            return None
        kept = {name: value for name, value in record.fields.items() if name not in touched}
        after = RecordFacts(record.id, record.type, {**kept, **apply(before, changes)})
        match record.type:
            case "contact":
                self.facts = copied(self.facts, contact=after)
            case "lead":
                self.facts = copied(self.facts, lead=after)
            case "company" if not created:
                self.facts = copied(self.facts, company=after)
            case "company":
                pass
            case _:
                there = {key: after if one.id == after.id else one for key, one in self.facts.records.items()}
                newest = {after.type: after} if created else {}
                self.facts = copied(self.facts, records={**there, **newest, after.id: after})
        return ChangedRecord(record.type, record.id, created, changes, workflow_id=workflow_id)
