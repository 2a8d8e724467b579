"""Fills the tables: copies of an enrollment, its contact and whatever else tells of the two, made by the database.

Which columns to change is read from the model's rows, not written down here: what holds its ids, its e-mail address or
its due time is replaced, the rest is copied. So the schema may grow without this file.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
from sqlalchemy import Column, String, Table, make_url

import core.outward  # noqa: F401 -- every table is known once every part of the core is
from core.store.metadata import Instant, Json, metadata
from core.store.postgresql import PARTITIONED
from tests.bench import workload
from tests.bench.child import tell

_AT_ONCE = 50_000
_NOT_COPIED = frozenset({*PARTITIONED, "record_changes"})
"""History: nobody claims from it."""

Fetch = Callable[[str], Awaitable[Sequence[Sequence[Any]]]]


@dataclass(frozen=True, slots=True)
class Crowd:
    """Copies to make of one model."""

    org: str
    enrollment: str
    contact: str
    email: str
    model_due: int | None
    """When the model is due, in microseconds; None when it is not due by time."""
    prefix: str
    """One character that may stand in an id; it keeps crowds of one model apart."""
    first: int
    count: int
    due: int | None = None
    """When the first copy is due, in microseconds; None for the model's own due time."""
    apart: int = 0
    """Microseconds between one due time and the next."""
    group: int = 1
    """So many copies share a due time."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How the two databases say the same."""

    series: str
    number: str
    """The running number as text with leading zeros; `{digits}` of them."""
    json: str
    """Turns `{text}` into a JSON value."""
    size: str
    """Bytes of `{table}` with its indexes; on SQLite, of the file."""


_DIALECTS = {
    "sqlite": Dialect(
        "WITH RECURSIVE n(i) AS (SELECT {first} UNION ALL SELECT i + 1 FROM n WHERE i < {last}) ",
        "printf('%0{digits}d', n.i)",
        "{text}",
        "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()",
    ),
    "postgresql": Dialect(
        "WITH n(i) AS (SELECT * FROM generate_series({first}::bigint, {last}::bigint)) ",
        "lpad(n.i::text, {digits}, '0')",
        "({text})::jsonb",
        "SELECT pg_total_relation_size('{table}')",
    ),
}


async def run(spec: dict[str, Any]) -> dict[str, Any]:
    """Make every one of `crowds` in the database at `url`; return the `bytes` by which each table grew."""
    kind = make_url(spec["url"]).get_backend_name()
    crowds = [Crowd(**crowd) for crowd in spec["crowds"]]
    grown: dict[str, int] = {}
    async with _opened(kind, spec["url"]) as fetch:
        tables = {crowd: await _tables_of(fetch, crowd) for crowd in crowds}
        total = sum(crowd.count * len(found) for crowd, found in tables.items())
        done = 0
        for crowd, found in tables.items():
            for table, row in found:
                before = await _size(fetch, kind, table)
                for start in range(crowd.first, crowd.first + crowd.count, _AT_ONCE):
                    last = min(start + _AT_ONCE, crowd.first + crowd.count) - 1
                    await fetch(_statement(_DIALECTS[kind], crowd, table, row, start, last))
                    done += last - start + 1
                    tell(done=done, total=total)
                grown[table.name] = grown.get(table.name, 0) + await _size(fetch, kind, table) - before
        await _settle(kind, fetch, checkpoint=spec["checkpoint"])
    return {"bytes": grown}


@asynccontextmanager
async def _opened(kind: str, url: str) -> AsyncIterator[Fetch]:
    """Connect without durability: a load that a crash undoes is simply repeated."""
    if kind == "sqlite":
        file = sqlite3.connect(make_url(url).database or "", isolation_level=None)
        file.execute("PRAGMA synchronous=OFF")

        async def from_file(sql: str) -> Sequence[Sequence[Any]]:
            return file.execute(sql).fetchall()

        try:
            yield from_file
        finally:
            file.close()
        return
    connection = await asyncpg.connect(url)
    await connection.execute("SET synchronous_commit = off; SET app.org = '*'")
    try:
        yield connection.fetch
    finally:
        await connection.close()


