"""Looking for mentions of an erased person in what is not theirs, a slice of a table at a time."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Column, LargeBinary, Table, Text, and_, cast, delete, func, literal, or_, select, update
from sqlalchemy.sql.elements import ColumnElement

from core.store.database import Database
from core.store.erasing import erasures
from core.store.erasing.erasing_places import ERASED, PLACES, Place
from core.store.metadata import Json, metadata
from core.store.records import record_schema
from core.store.records.record_rows import Draft, record_changes, records, save, to_record
from core.store.transaction import Transaction
from core.store.workflows.enrollments import enrollments

ROWS_AT_ONCE = 5_000
"""Rows that one slice looks through."""
SLICES_WITHIN_THE_CALL = 60
SLICES_A_ROUND = 200
_SHORTEST = 5
"""Characters of the shortest text that is looked for: a shorter one would be found everywhere."""

TOMBSTONE = ("deleted", "erased")
"""Fields under which a tombstone's history tells what became of it."""

_OF_THEIR_OWNERS = ("email", "phone", "domain")
"""Fields of a record that stands: what is the person's alone is in none of them."""

TOLD = "contact.erased"
"""The event that tells endpoints of it: it names the person's record, and stays."""

MOST_IDS = 20_000
"""Records of one person by whose ids anything is looked for; a statement has no more room."""

IDS_AT_ONCE = 100
"""Ids of the person's records that one slice looks for."""

_TOLD_BY_ID = ("messages", "deliveries")
"""What tells endpoints of the person's records tells their fields, too."""

Search = Mapping[str, Any]
"""`words` and `names` looked for, `ids` of the person's records and from which of them on, `first_id`; the `place`
looked at and how far, `after`.

`by` is who writes what is changed in records, `cause` why.
"""


def begin(
    words: Iterable[str], names: Iterable[str], record_ids: Sequence[str], erasure_id: str, actor: str
) -> dict[str, Any]:
    """Return a search that has looked nowhere yet."""
    return {
        "words": sorted({word for word in words if len(word) >= _SHORTEST}),
        "names": sorted({name for name in names if len(name) >= _SHORTEST}),
        "ids": list(record_ids[:MOST_IDS]),
        "first_id": 0,
        "place": 0,
        "after": "",
        "by": actor,
        "cause": f"erasure:{erasure_id}",
    }


async def blank(tx: Transaction, table: Table, place: Place, which: ColumnElement[bool]) -> int:
    """Take out what some rows of a table say, or the rows; return how many there were."""
    if place.goes:
        return await tx.run(delete(table).where(which))
    values = dict(place.blanks)
    if table is enrollments:
        values["key"] = table.c.id  # keys are unique in a workflow, and callers put e-mails there
    if table is record_changes:
        which = and_(which, table.c.field.not_in(TOMBSTONE))
    return await tx.run(update(table).where(which).values(values))


async def carry_on(tx: Transaction, search: Search) -> dict[str, Any] | None:
    """Look through the next slice and blank what mentions the person; None when it has looked everywhere."""
    number = search["place"]
    if number >= len(PLACES):
        return None
    place = PLACES[number]
    table = metadata.tables.get(place.table)
    after = search["after"]
    if table is None or not place.searched:
        return {**search, "place": number + 1, "after": ""}
    key = next(column for column in table.primary_key.columns if column.name != "org_id")
    upper = await _upper(tx, key, after)
    within: list[ColumnElement[bool]] = [] if upper is None else [key <= upper]
    if after != "":
        within.append(key > after)
    await _slice(tx, place, table, search, within)
    if upper is None:
        first = search.get("first_id", 0) + IDS_AT_ONCE
        if place.table in _TOLD_BY_ID and first < len(search["ids"]):
            return {**search, "first_id": first, "after": ""}
        return {**search, "place": number + 1, "first_id": 0, "after": ""}
    return {**search, "after": upper}


async def _upper(tx: Transaction, key: Column[Any], after: Any) -> Any:
    """Return the key at which a slice ends; None where it is the last one."""
    statement = select(key).order_by(key).offset(ROWS_AT_ONCE).limit(1)
    row = await tx.first(statement.where(key > after) if after != "" else statement)
    return None if row is None else row[0]


async def _slice(
    tx: Transaction, place: Place, table: Table, search: Search, within: Sequence[ColumnElement[bool]]
) -> None:
    sure: list[str] = list(search["words"])
    if place.table in _TOLD_BY_ID:
        first = search.get("first_id", 0)
        sure += search["ids"][first : first + IDS_AT_ONCE]
    words = [*sure, *(search["names"] if place.replaced or place.by_name else ())]
    columns = [table.c[name] for name in place.searched if name in table.c]
    theirs = [table.c[name] for name in place.sliced]
    if not words and not theirs:
        return
    if place.table in _TOLD_BY_ID:
        within = [*within, table.c.event_type != TOLD]
    own_rows = (column.in_(search["ids"]) for column in theirs)
    which = and_(*within, or_(*own_rows, *(_mentions(tx, column, word) for column in columns for word in words)))
    key = [column for column in table.primary_key.columns if column.name != "org_id"]
    pattern, ids = _pattern(words), frozenset(search["ids"])
    for row in await tx.all(select(*key, *columns, *theirs).where(which).with_for_update()):
        found = [column for column in columns if words and _is_told(column, row._mapping[column], pattern)]
        is_theirs = any(row._mapping[column] in ids for column in theirs)
        if not found and not is_theirs:
            continue
        own = and_(*(column == row._mapping[column] for column in key))
        if is_theirs:
            await blank(tx, table, place, own)
        elif place.by_name and not any(_is_in(row._mapping[column], sure) for column in found):
            # Another of that name may be meant: what was said of them stays, without the name.
            hidden = {column.name: _nameless(row._mapping[column], search["names"]) for column in found}
            await tx.run(update(table).where(own).values(hidden))
        elif place.replaced and table is records:
            await _rewrite(tx, own, search, pattern)
        elif place.replaced:
            values = {column.name: without(row._mapping[column], pattern) for column in found}
            if "key" in values:
                values["key"] = row.id  # keys are unique in a workflow
            await tx.run(update(table).where(own).values(values))
        else:
            await blank(tx, table, place, own)


