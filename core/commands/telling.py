"""How commands run, and how they tell an operator what went wrong: one sentence and exit code 1."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Coroutine, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import click
import uvloop

if TYPE_CHECKING:
    import grpc

_T = TypeVar("_T")

_ELSEWHERE = 'With a data directory of its own it is found by: eval "$(dripstone env --data-dir DIR)"'


def run(main: Coroutine[Any, Any, _T]) -> _T:
    """Carry out what a command does; files that it makes are for their owner alone."""
    os.umask(0o077)
    with told_plainly():
        return uvloop.run(main)


@contextlib.contextmanager
def told_plainly() -> Iterator[None]:
    """Turn what an operator can mend into one sentence and exit code 1."""
    try:
        yield
    except click.ClickException:
        raise
    except Exception as error:
        if (said := _sentence(error)) is not None:
            raise click.ClickException(said) from error
        raise


def _sentence(error: Exception) -> str | None:
    """Return what an operator is told; None for what no operator can mend."""
    from grpc.aio import AioRpcError  # slow to load, as all that is imported in functions here

    from dripstone.v1.client import NotConnected

    if isinstance(error, NotConnected):
        return f"{str(error)[:1].upper()}{str(error)[1:]}.\n{_ELSEWHERE}"
    if isinstance(error, AioRpcError):
        return _refusal(error)
    if isinstance(error, OSError):
        return f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}"

    from core.bootstrap import AlreadyRunning
    from core.listening import CannotListen, RefusedToListen
    from core.store.database import ERRORS

    if isinstance(error, ERRORS):
        return f"The database cannot be used: {getattr(error, 'orig', error)}"
    if isinstance(error, (RefusedToListen, CannotListen, AlreadyRunning, ValueError)):
        return str(error)
    return None


def _refusal(error: grpc.aio.AioRpcError) -> str:
    """Return what the core said, with every field that is wrong and the way out."""
    from dripstone.v1.client import ApiError

    told = ApiError.of(error)
    if told.code == "UNAVAILABLE":
        return "No core answers where DRIPSTONE_TARGET or connection.json points. Start one: dripstone serve"
    problems = "".join(f"\n  {one.field}: {one.message}" for one in told.violations)
    # The message names the first of them, too.
    message = told.message.partition(f": {told.violations[0].field}: ")[0] + ":" if told.violations else told.message
    return f"{message}{problems}\n{told.hint}".rstrip()
