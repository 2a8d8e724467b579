"""Records as callers and events describe them, and what each description turned out to be."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from core.domain.errors import RecordMerged, Violation
from core.domain.frozen import frozen
from core.domain.records.changes import Change
from core.domain.records.identity import Conflict, Identifier
from core.store.records import identifiers
from core.store.records.late_fields import SetAt
from core.store.records.named_records import hold_named
from core.store.records.record_rows import Record, hold
from core.store.transaction import Transaction


@frozen
class ContactCandidate:
    """A record as a caller describes it: what it is called and which fields it shall have."""

    fields: Mapping[str, Any]
    """Dotted path to value in stored form, as `validate_fields` returns them."""
    identifiers: tuple[Identifier, ...] = ()
    """Beside the e-mail and the phone among the fields; each in normal form."""
    contact_id: str = ""
    """Id of a record that must be there."""
    path: str = ""
    """Where the caller wrote it, such as `contacts[3]`, for what is wrong with it."""
    observed: bool = False
    """True for what an event tells: it never changes an e-mail, and where e-mails differ it changes nothing."""
    initial: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the record if it must be made."""
    cause: str = ""
    """Of this candidate's changes, where it has one of its own."""
    as_of: datetime | None = None
    """When it was so, where that is a while ago: fields that were set since keep their value."""
    fills: bool = False
    """It only fills fields that are empty."""
    known: bool = False
    """It names somebody and tells nothing: no record is made for it, and none is changed."""


@frozen
class Resolved:
    """The record that a candidate turned out to be, or what is wrong with the candidate."""

    record: Record | None = None
    created: bool = False
    changes: tuple[Change, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    """Identifiers that name somebody else."""
    violation: Violation | None = None
    also_wrong: tuple[Violation, ...] = ()
    """Whatever else is wrong with the candidate."""
    unclaimed: tuple[Identifier, ...] = ()
    """Identifiers that do not name the record from now on, because it has as many as it may have."""

    @property
    def violations(self) -> tuple[Violation, ...]:
        """Return everything that is wrong with the candidate."""
        return (() if self.violation is None else (self.violation,)) + self.also_wrong

    @property
    def contact_id(self) -> str:
        """Return the record's id; empty where something is wrong."""
        return "" if self.record is None else self.record.id


@dataclass(slots=True)
class Batch:
    """What is known while candidates become records."""

    tx: Transaction
    record_type: str
    seen: dict[Identifier, str] = field(default_factory=dict)
    """Whose identifiers they were at the start."""
    known: dict[Identifier, str] = field(default_factory=dict)
    """Whose they are by now, with those that this batch gives away."""
    confirmed: set[Identifier] = field(default_factory=set)
    """E-mails that are a record's beside its main one."""
    merged: dict[str, RecordMerged] = field(default_factory=dict)
    """Records that callers name and that are part of others by now."""
    held: dict[str, Record] = field(default_factory=dict)
    erased: set[Identifier] = field(default_factory=set)
    """Addresses of people who were erased: nobody is made who has one."""
    new: dict[str, object] = field(default_factory=dict)
    """The e-mail of each record that is being made, by its id."""
    set_at: SetAt | None = None
    """Since when fields are what they are; None where nobody says anything late."""

    def email_of(self, record_id: str) -> object:
        """Return the main e-mail of a record, also of one that is being made."""
        record = self.held.get(record_id)
        return self.new.get(record_id) if record is None else record.fields.get("email")

    async def meet(self, wanted: Collection[Identifier], record_ids: Collection[str]) -> None:
        """Learn whose these identifiers are, and lock and know their owners and these records."""
        self.seen, found = await hold_named(self.tx, self.record_type, wanted, record_ids)
        self.known = dict(self.seen)
        self._know(found)

    async def hold(self, record_ids: Iterable[str]) -> None:
        """Lock records until the transaction ends, and know them."""
        found = await hold(self.tx, [(self.tx.org_id, record_id) for record_id in record_ids])
        self._know(found.values())

    def _know(self, found: Iterable[Record]) -> None:
        self.held.update({record.id: record for record in found if record.type == self.record_type})

    async def owners(self, wanted: Iterable[Identifier]) -> dict[Identifier, str]:
        """Return whose these identifiers are at this moment."""
        keys = [(self.tx.org_id, self.record_type, *identifier) for identifier in wanted]
        return {(key[2], key[3]): owner for key, owner in (await identifiers.owners(self.tx, keys)).items()}
