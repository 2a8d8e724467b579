"""`dripstone export`: the records of the running core as one file."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from core.commands.telling import run

if TYPE_CHECKING:
    from dripstone.v1.client import Client

_TRIES = 5
_FORMATS = {".json": "json", ".ndjson": "ndjson", ".jsonl": "ndjson", ".csv": "csv"}


@click.command(short_help="Write the records of the running core into a file.")
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True, path_type=Path))
@click.option("--format", "form", type=click.Choice(["json", "ndjson", "csv"]), help="By the file's name, else json.")
@click.option("--type", "types", multiple=True, help="Only these types, such as contact; may be repeated.")
@click.option("--changes", is_flag=True, help="Also the history of each record.")
@click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON.")
def export(file: Path, form: str | None, types: tuple[str, ...], changes: bool, as_json: bool) -> None:
    """Write the records of the running core into FILE; - is standard output.

    A break of the connection is gone over: the export goes on where it was. FILE is there once it is whole.
    """
    form = form or _FORMATS.get(file.suffix.lower(), "json")
    count = run(_export(file, form, types, changes))
    if as_json:
        click.echo(json.dumps({"file": str(file), "format": form, "record_count": count}), err=str(file) == "-")
    elif str(file) != "-":
        click.echo(f"{count:,} records written into {file}")


async def _export(file: Path, form: str, types: tuple[str, ...], changes: bool) -> int:
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from dripstone.v1.client import from_environment

    told = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=told, transient=True, disable=not told.is_terminal) as bar, _whole(file) as out:
        task = bar.add_task("Exporting")
        async with from_environment() as client:
            return await _written(
                client, out, form, types, changes, lambda n: bar.update(task, description=f"{n:,} records")
            )


@contextmanager
def _whole(file: Path) -> Iterator[IO[bytes]]:
    """Open a file that gets its name once it is whole."""
    if str(file) == "-":
        yield sys.stdout.buffer
        return
    part = file.with_name(f"{file.name}.part")
    try:
        with part.open("wb") as out:
            yield out
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


async def _written(
    client: Client, out: IO[bytes], form: str, types: tuple[str, ...], changes: bool, progress: Any
) -> int:
    import grpc

    from dripstone.v1 import transfer_pb2 as pb

    request = pb.ExportRecordsRequest(
        types=types, format=getattr(pb, f"EXPORT_FORMAT_{form.upper()}"), include_changes=changes
    )
    count, broken = 0, 0
    while True:
        try:
            async for part in client.records.ExportRecords(request):
                out.write(part.content)
                request.cursor, count, broken = part.cursor, part.record_count, 0
                progress(count)
            return count
        except grpc.aio.AioRpcError as error:
            broken += 1
            if error.code() is not grpc.StatusCode.UNAVAILABLE or broken >= _TRIES:
                raise
            await asyncio.sleep(broken)
