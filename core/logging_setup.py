"""How the process logs: one line an event, to standard error, readable in a terminal and JSON elsewhere.

Errors of a database quote the row or the parameter they are about, and those are people's data. Whatever is logged of
them, by us or by a library, is their kind, their code and the names of constraint, table and column: never a value.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog
import structlog.tracebacks
from structlog.typing import EventDict, Processor

_DATABASE = frozenset({"asyncpg", "sqlalchemy", "sqlite3", "aiosqlite"})
_NAMES = ("constraint_name", "table_name", "column_name")
_ABOUT_VALUES = "22"
"""The class of PostgreSQL's codes whose very sentence quotes a value."""

_LONGEST_STATEMENT = 300


def configure(level: str) -> None:
    """Log this level and above."""
    number = logging.getLevelNamesMapping()[level.upper()]
    # Never the local variables of a traceback: they hold keys and people's data.
    tracebacks: list[Processor]
    if sys.stderr.isatty():
        tracebacks = [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    else:
        transformer = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        tracebacks = [structlog.processors.ExceptionRenderer(transformer), structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            _tell_no_values,
            *tracebacks,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.setLogRecordFactory(_record)
    logging.basicConfig(level=max(number, logging.WARNING), stream=sys.stderr)
    sys.excepthook = _last_words


def without_values(error: BaseException) -> BaseException:
    """Return an error as it may be logged: itself, or where its chain holds values, one of the same name without."""
    return _told(error, {}, False) if _is_told_otherwise(error, set()) else error


def _tell_no_values(_logger: Any, _name: str, event: EventDict) -> EventDict:
    given = event.pop("exc_info", None)
    error = given[1] if isinstance(given, tuple) else sys.exc_info()[1] if given is True else given
    told = {key: without_values(value) if isinstance(value, BaseException) else value for key, value in event.items()}
    return {**told, "exc_info": without_values(error)} if isinstance(error, BaseException) else told


def _record(*args: Any, **values: Any) -> logging.LogRecord:
    """Return a record of a library's log, whoever will write it out."""
    record = logging.LogRecord(*args, **values)
    if isinstance(record.args, tuple):
        record.args = tuple(without_values(one) if isinstance(one, BaseException) else one for one in record.args)
    error = record.exc_info[1] if record.exc_info else None
    told = None if error is None else without_values(error)
    if told is not None and told is not error:
        record.exc_info = (type(told), told, told.__traceback__)
        # asyncio goes on with the task, and that shows its exception.
        record.msg, record.args = record.getMessage().partition("\n")[0], ()
    return record


def _last_words(_kind: Any, error: BaseException, _traceback: Any) -> None:
    told = without_values(error)
    sys.__excepthook__(type(told), told, told.__traceback__)


def _is_of_database(error: BaseException) -> bool:
    return type(error).__module__.partition(".")[0] in _DATABASE


def _is_told_otherwise(error: BaseException | None, seen: set[int]) -> bool:
    if error is None or id(error) in seen:
        return False
    seen.add(id(error))
    within = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    if _is_of_database(error) or getattr(error, "violations", None):
        return True
    return any(_is_told_otherwise(one, seen) for one in (error.__cause__, error.__context__, *within))


def _told(error: BaseException, known: dict[int, BaseException], below: bool) -> BaseException:
    """Return what stands for an error; `below` one of the database its causes may quote the same value."""
    if id(error) in known:
        return known[id(error)]
    kind = type(error)
    within = below or _is_of_database(error)
    stand_in: BaseException
    if isinstance(error, BaseExceptionGroup):
        stand_in = error.derive([_told(one, known, within) for one in error.exceptions])
    else:
        names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
        stand_in = type(kind.__name__, (Exception,), names)(_in_short(error, below))
    known[id(error)] = stand_in
    cause, context = error.__cause__, error.__context__
    stand_in.__cause__ = None if cause is None else _told(cause, known, within)
    stand_in.__context__ = None if context is None else _told(context, known, within)
    stand_in.__suppress_context__ = error.__suppress_context__
    return stand_in.with_traceback(error.__traceback__)


def _in_short(error: BaseException, below: bool) -> str:
    """Return what may be said of an error."""
    violations = getattr(error, "violations", None)
    if violations:
        return ", ".join(f"{one.field} {one.reason}" for one in violations)
    if not _is_of_database(error):
        return "" if below and not isinstance(error, OSError) else str(error)
    code = getattr(error, "sqlstate", None) or ""
    said = [code, *(getattr(error, name, None) for name in _NAMES)]
    if not code.startswith(_ABOUT_VALUES):
        said.append(_sentence(error))
    statement = getattr(error, "statement", None)
    if statement:
        said.append(f"[SQL: {statement[:_LONGEST_STATEMENT]}]")
    return " ".join(one for one in said if isinstance(one, str) and one)


def _sentence(error: BaseException) -> str:
    """Return the sentence of a driver, without DETAIL and HINT; that of SQLAlchemy repeats the driver's."""
    driver = type(error).__module__.partition(".")[0]
    own = driver != "sqlalchemy" or type(error).__name__ == "TimeoutError"
    return str(error.args[0]).partition("\n")[0] if own and error.args else ""
