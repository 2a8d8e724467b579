"""Reading a file that shall be taken in: a table, a bundle or one record a line becomes rows of names and values.

What makes the whole file unreadable is refused here; what is wrong with a single row stays with that row.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from core.domain.errors import Invalid, Violation, invalid
from core.domain.frozen import frozen
from core.domain.nearest import did_you_mean

LARGEST_FILE = 10 * 1024 * 1024
"""In bytes."""
MOST_ROWS = 100_000
MOST_COLUMNS = 500
LONGEST_CELL = 32_768
"""In characters."""
LARGEST_RECORD = 256 * 1024
"""Of one record in JSON, in characters."""
_DEEPEST = 8

_DELIMITERS = ",;\t|"
_WIDE = (
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)
_FORMULA = re.compile(r"'+[=+\-@\t\r]")
_BY_PART: Mapping[str, str] = {
    "contacts": "contact",
    "people": "contact",
    "companies": "company",
    "accounts": "company",
    "leads": "lead",
    "opportunities": "opportunity",
    "deals": "opportunity",
    "activities": "activity",
    "tasks": "task",
    "notes": "note",
}
"""Part of a bundle to the type of its records."""
_BESIDE = frozenset(
    (
        "version",
        "exported_at",
        "organization",
        "members",
        "definitions",
        "pipelines",
        "record_types",
        "crm",
        "counts",
        "metadata",
    )
)
"""Parts of a bundle that are no records."""
_OF_A_RECORD = frozenset(
    {"type", "record_type", "etag", "fields", "changes", "external_refs", "external_system", "lists", "consents"}
)
_IGNORED = frozenset(
    ("create_time", "update_time", "created_at", "updated_at", "deleted_at", "uuid", "organization_id", "change_events")
)
"""What other systems and our own exports tell of a record that an import does not set."""


@frozen
class Fault:
    """What is wrong with a row; one that is `mild` does not keep the row out."""

    column: str
    reason: str
    message: str
    hint: str = ""
    mild: bool = False

    def as_data(self) -> dict[str, Any]:
        """Return it as JSON can keep it."""
        told: dict[str, Any] = {"column": self.column, "reason": self.reason, "message": self.message}
        return {**told, "hint": self.hint, **({"mild": True} if self.mild else {})}


@dataclass(slots=True)
class FileRow:
    """One row as the file has it."""

    number: int
    record_type: str
    cells: dict[str, Any]
    """Column to value; text alone where the file is a table."""
    record_id: str = ""
    """Its id in the system that wrote the file."""
    references: list[tuple[str, str]] = field(default_factory=list)
    """Its names `(system, id)` in other systems."""
    faults: list[Fault] = field(default_factory=list)


@frozen
class ReadFile:
    """A file that could be read."""

    rows: list[FileRow]
    columns: tuple[str, ...] = ()
    """Heads of a table, as they stand there; names of fields in the order of their first appearance for the others."""
    members: Mapping[str, str] = field(default_factory=dict)
    """Of a bundle: id of a member where it was written to that member's e-mail."""
    table: bool = False


def read_csv(content: bytes, record_type: str) -> ReadFile:
    """Return the rows of a table. Raises Invalid."""
    text = _text(content)
    source = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text), strict=True)
    rows: list[FileRow] = []
    try:
        heads = _heads(next(source, []))
        for cells in source:
            if not any(cell.strip() for cell in cells):
                continue
            if len(rows) >= MOST_ROWS:
                _too_many()
            rows.append(_table_row(len(rows) + 1, record_type, heads, cells))
    except csv.Error as error:
        where = f"cannot be read at line {source.line_num}: {error}"
        hint = "A quote inside a quoted cell is written twice; save it as CSV again."
        raise invalid("content", "NOT_CSV", where, hint) from None
    if not rows:
        raise invalid("content", "EMPTY", "has a head and no rows" if heads else "is empty", "Send rows below a head.")
    return ReadFile(rows, tuple(heads), table=True)


