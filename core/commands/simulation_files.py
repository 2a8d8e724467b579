"""What `dripstone simulate` reads: contacts, events and assumptions, as CSV, JSON, JSON lines or YAML."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from core.domain.errors import Invalid, Violation
from core.domain.workflow import source

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,14})(?:\.[0-9]{1,15})?")
_LIST = re.compile(r"(?:\s|#[^\n]*\n)*-\s")
"""How a YAML list begins, after comments."""
_LINE = re.compile(r"^line (\d+)")
_WORDS = {"true": True, "false": False}


def text_of(path: Path) -> str:
    """Return what a file says. Raises Invalid when it is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        message = f"this is not UTF-8 text: {error.reason} at byte {error.start}"
        raise Invalid(Violation(path.name, "NOT_TEXT", message, "Save it as UTF-8.")) from None


@contextlib.contextmanager
def named(path: Path) -> Iterator[None]:
    """Let what is wrong begin with the name of the file that it is in."""
    try:
        yield
    except Invalid as error:
        raise Invalid(*(replace(one, field=f"{path.name}: {one.field}") for one in error.violations)) from None


def read_rows(path: Path, key: str) -> list[Any]:
    """Return the rows of a file; a map in it may hold them under `key`.

    Raises Invalid when there are none to read.
    """
    text = text_of(path)
    match path.suffix.lower():
        case ".csv":
            return _csv(text)
        case ".jsonl" | ".ndjson":
            return _json_lines(text, path.name)
        case ".json":
            found = _json(text, path.name)
        case _:
            found = _listed(text, key, path.name) if _LIST.match(text) else source.parse(text, path.name)
    rows = found.get(key) if isinstance(found, Mapping) else found
    if not isinstance(rows, list):
        hint = f"Write a list, or a map with {key}."
        raise Invalid(Violation(path.name, "WRONG_TYPE", f"this holds no list of {key}", hint))
    return rows


def _listed(text: str, key: str, name: str) -> dict[str, Any]:
    """Return a bare list under a key, as documents need one; the lines told are still those of the file."""
    try:
        return source.parse(f"{key}:\n{text}", name)
    except Invalid as error:
        told = (
            replace(one, message=_LINE.sub(lambda line: f"line {int(line[1]) - 1}", one.message))
            for one in error.violations
        )
        raise Invalid(*told) from None


def read_assumed(given: Iterable[str]) -> dict[str, Any]:
    """Return assumptions, each a file or a line of YAML such as `approvals: reject`; later ones add to earlier ones."""
    merged: dict[str, Any] = {}
    for one in given:
        path = Path(one.removeprefix("@"))
        is_file = one.startswith("@") or (len(one) < 255 and "\n" not in one and path.is_file())
        if not is_file and ":" not in one and "{" not in one:
            hint = "Name a file that is there, or write YAML, such as 'approvals: reject'."
            raise Invalid(Violation("--assume", "NO_SUCH_FILE", f"there is no file {one[:100]}", hint))
        merged |= source.parse(text_of(path) if is_file else one, path.name if is_file else "--assume")
    return merged


def _csv(text: str) -> list[dict[str, Any]]:
    """Return rows by column; an empty cell says nothing, and own fields hold numbers where they look like them."""
    rows = csv.DictReader(io.StringIO(text), dialect=_dialect(text))
    return [
        {name.strip(): _cell(name.strip(), cell) for name, cell in row.items() if name and _says_something(cell)}
        for row in rows
    ]


def _says_something(cell: Any) -> bool:
    return isinstance(cell, str) and bool(cell.strip())


def _dialect(text: str) -> type[csv.Dialect]:
    try:
        return csv.Sniffer().sniff(text.partition("\n")[0], delimiters=",;\t")
    except csv.Error:
        return csv.excel


def _cell(column: str, text: str) -> Any:
    text = text.strip()
    if "custom." in column or column.startswith(("variables.", "fields.")):
        if text.lower() in _WORDS:
            return _WORDS[text.lower()]
        if _NUMBER.fullmatch(text):
            return float(text) if "." in text else int(text)
    return text


def _json(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise Invalid(Violation(name, "NOT_JSON", f"this is not JSON: {error}")) from None


def _json_lines(text: str, name: str) -> list[Any]:
    return [_json(line, f"{name}:{number}") for number, line in enumerate(text.splitlines(), 1) if line.strip()]


def nested(rows: Sequence[Any]) -> list[Any]:
    """Return rows of events with `fields.amount` and the like put together, as a table has to write them."""
    found = []
    for row in rows:
        if isinstance(row, Mapping) and any(str(name).startswith(("fields.", "set.")) for name in row):
            whole: dict[str, Any] = {}
            for name, value in row.items():
                head, _, rest = str(name).partition(".")
                if head in ("fields", "set") and rest:
                    whole.setdefault(head, {})[rest] = value
                else:
                    whole[str(name)] = value
            row = whole
        found.append(row)
    return found