def _pattern(words: Iterable[str]) -> re.Pattern[str]:
    """Return what finds the words as they stand alone: `ada@example.com` is not in `bada@example.com`."""
    either = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    return re.compile(rf"(?<![A-Za-z0-9._%+\-])(?:{either})(?![A-Za-z0-9\-]|\.[A-Za-z0-9])", re.IGNORECASE)


def _is_told(column: Column[Any], value: Any, pattern: re.Pattern[str]) -> bool:
    if value is None:
        return False
    if isinstance(column.type, LargeBinary):
        return True  # what surrounds a word there says nothing
    return any(pattern.search(text) for text in _texts(value))


def _texts(value: Any) -> Iterable[str]:
    """Yield every text in a value; one that is JSON itself as what it holds."""
    match value:
        case str() if value[:1] in ("{", "["):
            try:
                yield from _texts(json.loads(value))
            except ValueError:
                yield value
        case str():
            yield value
        case dict():
            for name, item in value.items():
                yield name
                yield from _texts(item)
        case list():
            for item in value:
                yield from _texts(item)


def _mentions(tx: Transaction, column: Column[Any], word: str) -> ColumnElement[bool]:
    """Return the condition for rows that may hold a word: the database looks for the letters alone."""
    if isinstance(column.type, LargeBinary):
        if tx.dialect == "postgresql":
            shown = "".join(chr(byte) if byte < 128 else f"\\{byte:03o}" for byte in word.lower().encode())
            return func.lower(func.encode(column, "escape")).contains(shown, autoescape=True)
        forms = {word, word.lower(), word.upper()}  # of bytes, SQLite knows no case
        return or_(*(func.instr(column, literal(form.encode(), LargeBinary)) > 0 for form in sorted(forms)))
    text = func.lower(cast(column, Text) if isinstance(column.type, Json) else column)
    forms = {word.lower(), json.dumps(word)[1:-1].lower()}  # bodies may escape what is not ASCII
    return or_(*(text.contains(form, autoescape=True) for form in sorted(forms)))


def _is_in(value: Any, words: Iterable[str]) -> bool:
    """Tell whether a text or bytes hold one of these words, wherever."""
    text = bytes(value).decode("utf-8", "replace") if isinstance(value, bytes | memoryview) else str(value)
    text = text.lower()
    return any(form in text for word in words for form in (word.lower(), json.dumps(word)[1:-1].lower()))


def _nameless(value: Any, names: Iterable[str]) -> Any:
    """Return a text without these names; bytes keep their length, for they say it themselves."""
    forms = [form for name in names for form in (name, json.dumps(name)[1:-1])]
    if isinstance(value, bytes | memoryview):
        either = b"|".join(re.escape(form.encode()) for form in forms)
        return re.sub(either, lambda found: b"*" * len(found[0]), bytes(value), flags=re.IGNORECASE)
    return _pattern(forms).sub(ERASED, str(value))


async def _rewrite(tx: Transaction, own: ColumnElement[bool], search: Search, pattern: re.Pattern[str]) -> None:
    """Take the words out of a record that is not the person's, as everybody writes: with its history."""
    (row,) = await tx.all(select(records).where(own))
    stands = row.deleted_at is None
    unique = {one.path for one in (await record_schema.of(tx)).unique.get(row.type, ())}
    patch: dict[str, Any] = {}
    for name, value in row.fields.items():
        if stands and name in _OF_THEIR_OWNERS:
            continue
        told = {f"{name}.{key}": item for key, item in value.items()} if name == "custom" else {name: value}
        for path, item in told.items():
            left = without(item, pattern)
            if left != item:
                patch[path] = None if path in unique else left
    draft = Draft(to_record(row))
    draft.patch(patch, search.get("by", ""), search.get("cause", "erasure"))
    await save(tx, [draft])


def without(value: Any, pattern: re.Pattern[str]) -> Any:
    """Return a value in which no text mentions the person."""
    match value:
        case str():
            return pattern.sub(ERASED, value)
        case dict():
            return {without(name, pattern): without(item, pattern) for name, item in value.items()}
        case list():
            return [without(item, pattern) for item in value]
    return value


async def search(tx: Transaction, erasure_id: str, most: int) -> int:
    """Carry an erasure's search on by so many slices at most; return how many it were."""
    row = await erasures.take(tx, erasure_id)
    if row is None:
        return 0
    found: dict[str, Any] | None = row.search
    done = 0
    while found is not None and done < most:
        looked, found = found, await carry_on(tx, found)
        done += found is None or found["after"] != "" or bool(PLACES[looked["place"]].searched)
    await erasures.note(tx, erasure_id, search=found)
    return done


async def upkeep(database: Database) -> None:
    """Carry every search on by a slice at a time, each in a transaction of its own, for a while."""
    async with database.system() as tx:
        under_way = await erasures.under_way(tx)
    for row in under_way:
        for _ in range(SLICES_A_ROUND):
            async with database.write(row.org_id) as tx:
                if not await search(tx, row.id, 1):
                    break