def _text(content: bytes) -> str:
    """Return a file's text. Raises Invalid for one that is not UTF-8."""
    if len(content) > LARGEST_FILE:
        message = f"has {len(content)} bytes, at most {LARGEST_FILE} are accepted"
        raise invalid("content", "TOO_LARGE", message, "Split the file.")
    for mark, name in _WIDE:
        if content.startswith(mark):
            raise invalid("content", "NOT_UTF8", f"is {name}", "Save it as UTF-8: `CSV UTF-8` in a spreadsheet.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        message = f"is not UTF-8: byte {error.start}, in line {line}"
        raise invalid("content", "NOT_UTF8", message, "Save it as UTF-8: `CSV UTF-8` in a spreadsheet.") from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        message = f"has a NUL character in line {line}"
        raise invalid("content", "NUL_CHARACTER", message, "It may be UTF-16: save it as UTF-8.")
    return text


def _delimiter(text: str) -> str:
    """Return what separates the cells of the head; what stands in quotes does not count."""
    head, quoted = "", False
    for character in text[:65_536]:
        if character == '"':
            quoted = not quoted
        elif character in "\r\n" and not quoted and head.strip():
            break
        elif not quoted:
            head += character
    return max(_DELIMITERS, key=lambda one: (head.count(one), -_DELIMITERS.index(one)))


def _heads(cells: list[str]) -> list[str]:
    heads = [" ".join(cell.split()) for cell in cells]
    while heads and not heads[-1]:
        heads.pop()
    if not heads:
        raise invalid("content", "NO_HEAD", "has no head", "Write the names of the columns into the first line.")
    if len(heads) > MOST_COLUMNS:
        message = f"has {len(heads)} columns, at most {MOST_COLUMNS} are accepted"
        raise invalid("content", "TOO_MANY_COLUMNS", message, "Leave columns out.")
    wrong = [
        Violation("content", "NO_HEAD", f"has no name above column {place}", "Name the column, or take it out.")
        for place, head in enumerate(heads, 1)
        if not head
    ]
    seen: set[str] = set()
    for head in heads:
        if head and head in seen:
            message = f"has two columns named `{head[:80]}`"
            wrong.append(Violation("content", "COLUMN_TWICE", message, "Rename or remove one of them."))
        seen.add(head)
        if len(head) > 200:
            wrong.append(Violation("content", "TOO_LONG", f"has a column name of {len(head)} characters"))
    if wrong:
        raise Invalid(*wrong)
    return heads


def _table_row(number: int, record_type: str, heads: list[str], cells: list[str]) -> FileRow:
    row = FileRow(number, record_type, {})
    more = [cell for cell in cells[len(heads) :] if cell.strip()]
    if more:
        message = f"has {len(cells)} cells below {len(heads)} heads"
        row.faults.append(Fault("", "TOO_MANY_CELLS", message, "Put a cell with the separator in it into quotes."))
    for head, cell in zip(heads, cells, strict=False):
        if len(cell) > LONGEST_CELL:
            message = f"has {len(cell)} characters, at most {LONGEST_CELL} are accepted"
            row.faults.append(Fault(head, "TOO_LONG", message))
        elif cell.strip():
            row.cells[head] = unescaped(cell)
    return row


def unescaped(cell: str) -> str:
    """Return a cell without the mark that our exports put before what a spreadsheet would take for a formula."""
    return cell[1:] if _FORMULA.match(cell) else cell


def escaped(text: str) -> str:
    """Return a text so that no spreadsheet takes it for a formula; `unescaped` takes the mark off again."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") or _FORMULA.match(text) else text


def read_ndjson(content: bytes, record_type: str) -> ReadFile:
    """Return the rows of a file with one record a line. Raises Invalid."""
    rows: list[FileRow] = []
    columns: dict[str, None] = {}
    for line in _text(content).split("\n"):
        if not line.strip():
            continue
        if len(rows) >= MOST_ROWS:
            _too_many()
        row = _line(len(rows) + 1, record_type, line)
        columns.update(dict.fromkeys(row.cells))
        rows.append(row)
    if not rows:
        raise invalid("content", "EMPTY", "is empty", "Send one record a line.")
    return ReadFile(rows, tuple(columns)[:MOST_COLUMNS])


def _line(number: int, record_type: str, line: str) -> FileRow:
    if len(line) > LARGEST_RECORD:
        return FileRow(number, record_type, {}, faults=[_too_large(len(line))])
    try:
        item = _parsed(line)
    except ValueError as error:
        return FileRow(number, record_type, {}, faults=[Fault("", "NOT_JSON", f"is not JSON: {error}", "")])
    return _record(number, record_type, item)


def read_json(content: bytes, record_type: str) -> ReadFile:
    """Return the rows of a bundle or of an array of records. Raises Invalid."""
    try:
        document = _parsed(_text(content))
    except ValueError as error:
        raise invalid("content", "NOT_JSON", f"is not JSON: {error}", "Send a bundle or an array of records.") from None
    if isinstance(document, list):
        found = [_record(number, record_type, item) for number, item in enumerate(_within(document), 1)]
        return _complete(found, {})
    if not isinstance(document, dict):
        raise invalid("content", "WRONG_TYPE", "is neither an object nor an array", "Send a bundle or an array.")
    if isinstance(document.get("crm"), dict):
        document = {**document, **document["crm"]}
    return _complete(list(_of_bundle(document, record_type)), _members(document.get("members")))


def _complete(rows: list[FileRow], members: Mapping[str, str]) -> ReadFile:
    if not rows:
        raise invalid("content", "EMPTY", "has no records", "Send at least one.")
    columns: dict[str, None] = {}
    for row in rows:
        columns.update(dict.fromkeys(row.cells))
    return ReadFile(rows, tuple(columns)[:MOST_COLUMNS], members)


def _of_bundle(document: Mapping[str, Any], record_type: str) -> Iterator[FileRow]:
    wrong: list[Violation] = []
    number = 0
    for part, items in document.items():
        if part in _BESIDE or part in _IGNORED:
            continue
        kind = _BY_PART.get(part)
        if kind is None and isinstance(items, list) and re.fullmatch(r"[a-z][a-z0-9_]{0,39}", part):
            kind = part  # a type of the organization's own stands under its name
        if kind is None:
            hint = did_you_mean(part, [*_BY_PART, *_BESIDE], "Leave it out.")
            wrong.append(Violation("content", "UNKNOWN_PART", f"has a part `{part[:80]}` that is no records", hint))
            continue
        if record_type and kind != record_type:
            continue
        for item in _within(items if isinstance(items, list) else []):
            number += 1
            if number > MOST_ROWS:
                _too_many()
            yield _record(number, kind, item)
    if wrong:
        raise Invalid(*wrong)


def _within(items: list[Any]) -> list[Any]:
    if len(items) > MOST_ROWS:
        _too_many()
    return items


def _members(items: Any) -> dict[str, str]:
    if not isinstance(items, list):
        return {}
    return {
        str(one["id"]): one["email"]
        for one in items[:10_000]
        if isinstance(one, dict) and isinstance(one.get("id"), str) and isinstance(one.get("email"), str)
    }


def _record(number: int, record_type: str, item: Any) -> FileRow:
    row = FileRow(number, record_type, {})
    if not isinstance(item, dict):
        row.faults.append(Fault("", "WRONG_TYPE", "is not an object", 'Write it as {"email": "ada@example.com"}.'))
        return row
    if _depth(item) > _DEEPEST:
        row.faults.append(Fault("", "TOO_DEEP", "is nested too deep", "Flatten it."))
        return row
    row.record_type = _kind(item, record_type)
    row.record_id = str(item.get("public_id") or item.get("id") or "")[:100]
    _references(row, item)
    fields = item.get("fields")
    cells = dict(fields) if isinstance(fields, dict) else {}
    known = _OF_A_RECORD | _IGNORED | {"id", "public_id", "external_id"}
    cells |= {name: value for name, value in item.items() if name not in known}
    row.cells = {str(name): value for name, value in cells.items()}
    return row


def _kind(item: Mapping[str, Any], record_type: str) -> str:
    """Return the type of a record: what the caller or the bundle says, else what it says itself."""
    told = item.get("record_type") or (item.get("type") if isinstance(item.get("fields"), dict) else "")
    return record_type or (str(told)[:40] if isinstance(told, str) else "")


def _references(row: FileRow, item: Mapping[str, Any]) -> None:
    listed = item.get("external_refs")
    for one in listed if isinstance(listed, list) else []:
        if isinstance(one, dict) and one.get("system") and one.get("id") is not None:
            row.references.append((str(one["system"])[:100], str(one["id"])[:320]))
        else:
            row.faults.append(Fault("external_refs", "WRONG_TYPE", "names no system or no id", ""))
    if item.get("external_id") is not None:
        row.references.append((str(item.get("external_system") or "")[:100], str(item["external_id"])[:320]))


def _parsed(text: str) -> Any:
    """Return the value of a JSON text. Raises ValueError with a short sentence."""
    try:
        return json.loads(text, parse_constant=_no_constant, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise ValueError("nested too deep") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"an object gives `{twice[:80]}` twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"JSON has no {name}")


def _depth(value: Any) -> int:
    """Return how deep a value is nested, as far as it matters."""
    level, depth = [value], 0
    while level and depth <= _DEEPEST:
        level = [
            inner
            for one in level
            for inner in (one.values() if isinstance(one, dict) else one if isinstance(one, list) else ())
            if isinstance(inner, dict | list)
        ]
        depth += 1
    return depth


def _too_many() -> NoReturn:
    raise invalid("content", "TOO_MANY_ROWS", f"has more than {MOST_ROWS} rows", "Split the file.")


def _too_large(size: int) -> Fault:
    return Fault("", "TOO_LARGE", f"has {size} characters, at most {LARGEST_RECORD} are accepted")
