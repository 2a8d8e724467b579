"""What a database does by itself here: the floors that the engine's figures are divided by."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
from sqlalchemy import make_url

PAYLOAD = "x" * 145
"""A small state; every floor row carries one."""

_FSYNC_BYTES = b"x" * 4096


async def run(spec: dict[str, Any]) -> dict[str, Any]:
    """Measure the floor that `floor` names on the database at `url` for `seconds`; return it `per_second`."""
    url, seconds, name = make_url(spec["url"]), spec["seconds"], spec["floor"]
    if name == "fsync":
        return {"per_second": await asyncio.to_thread(_fsyncs, Path(spec["folder"]), seconds)}
    if url.get_backend_name() == "sqlite":
        return {"per_second": await asyncio.to_thread(_sqlite, Path(url.database or ""), name, seconds)}
    return {"per_second": await _postgresql(spec["url"], name, seconds)}


def _sqlite(path: Path, name: str, seconds: float) -> float:
    """Insert in WAL mode with synchronous=FULL, as the product writes; `rows 1000` has 1,000 rows a transaction."""
    batch = int(name.split()[1])
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        for statement in (
            "PRAGMA journal_mode=WAL",
            "PRAGMA synchronous=FULL",
            "DROP TABLE IF EXISTS floor",
            "CREATE TABLE floor (id INTEGER PRIMARY KEY, payload TEXT NOT NULL)",
        ):
            connection.execute(statement)
        rows, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds:
            connection.execute("BEGIN IMMEDIATE")
            values = [(rows + number, PAYLOAD) for number in range(batch)]
            connection.executemany("INSERT INTO floor VALUES (?, ?)", values)
            connection.execute("COMMIT")
            rows += batch
        return rows / (time.perf_counter() - start)
    finally:
        connection.close()


async def _postgresql(url: str, name: str, seconds: float) -> float:
    connection = await asyncpg.connect(url)
    try:
        if name == "round trips":
            statement = await connection.prepare("SELECT 1")
            return await _repeated(statement.fetchval, seconds)
        batch = int(name.split()[1])
        await connection.execute("DROP TABLE IF EXISTS floor")
        await connection.execute("CREATE TABLE floor (id bigint PRIMARY KEY, payload text NOT NULL)")
        insert = await connection.prepare("INSERT INTO floor SELECT * FROM unnest($1::bigint[], $2::text[])")
        payloads, written = [PAYLOAD] * batch, 0

        async def once() -> None:
            nonlocal written
            await insert.fetch(list(range(written, written + batch)), payloads)
            written += batch

        return batch * await _repeated(once, seconds)
    finally:
        await connection.close()


async def _repeated(once: Callable[[], Awaitable[object]], seconds: float) -> float:
    done, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < seconds:
        await once()
        done += 1
    return done / spent


def _fsyncs(folder: Path, seconds: float) -> float:
    file = os.open(folder / "fsync", os.O_CREAT | os.O_WRONLY)
    try:
        done, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds:
            os.pwrite(file, _FSYNC_BYTES, (done % 4096) * 4096)
            os.fdatasync(file)
            done += 1
        return done / (time.perf_counter() - start)
    finally:
        os.close(file)