async def _settle(kind: str, fetch: Fetch, *, checkpoint: bool) -> None:
    """Leave the database as it would be a while after a load: on PostgreSQL vacuumed and analysed; written out."""
    if kind == "sqlite":
        await fetch("PRAGMA wal_checkpoint(TRUNCATE)")
        return
    await fetch("VACUUM ANALYZE")
    if checkpoint:
        await fetch("CHECKPOINT")


async def _size(fetch: Fetch, kind: str, table: Table) -> int:
    rows = await fetch(_DIALECTS[kind].size.format(table=table.name))
    return int(rows[0][0])


async def _tables_of(fetch: Fetch, crowd: Crowd) -> list[tuple[Table, dict[str, str | None]]]:
    """Return each row that tells of the model, with its table; values as text."""
    found = []
    for table in metadata.sorted_tables:
        if table.name in _NOT_COPIED or "org_id" not in table.c:
            continue
        texts = [column.name for column in table.c if isinstance(column.type, String)]
        mentions = " OR ".join(f"{name} IN ('{crowd.enrollment}', '{crowd.contact}')" for name in texts)
        columns = ", ".join(f"CAST({column.name} AS text)" for column in table.c)
        sql = f"SELECT {columns} FROM {table.name} WHERE org_id = '{crowd.org}' AND ({mentions})"
        for row in await fetch(sql):
            found.append((table, dict(zip(table.c.keys(), row, strict=True))))
    if crowd.due is not None and not any(str(crowd.model_due) in row.values() for _, row in found):
        raise AssertionError("the model's due time stands nowhere: the bench no longer knows the schema")
    return found


def _statement(dialect: Dialect, crowd: Crowd, table: Table, row: dict[str, str | None], first: int, last: int) -> str:
    values = {column.name: _value(dialect, crowd, column, row[column.name]) for column in table.c}
    key = [column.name for column in table.primary_key if column.name != "org_id"]
    if all(values[name] == f"t.{name}" for name in key):  # an id of its own
        values[key[0]] = _numbered(dialect, crowd, row[key[0]] or "")
    where = " AND ".join(f"t.{name} = {_quoted(row[name] or '')}" for name in ["org_id", *key])
    return (
        f"{dialect.series.format(first=first, last=last)} INSERT INTO {table.name} ({', '.join(values)}) "
        f"SELECT {', '.join(values.values())} FROM {table.name} t CROSS JOIN n WHERE {where}"
    )


def _value(dialect: Dialect, crowd: Crowd, column: Column[Any], held: str | None) -> str:
    """Return the expression for one column of a copy."""
    kept = f"t.{column.name}"
    if held is None:
        return kept
    if isinstance(column.type, Instant):
        if crowd.due is None or held != str(crowd.model_due):
            return kept
        return f"{crowd.due} + ((n.i - {crowd.first}) / {crowd.group}) * {crowd.apart}"
    changed = text = f"CAST({kept} AS text)" if isinstance(column.type, Json) else kept
    for known in (crowd.enrollment, crowd.contact, crowd.email):
        if known in held:
            changed = f"replace({changed}, '{known}', {_copy_of(dialect, crowd, known)})"
    if changed == text:
        return kept
    return dialect.json.format(text=changed) if isinstance(column.type, Json) else changed


def _copy_of(dialect: Dialect, crowd: Crowd, known: str) -> str:
    if known != crowd.email:
        return _numbered(dialect, crowd, known)
    number = dialect.number.format(digits=workload.COPY_DIGITS)
    before, after = workload.email(crowd.prefix, "\0").split("\0")
    return f"'{before}' || {number} || '{after}'"


def _numbered(dialect: Dialect, crowd: Crowd, known: str) -> str:
    number = dialect.number.format(digits=workload.COPY_DIGITS)
    return f"'{known[: -workload.COPY_DIGITS - 1]}{crowd.prefix}' || {number}"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
