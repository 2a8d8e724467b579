"""`dripstone import`: a file of records into the running core, with a look at what it would do first."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from core.commands import bundles
from core.commands.telling import run

if TYPE_CHECKING:
    from dripstone.v1 import transfer_pb2
    from dripstone.v1.client import Client

_FORMATS = {".csv": "CSV", ".tsv": "CSV", ".json": "JSON", ".ndjson": "NDJSON", ".jsonl": "NDJSON"}
_LOOKS_EVERY_SECONDS = 0.2
_SHOWN = 20


class _Mapping(click.ParamType[tuple[str, str]]):
    name = "column=field"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, str]:
        column, separator, field = str(value).rpartition("=")
        if not separator or not column:
            self.fail("is not like 'E-mail address=email'; nothing behind the = leaves the column out", param, ctx)
        return column, field


@click.command("import", short_help="Take a file of records into the running core.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--type", "record_type", default="", help="Type of all rows; a bundle says it itself.")
@click.option("--preview", is_flag=True, help="Only tell what it would do.")
@click.option(
    "--triggers",
    type=click.Choice(["none", "new", "all"]),
    help="Whether workflows start by it: no, by what is new, by all of it. Needed without --preview.",
)
@click.option("--match-by", default="", help="email, external_ref or id; what the type has without it.")
@click.option("--system", default="", help="Whose ids the column external_id has, such as hubspot.")
@click.option("--map", "mapped", type=_Mapping(), multiple=True, help="What a column means; may be repeated.")
@click.option(
    "--with",
    "parts",
    type=click.Choice([*bundles.PARTS, "all"]),
    multiple=True,
    help="Of an export also its definitions (before the rows), lists, consents (after them); may be repeated.",
)
@click.option("--skip-bad-rows", is_flag=True, help="Go on beside rows that cannot be taken.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def import_(
    file: Path,
    record_type: str,
    preview: bool,
    triggers: str | None,
    match_by: str,
    system: str,
    mapped: tuple[tuple[str, str], ...],
    parts: tuple[str, ...],
    skip_bad_rows: bool,
    as_json: bool,
) -> None:
    """Take a CSV, JSON or NDJSON file of records in, after every row was checked.

    Own types, fields and pipelines that a row needs are defined first, or come --with definitions of an export; these
    are defined even where rows are bad then. Ends with 1 when rows are bad. What it changed in records is taken back
    by RevertChanges with the cause it prints.
    """
    from dripstone.v1 import transfer_pb2 as pb

    if triggers is None and not preview:
        raise click.UsageError("Say --triggers none, new or all: whether workflows start by it.")
    if file.suffix.lower() not in _FORMATS:
        raise click.UsageError(f"{file.name} is none of {', '.join(_FORMATS)}.")
    request = pb.CreateImportRequest(
        format=getattr(pb, f"IMPORT_FORMAT_{_FORMATS[file.suffix.lower()]}"),
        content=file.read_bytes(),
        type=record_type or ("contact" if _FORMATS[file.suffix.lower()] == "CSV" else ""),
        columns=[pb.ImportColumn(column=column, field=field) for column, field in mapped],
        match_by=match_by,
        system=system,
        trigger_behaviour=getattr(pb, f"TRIGGER_BEHAVIOUR_{(triggers or 'none').upper()}"),
        skip_bad_rows=skip_bad_rows,
    )
    chosen = bundles.PARTS if "all" in parts else parts
    if chosen and preview:
        raise click.UsageError("--with goes with an import that is carried out: a preview defines nothing.")
    done, bad = run(_import(request, preview, chosen))
    (_print_json if as_json else _show)(done, bad, preview)
    if done.bad_count and not (skip_bad_rows and not preview):
        raise SystemExit(1)


async def _import(
    request: transfer_pb2.CreateImportRequest, preview: bool, parts: tuple[str, ...]
) -> tuple[transfer_pb2.Import, list[transfer_pb2.ImportRow]]:
    """Check the file, carry it out unless it is only looked at, and return what became of it with its bad rows."""
    from dripstone.v1 import transfer_pb2 as pb
    from dripstone.v1.client import from_environment

    document = bundles.read(request.content) if parts else {}
    async with from_environment() as client:
        if "definitions" in parts:
            _tell_more("Defined", await bundles.define(client, document))
        made = await _over(client, await client.records.CreateImport(request), "Checking", pb.IMPORT_STATE_CHECKING)
        bad = await _bad(client, made.id) if made.bad_count else []
        if preview or (made.bad_count and not request.skip_bad_rows):
            await client.records.CancelImport(pb.CancelImportRequest(import_id=made.id))
            return made, bad
        started = await client.records.StartImport(pb.StartImportRequest(import_id=made.id))
        done = await _over(client, started, "Importing", pb.IMPORT_STATE_RUNNING)
        if done.state == pb.IMPORT_STATE_SUCCEEDED and parts:
            _tell_more("Also taken in", await bundles.attach(client, document, done.id, parts))
        return done, await _bad(client, done.id) if done.bad_count else []


def _tell_more(what: str, counts: Mapping[str, int]) -> None:
    if counts:
        click.echo(f"{what}: {', '.join(f'{count:,} {name}' for name, count in counts.items())}", err=True)


async def _over(client: Client, made: transfer_pb2.Import, what: str, state: int) -> transfer_pb2.Import:
    """Wait until an import has left a state, with a bar that shows how far it is."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from dripstone.v1 import transfer_pb2 as pb

    told = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=told, transient=True, disable=not told.is_terminal) as bar:
        task = bar.add_task(what, total=made.row_count)
        while made.state == state:
            await asyncio.sleep(_LOOKS_EVERY_SECONDS)
            made = await client.records.GetImport(pb.GetImportRequest(import_id=made.id))
            bar.update(task, completed=made.done_count)
    return made


