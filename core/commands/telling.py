"""How commands run, and how they tell an operator what went wrong: one sentence and exit code 1."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

import click
import grpc
import uvloop
from sqlalchemy.exc import DBAPIError

_T = TypeVar("_T")


def run(main: Coroutine[Any, Any, _T]) -> _T:
    """Carry out what a command does; files that it makes are for their owner alone."""
    os.umask(0o077)
    with told_plainly():
        return uvloop.run(main)


@contextlib.contextmanager
def told_plainly() -> Iterator[None]:
    """Turn what an operator can mend into one sentence and exit code 1."""
    from core.bootstrap import AlreadyRunning, CannotListen, RefusedToListen
    from dripstone.v1.client import ApiError

    try:
        yield
    except (RefusedToListen, CannotListen, AlreadyRunning, ValueError) as error:
        raise click.ClickException(str(error)) from error
    except DBAPIError as error:
        raise click.ClickException(f"The database cannot be used: {error.orig}") from error
    except OSError as error:
        raise click.ClickException(
            f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}"
        ) from error
    except grpc.aio.AioRpcError as error:
        told = ApiError.of(error)
        if told.code == "UNAVAILABLE":
            raise click.ClickException(
                "No core answers where connection.json points. Start one: dripstone serve"
            ) from error
        problems = "".join(f"\n  {one.field}: {one.message}" for one in told.violations)
        raise click.ClickException(f"{told.message}{problems}\n{told.hint}".rstrip()) from error
