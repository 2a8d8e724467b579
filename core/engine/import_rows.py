"""What a row of an import means: its fields checked, its links followed, the record found that it stands for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Row

from core.domain.errors import Violation
from core.domain.nearest import did_you_mean
from core.domain.records import changes, identity
from core.domain.records.definitions import FieldKind, unique_key
from core.domain.records.fields import missing_fields, validate_fields
from core.domain.records.identity import Identifier
from core.domain.records.import_columns import meant
from core.domain.records.import_files import Fault, FileRow
from core.domain.records.schema import Schema
from core.store.erasing import erased_people
from core.store.merging import merges
from core.store.organizations import members as members_of
from core.store.records import identifiers, imports, records, unique_values
from core.store.records.imports import JudgedRow, Outcome
from core.store.records.records import Record
from core.store.transaction import Transaction

_OWN = "custom."
"""How the name of a field begins that the organization defined, and by whose unique values rows can be matched."""

_VALUES_AT_ONCE = 200
_LINK_HINT = "Import the record it names first, or leave the column out."


@dataclass(slots=True)
class Reading:
    """A row on its way to being understood."""

    number: int
    record_type: str
    fields: dict[str, Any]
    """What it says, by field; in stored form once it was checked."""
    source_id: str
    references: list[tuple[str, str]]
    faults: list[Fault] = field(default_factory=list)
    links: dict[str, int] = field(default_factory=dict)
    """Field to the row of this file whose record it names."""
    identifiers: list[Identifier] = field(default_factory=list)
    record: Record | None = None
    """The record that it stands for."""
    erased: bool = False

    @property
    def bad(self) -> bool:
        """Tell whether something keeps it out."""
        return any(not fault.mild for fault in self.faults)


def read(row: Row[Any], import_: Row[Any]) -> Reading:
    """Return what a row says by what its columns mean."""
    said: Mapping[str, Any] = row.said
    cells = FileRow(row.row, row.record_type, dict(said["cells"]), row.source_id)
    cells.references = [(system, value) for system, value in said["references"]]
    columns = import_.columns.get(row.record_type, {})
    fields, source_id, references = meant(cells, columns, import_.system)
    faults = [Fault(**one) for one in row.faults]
    return Reading(row.row, row.record_type, fields, source_id, references, faults)


class Judge:
    """Judges rows of one import, a slice at a time."""

    def __init__(self, tx: Transaction, import_: Row[Any], schema: Schema):
        """Judge rows of this import; nothing is written."""
        self._tx = tx
        self._schema = schema
        self._import = import_
        self._heads = {
            (kind, meaning): head for kind, named in import_.columns.items() for head, meaning in named.items()
        }

    async def judge(self, rows: Sequence[Row[Any]]) -> list[JudgedRow]:
        """Return what becomes of these rows as things stand, in order."""
        readings = [read(row, self._import) for row in rows]
        await self._links(readings)
        for reading in readings:
            self._check(reading)
        await self._references(readings)
        await self._find(readings)
        await self._erased(readings)
        keys = {reading.number: _key(reading, self._import.match_by) for reading in readings}
        seen = await imports.seen_keys(self._tx, self._import.id, keys.values(), readings[0].number - 1)
        judged = []
        for reading in readings:
            judged.append(self._judged(reading, keys[reading.number], seen))
            if keys[reading.number] and judged[-1].outcome != Outcome.DUPLICATE:
                seen.setdefault(keys[reading.number], reading.number)
        return judged

    async def _links(self, readings: Sequence[Reading]) -> None:
        """Follow fields that name other rows of the file, and members whom the file knows by e-mail."""
        named = {value for reading in readings for value in reading.fields.values() if _may_be_id(value)}
        rows = await imports.named(self._tx, self._import.id, named)
        members = {value for value in named if value in self._import.members}
        there = await members_of.active_by_email(self._tx, [self._import.members[one] for one in members])
        here = await members_of.active_by_id(self._tx, members)
        for reading in readings:
            for name, value in list(reading.fields.items()):
                if not _may_be_id(value):
                    continue
                if value in rows and rows[value].row != reading.number:
                    self._link(reading, name, rows[value])
                elif value in members and value not in here:
                    member = there.get(self._import.members[value].lower())
                    reading.fields[name] = None if member is None else member.id
                    if member is None:
                        message = "no member here has the e-mail of this one"
                        reading.faults.append(
                            Fault(name, "LEFT_OUT", message, "Add the member and import again.", mild=True)
                        )

    def _link(self, reading: Reading, name: str, row: Row[Any]) -> None:
        del reading.fields[name]
        if row.outcome in (Outcome.BAD, Outcome.ERASED):
            message = f"names row {row.row}, which cannot be taken"
            reading.faults.append(Fault(name, "REFERS_TO_BAD_ROW", message, "Correct that row first."))
        elif row.row > reading.number:
            message = f"names row {row.row}, which comes later"
            reading.faults.append(Fault(name, "REFERS_TO_LATER_ROW", message, "Put that row first."))
        elif row.record_id:
            reading.fields[name] = row.record_id
        else:
            reading.links[name] = row.row

    def _check(self, reading: Reading) -> None:
        """Bring the fields into stored form, or say what is wrong with them."""
        if reading.record_type not in self._schema.types:
            hint = did_you_mean(reading.record_type, self._schema.types, "Say the type of all rows, or of each.")
            message = f"`{reading.record_type[:40]}` is no type of record" if reading.record_type else "says no type"
            reading.faults.append(Fault("type", "UNKNOWN_RECORD_TYPE", message, hint))
            return
        accepted, violations = validate_fields(reading.record_type, reading.fields, "", schema=self._schema)
        for violation in violations:
            reading.faults.append(self._fault(reading, violation))
        reading.fields = accepted
        for system, value in reading.references:
            identifier = identity.normalise(identity.external(system), value) if system else None
            if identifier is None:
                hint = "Say of which system it is." if not system else "Send the id that the system uses."
                reading.faults.append(Fault("external_id", "JUNK_IDENTIFIER", f"`{value[:40]}` names nothing", hint))
            else:
                reading.identifiers.append(identifier)
        if self._import.match_by == "email" and not identity.normalise("email", accepted.get("email")):
            reading.faults.append(Fault(self._head(reading, "email"), "REQUIRED", "has no e-mail to match by", ""))
        if self._import.match_by == "external_ref" and not reading.identifiers:
            reading.faults.append(Fault("external_id", "REQUIRED", "has no id of another system to match by", ""))

    def _fault(self, reading: Reading, violation: Violation) -> Fault:
        mild = violation.reason == "READ_ONLY_FIELD"
        message = "is left out: it is set by the core alone" if mild else violation.message
        return Fault(self._head(reading, violation.field), violation.reason, message, violation.hint, mild)

    def _head(self, reading: Reading, name: str) -> str:
        return str(self._heads.get((reading.record_type, name), name))

    async def _references(self, readings: Sequence[Reading]) -> None:
        """Refuse ids of records and members that are neither here nor in the file."""
        named: dict[str, list[tuple[Reading, str]]] = {}
        for reading in readings:
            for name in _references_of(self._schema, reading.record_type):
                if isinstance(reading.fields.get(name), str):
                    named.setdefault(reading.fields[name], []).append((reading, name))
        people = {one for one in named if one.startswith("mem_")}
        found = set(await records.get_many(self._tx, [one for one in named if one not in people]))
        found |= set(await members_of.active_by_id(self._tx, people))
        merged = await merges.standing_of(self._tx, named.keys() - found)
        for value, places in named.items():
            if value in found:
                continue
            gone = await merges.where_named(self._tx, "", value) if value in merged else None
            for reading, name in places:
                fault = (
                    (gone.reason, gone.message, gone.hint)
                    if gone
                    else ("NOT_FOUND", f"there is no {value}", _LINK_HINT)
                )
                reading.faults.append(Fault(self._head(reading, name), *fault))

    async def _find(self, readings: Sequence[Reading]) -> None:
        """Find the record that each row stands for."""
        by = self._import.match_by
        there = await records.get_many(self._tx, [one.source_id for one in readings if one.source_id])
        wanted = {
            (self._tx.org_id, one.record_type, *identifier) for one in readings for identifier in _identifiers(one, by)
        }
        owners = await identifiers.owners(self._tx, wanted)
        by_value = await self._by_value(readings, by)
        found = await records.get_many(self._tx, [*owners.values(), *by_value.values()])
        for reading in readings:
            own = there.get(reading.source_id) if by in ("", "id") else None
            if own is not None and own.type == reading.record_type:
                reading.record = own
                continue
            if by == "id" and reading.source_id and not reading.bad:
                reading.faults.append(
                    Fault(self._head(reading, "id"), "NOT_FOUND", f"there is no {reading.source_id}", "Check the id.")
                )
                continue
            if by.startswith(_OWN):
                reading.record = found.get(by_value.get(reading.number, ""))
                continue
            keys = [(self._tx.org_id, reading.record_type, *one) for one in _identifiers(reading, by)]
            reading.record = next((found[owners[key]] for key in keys if owners.get(key) in found), None)

    async def _by_value(self, readings: Sequence[Reading], field_: str) -> dict[int, str]:
        """Return the records that have the unique values of rows, by row, where rows are matched by such a field."""
        if not field_.startswith(_OWN):
            return {}
        keys: dict[int, unique_values.Key] = {}
        name = field_.removeprefix(_OWN)
        for reading in readings:
            value = reading.fields.get(field_)
            if value is not None:
                keys[reading.number] = (self._tx.org_id, reading.record_type, name, unique_key(value))
            elif not reading.bad:
                message = "has no value to match by"
                reading.faults.append(Fault(self._head(reading, field_), "REQUIRED", message, "Fill the cell."))
        owners: dict[unique_values.Key, str] = {}
        wanted = sorted(set(keys.values()))
        for start in range(0, len(wanted), _VALUES_AT_ONCE):
            owners |= await unique_values.owners(self._tx, wanted[start : start + _VALUES_AT_ONCE])
        return {number: owners[key] for number, key in keys.items() if key in owners}

    async def _erased(self, readings: Sequence[Reading]) -> None:
        """Notice people who were erased: what named them is known as hashes alone."""
        named = {
            reading.number: {*identity.of_fields("contact", reading.fields), *reading.identifiers}
            for reading in readings
            if reading.record is None and reading.record_type == "contact"
        }
        erased = await erased_people.among(self._tx, {one for some in named.values() for one in some})
        for reading in readings:
            reading.erased = bool(named.get(reading.number, set()) & erased)

    def _judged(self, reading: Reading, key: str, seen: Mapping[str, int]) -> JudgedRow:
        outcome, faults = self._outcome(reading), reading.faults
        if outcome is not Outcome.BAD and key in seen:
            outcome = Outcome.DUPLICATE
            message = f"means the same record as row {seen[key]}"
            faults = [*faults, Fault("", "DUPLICATE_IN_FILE", message, "Keep one of the two.")]
        elif outcome is Outcome.ERASED:
            message = "this person was erased and is not brought back"
            hint = "Take the row out. Who comes back by their own will needs the suppression lifted first."
            faults = [*faults, Fault("", "ERASED", message, hint)]
        kept = outcome in (Outcome.CREATE, Outcome.UPDATE, Outcome.UNCHANGED)
        said = _kept(reading) if kept else {}
        record_id = reading.record.id if reading.record is not None and kept else ""
        return JudgedRow(
            reading.number, outcome, record_id, key if kept else "", said, [fault.as_data() for fault in faults]
        )

    def _outcome(self, reading: Reading) -> Outcome:
        if reading.erased:
            return Outcome.ERASED
        if reading.record is None and not reading.bad:
            present = {**reading.fields, **dict.fromkeys(reading.links, "row")}
            missing = missing_fields(reading.record_type, present, "", schema=self._schema)
            reading.faults += [self._fault(reading, violation) for violation in missing]
            if reading.record_type == "contact" and not _identifiers(reading, ""):
                message = "nothing identifies the contact"
                hint = "Give an e-mail, a phone that starts with +, or an id of another system."
                reading.faults.append(Fault(self._head(reading, "email"), "NO_IDENTIFIER", message, hint))
        if reading.bad:
            return Outcome.BAD
        if reading.record is None:
            return Outcome.CREATE
        changed = changes.diff(reading.record.fields, reading.fields)
        return Outcome.UPDATE if changed or reading.links else Outcome.UNCHANGED


def _references_of(schema: Schema, record_type: str) -> list[str]:
    """Return the fields of a type that name other records or members."""
    of = schema.of(record_type)
    own = [one.path for one in of.live if one.kind == FieldKind.REFERENCE]
    return [*(name for name, known in of.standard.items() if known.prefix), *own]


def _may_be_id(value: object) -> bool:
    return isinstance(value, str) and 4 <= len(value) <= 100 and " " not in value and "@" not in value


def _identifiers(reading: Reading, match_by: str) -> list[Identifier]:
    """Return what names the record of a row, the surest first."""
    own = identity.of_fields(reading.record_type, reading.fields)
    match match_by:
        case "email":
            return [one for one in own if one[0] == "email"]
        case "external_ref":
            return list(reading.identifiers)
        case "id":
            return []
    if match_by.startswith(_OWN):
        return []
    return sorted({*reading.identifiers, *own}, key=lambda one: (identity.rank(one), one))


def _key(reading: Reading, match_by: str) -> str:
    """Return what tells that two rows mean one record; empty where nothing does."""
    if reading.record is not None:
        return reading.record.id
    if match_by.startswith(_OWN) and reading.fields.get(match_by) is not None:
        return "\x1f".join((reading.record_type, match_by, unique_key(reading.fields[match_by])))
    strong = [one for one in _identifiers(reading, "") if identity.is_strong(one)]
    return "\x1f".join((reading.record_type, *strong[0])) if strong else ""


def _kept(reading: Reading) -> dict[str, Any]:
    said: dict[str, Any] = {"fields": reading.fields}
    if reading.links:
        said["links"] = reading.links
    if reading.identifiers:
        said["identifiers"] = reading.identifiers
    return said
