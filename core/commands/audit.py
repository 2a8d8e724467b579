"""`dripstone audit`: takes the audit log out of the running core, and checks such a file without one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from core.commands.telling import run
from core.domain.control.audit import BEGINNING, LONGEST_LINE, Checker, Seal, parse_seal

_EVERY_LINES = 2_000


class _Place(click.ParamType[Seal]):
    name = "sequence:hash"

    def convert(self, value: Any, param: Any, ctx: Any) -> Seal:
        if isinstance(value, Seal):
            return value
        if value == "0":
            return BEGINNING
        try:
            return parse_seal(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.group(short_help="Take the audit log out, and check it offline.")
def audit() -> None:
    """Take the audit log out of the running core, and check such a file without one."""


@audit.command(short_help="Write the audit log into a new file.")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--after", type=click.IntRange(0), default=0, help="Begin after this entry, to go on from another file.")
@click.option("--json", "as_json", is_flag=True, help="Print what came out of it as JSON.")
def export(file: Path, after: int, as_json: bool) -> None:
    """Write the audit log into a new file, one line an entry.

    Lines are JSON, in the order of the chain. Keep the head that is printed somewhere else: with it,
    `dripstone audit verify` finds whatever is done to the file, or to the log itself, later.
    """
    head, count = run(_export(file, after, Console(stderr=True)))
    if as_json:
        click.echo(json.dumps({"file": str(file), "entries": count, "head": str(head)}))
        return
    click.echo(f"{count:,} entries in {file}.")
    if head.sequence:
        click.echo(f"Head: {head}")


async def _export(file: Path, after: int, told: Console) -> tuple[Seal, int]:
    """Write what the core streams; return the last entry's place, and how many there were."""
    from dripstone.v1 import audit_pb2 as pb
    from dripstone.v1.client import from_environment

    count, last = 0, b""
    async with from_environment() as client:
        ahead = await client.audit.GetAuditHead(pb.GetAuditHeadRequest())
        stream = client.audit.ExportAudit(pb.ExportAuditRequest(after_sequence=after))
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
        with (
            file.open("xb") as out,
            Progress(*columns, console=told, transient=True, disable=not told.is_terminal) as bar,
        ):
            task = bar.add_task("Writing", total=max(ahead.sequence - after, 1))
            async for part in stream:
                out.write(part.content)
                count += part.content.count(b"\n")
                last = part.content
                bar.update(task, completed=min(count, ahead.sequence))
    if not last:
        return BEGINNING, 0
    said = json.loads(last.splitlines()[-1])
    return Seal(said["sequence"], said["hash"]), count


@audit.command(short_help="Check an exported audit log without a core.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--head", type=_Place(), help="An entry that must be there, as GetAuditHead or the export told it.")
@click.option("--after", type=_Place(), help="What the first line must follow; 0 for the log's beginning.")
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
def verify(file: Path, head: Seal | None, after: Seal | None, as_json: bool) -> None:
    """Check an exported audit log without a core.

    Looked at are every hash and every link, and that nothing is missing. Without --head nobody can tell whether lines
    are missing at the end, or whether somebody wrote the whole log anew. Ends with 1 when anything is wrong.
    """
    checker = Checker(after=after, head=head)
    _check(file, checker, Console(stderr=True))
    if as_json:
        click.echo(json.dumps(_as_data(checker)))
    else:
        _tell(checker, file.name)
    if checker.faults:
        raise SystemExit(1)


def _check(file: Path, checker: Checker, told: Console) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    with (
        file.open("rb") as lines,
        Progress(*columns, console=told, transient=True, disable=not told.is_terminal) as bar,
    ):
        task = bar.add_task("Checking", total=file.stat().st_size)
        for number, raw in enumerate(_lines(lines)):
            checker.take(raw)
            if number % _EVERY_LINES == 0:
                bar.update(task, completed=lines.tell())
    checker.finish()


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Yield lines; of one that is far too long, only its beginning, so that no file fills the memory."""
    while raw := file.readline(LONGEST_LINE + 1):
        yield raw
        while len(raw) > LONGEST_LINE and not raw.endswith(b"\n"):
            raw = file.readline(LONGEST_LINE + 1)


def _as_data(checker: Checker) -> dict[str, Any]:
    return {
        "intact": not checker.faults,
        "lines": checker.count,
        "after": str(checker.after or checker.believed or BEGINNING),
        "last": str(checker.last or BEGINNING),
        "head_checked": checker.head is not None,
        "faults": [asdict(fault) for fault in checker.faults],
    }


def _tell(checker: Checker, name: str) -> None:
    console = Console()
    for fault in checker.faults:
        where = f"line {fault.line:,}" if fault.line else "at the end"
        console.print(f"[bold]{escape(name)}, {where}[/]: {escape(fault.message)}", soft_wrap=True, highlight=False)
    if checker.faults:
        faults = "1 fault" if len(checker.faults) == 1 else f"{len(checker.faults)} faults"
        console.print(f"[red]Not intact[/]: {faults} in {checker.count:,} lines.")
        return
    table = Table.grid(padding=(0, 2))
    table.add_row("Entries", f"{checker.count:,}")
    table.add_row("Last", str(checker.last or "none"))
    console.print("[green]Intact[/]: every entry is what it was, in its place.")
    console.print(table, soft_wrap=True)
    if checker.believed is not None and checker.believed.sequence:
        told = f"The file begins after entry {checker.believed}; --after says what you know of it."
        console.print(f"[yellow]![/] {escape(told)}", soft_wrap=True, highlight=False)
    if checker.head is None:
        told = (
            "No --head was given: lines that are missing at the end cannot be found, nor a log that was written anew."
        )
        console.print(f"[yellow]![/] {escape(told)}", soft_wrap=True, highlight=False)
