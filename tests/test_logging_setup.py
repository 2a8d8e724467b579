"""What the log keeps to itself: whatever goes wrong in a database, no value of a row or of a statement gets there."""

from __future__ import annotations

import asyncio
import io
import logging
import sys
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import structlog
from sqlalchemy import make_url

from core import logging_setup
from core.clock import ManualClock
from core.domain.errors import invalid
from core.logging_setup import without_values
from core.loop import Loop
from core.store.database import Database
from core.store.records.identifiers import record_identifiers
from core.store.transaction import Transaction

pytestmark = pytest.mark.anyio

ADDRESS = "ada@people.example"
ROW = {"org_id": "org_a", "record_type": "contact", "kind": "email", "value": ADDRESS, "record_id": "cnt_1"}


async def by_sqlalchemy(tx: Transaction) -> None:
    for _ in range(2):
        await tx.insert(record_identifiers, [ROW])


async def by_the_driver(tx: Transaction) -> None:
    await tx.bulk_insert(record_identifiers, tuple(ROW), [tuple(ROW.values())] * 2)


async def by_a_value_of_the_wrong_kind(tx: Transaction) -> None:
    if tx.dialect == "postgresql":
        await tx.fetch("SELECT $1::bigint", ADDRESS)
    else:
        await tx.fetch("SELECT $1 -> 'no json path', json($1)", ADDRESS)


async def by_a_text_that_is_no_number(tx: Transaction) -> None:
    await tx.fetch("SELECT CAST($1::text AS bigint)" if tx.dialect == "postgresql" else "SELECT json($1)", ADDRESS)


Break = Callable[[Transaction], Any]
BREAKS = [by_sqlalchemy, by_the_driver, by_a_value_of_the_wrong_kind, by_a_text_that_is_no_number]


@pytest.fixture
async def revealing(database: Database, clock: ManualClock, request: pytest.FixtureRequest) -> AsyncIterator[Database]:
    """Open the database as somebody from whom PostgreSQL keeps nothing, as a superuser is."""
    if not database.is_postgresql:
        yield database
        return
    server = make_url(request.getfixturevalue("postgresql_server")).set(database=database.url.database)
    opened = await Database.open(server.render_as_string(hide_password=False), clock)
    yield opened
    await opened.close()


@pytest.fixture(params=["a terminal", "elsewhere"])
def log(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], str]]:
    """Set logging up as the process does, and return what reads its output."""
    before, records = structlog.get_config(), logging.getLogRecordFactory()
    written = io.StringIO()
    monkeypatch.setattr(written, "isatty", lambda: request.param == "a terminal", raising=False)
    monkeypatch.setattr(sys, "stderr", written)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr("core.loop._log", structlog.get_logger())  # one that no earlier test has used
    logging_setup.configure("info")
    handler = logging.StreamHandler(written)
    logging.getLogger().addHandler(handler)
    yield written.getvalue
    logging.getLogger().removeHandler(handler)
    logging.setLogRecordFactory(records)
    structlog.configure(**before)


@asynccontextmanager
async def caught(database: Database, how: Break) -> AsyncIterator[Exception]:
    try:
        async with database.system() as tx:
            await how(tx)
    except Exception as error:
        yield error
    else:
        pytest.fail("nothing went wrong")


@pytest.mark.parametrize("how", BREAKS)
async def test_no_value_gets_into_the_log_by_any_of_its_ways(
    revealing: Database, log: Callable[[], str], how: Break
) -> None:
    async with caught(revealing, how) as error:
        kind = type(error).__name__
        if revealing.is_postgresql:
            assert ADDRESS in "".join(traceback.format_exception(error)), "there is something to hide"
        ours = structlog.get_logger()
        ours.error("it broke", exc_info=error)
        ours.error("it broke", exc_info=(type(error), error, error.__traceback__))
        ours.error("it broke", error=error)
        try:
            raise error
        except Exception:
            ours.exception("it broke")
            logging.getLogger("some.library").exception("It broke: %s", error)
        logging.getLogger("some.library").error("It broke: %s", error)
        sys.excepthook(type(error), error, error.__traceback__)
        asyncio.get_running_loop().default_exception_handler(
            {"message": "Task exception was never retrieved", "exception": error, "task": await _failed(error)}
        )
    told = log()
    assert ADDRESS not in told
    assert told.count(kind) > 4
    assert "Traceback" in told
    assert "test_logging_setup.py" in told
    assert "never retrieved" in told


async def _failed(error: Exception) -> asyncio.Task[None]:
    async def fail() -> None:
        raise error

    task = asyncio.create_task(fail())
    await asyncio.wait([task])
    task.exception()
    return task


async def test_what_a_loop_cannot_write_is_logged_with_its_constraint(
    revealing: Database, clock: ManualClock, log: Callable[[], str]
) -> None:
    async def turn() -> int:
        loop.stop()
        async with revealing.system() as tx:
            await by_the_driver(tx)
        return 1

    loop = Loop("matcher", turn, asyncio.Event(), clock)
    await loop.run()
    told = log()
    assert ADDRESS not in told
    names = ["23505", "record_identifiers_pkey", "UniqueViolationError"]
    for name in names if revealing.is_postgresql else ["UNIQUE constraint failed", "IntegrityError"]:
        assert name in told


async def test_what_led_to_an_error_is_told_without_values_either(revealing: Database) -> None:
    async with caught(revealing, by_sqlalchemy) as error:
        outer = RuntimeError("the batch failed")
        outer.__cause__ = ExceptionGroup("both", [error, ValueError("a good reason")])
        told = without_values(outer)
        assert str(told) == "the batch failed"
        assert type(told).__name__ == "RuntimeError"
        assert isinstance(told.__cause__, ExceptionGroup)
        broken, reason = told.__cause__.exceptions
        assert (type(broken).__name__, str(reason)) == (type(error).__name__, "a good reason")
        assert broken.__traceback__ is error.__traceback__
        assert str(outer.__cause__.exceptions[0]) == str(error), "the error itself is left alone"


def test_other_errors_are_told_as_they_are() -> None:
    error = ValueError("no such step")
    assert without_values(error) is error
    refused = without_values(invalid("contact.email", "INVALID_EMAIL", f"{ADDRESS} is no e-mail address"))
    assert (type(refused).__name__, str(refused)) == ("Invalid", "contact.email INVALID_EMAIL")