async def _bad(client: Client, import_id: str) -> list[transfer_pb2.ImportRow]:
    from dripstone.v1 import transfer_pb2 as pb

    found: list[transfer_pb2.ImportRow] = []
    for outcome in ("bad", "erased", "duplicate_in_file"):
        request = pb.ListImportRowsRequest(import_id=import_id, outcome=outcome, page_size=500)
        found += (await client.records.ListImportRows(request)).rows
    return sorted(found, key=lambda row: row.row)


def _print_json(done: transfer_pb2.Import, bad: list[transfer_pb2.ImportRow], preview: bool) -> None:
    from google.protobuf.json_format import MessageToDict

    told = MessageToDict(done, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    rows = [MessageToDict(row, preserving_proto_field_name=True) for row in bad]
    click.echo(json.dumps({**told, "preview": preview, "bad_rows": rows}, ensure_ascii=False))


def _show(done: transfer_pb2.Import, bad: list[transfer_pb2.ImportRow], preview: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    from dripstone.v1 import transfer_pb2 as pb

    out = Console(soft_wrap=True, highlight=False)
    if bad:
        table = Table("row", "column", "what is wrong", "the way out", box=None)
        for row in bad[:_SHOWN]:
            for fault in row.faults:
                table.add_row(str(row.row), fault.column, fault.message, fault.hint)
        out.print(table)
        if len(bad) > _SHOWN:
            out.print(f"… and {len(bad) - _SHOWN} more rows")
    counts = (
        f"{done.created_count:,} new, {done.updated_count:,} changed, {done.unchanged_count:,} as they were, "
        f"{done.bad_count:,} not taken"
    )
    if done.state == pb.IMPORT_STATE_SUCCEEDED:
        out.print(f"{done.row_count:,} rows: {counts}. To take it back: RevertChanges with cause import:{done.id}")
    elif done.error:
        out.print(f"{done.error} It stopped there: {counts}. StartImport of {done.id} goes on behind that row.")
    else:
        out.print(f"{done.row_count:,} rows would be: {counts}. Nothing was changed.")
