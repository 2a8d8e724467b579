"""`dripstone sync`: brings records in step with an outside system of record, and tells what became of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from core.commands.telling import run

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from rich.table import Table

    from dripstone.v1 import connection_pb2, system_pb2
    from dripstone.v1.client import Client

_LOOKS_EVERY_SECONDS = 0.2
_PAGE = 500
_SHOWN = 20
_WIDEST = 1_000
_TOLD = ("failed", "conflict", "skipped")
"""Outcomes that a person may want to do something about."""


@click.group(short_help="Bring records in step with HubSpot, Salesforce and others.")
def sync() -> None:
    """Bring records here and in an outside system of record in step, and tell what became of them."""


@sync.command("start", short_help="Begin a sync, and watch it to its end.")
@click.argument("connection", default="")
@click.option("--direction", type=click.Choice(["both", "pull", "push"]), default="both", show_default=True)
@click.option("--type", "types", multiple=True, help="Only this record type; may be repeated.")
@click.option("--full", is_flag=True, help="Everything, not only what has changed since the last one.")
@click.option("--preview", is_flag=True, help="Only compare and tell; nothing changes on either side.")
@click.option("--no-wait", is_flag=True, help="Print the sync and leave; it goes on by itself.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def start(
    connection: str, direction: str, types: tuple[str, ...], full: bool, preview: bool, no_wait: bool, as_json: bool
) -> None:
    """Begin a sync of CONNECTION, its id or its name, and watch it to its end.

    CONNECTION may be left out where there is only one. Ends with 1 when the sync or any record failed; interrupted,
    the sync goes on by itself.
    """
    from dripstone.v1 import system_pb2 as pb

    request = pb.StartSyncRequest(
        direction=pb.SyncDirection.Value(f"SYNC_DIRECTION_{direction.upper()}"),
        types=types,
        full=full,
        preview=preview,
    )
    _tell(*run(_started(connection, request, wait=not no_wait)), as_json)


@sync.command("watch", short_help="Watch a sync to its end.")
@click.argument("sync_id")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def watch(sync_id: str, as_json: bool) -> None:
    """Watch a sync to its end, and tell what became of its records. Ends with 1 when it or any record failed."""
    _tell(*run(_watched(sync_id)), as_json)


@sync.command("list", short_help="List connections to systems of record and their syncs.")
@click.argument("connection", default="")
@click.option("--limit", type=click.IntRange(1, _PAGE), default=20, show_default=True, help="Syncs, newest first.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(connection: str, limit: int, as_json: bool) -> None:
    """List the connections to systems of record and their latest syncs, of one CONNECTION or of all."""
    systems, syncs = run(_listed(connection, limit))
    if as_json:
        told = {"connections": [_as_data(one) for one in systems], "syncs": [_as_data(one) for one in syncs]}
        click.echo(json.dumps(told, ensure_ascii=False))
        return
    _print(_connections(systems))
    if syncs:
        _print(_syncs(syncs))
    else:
        click.echo("No sync yet. Begin with: dripstone sync start --preview")


async def _started(
    connection: str, request: system_pb2.StartSyncRequest, *, wait: bool
) -> tuple[system_pb2.Sync, list[system_pb2.SyncItem]]:
    from dripstone.v1.client import from_environment

    async with from_environment() as client:
        (found,) = await _chosen(client, connection)
        request.connection_id = found.id
        begun = await client.connections.StartSync(request)
        return await _to_the_end(client, begun) if wait else (begun, [])


async def _watched(sync_id: str) -> tuple[system_pb2.Sync, list[system_pb2.SyncItem]]:
    from dripstone.v1 import system_pb2 as pb
    from dripstone.v1.client import from_environment

    async with from_environment() as client:
        return await _to_the_end(client, await client.connections.GetSync(pb.GetSyncRequest(sync_id=sync_id)))


async def _listed(connection: str, limit: int) -> tuple[list[connection_pb2.Connection], list[system_pb2.Sync]]:
    from dripstone.v1 import system_pb2 as pb
    from dripstone.v1.client import from_environment

    async with from_environment() as client:
        systems = await _chosen(client, connection) if connection else await _systems(client)
        request = pb.ListSyncsRequest(connection_id=systems[0].id if connection else "", page_size=limit)
        return systems, list((await client.connections.ListSyncs(request)).syncs)


async def _systems(client: Client) -> list[connection_pb2.Connection]:
    from dripstone.v1 import connection_pb2 as pb

    listed = await client.connections.ListConnections(pb.ListConnectionsRequest(page_size=_PAGE))
    return [one for one in listed.connections if one.kind == "system"]


async def _chosen(client: Client, named: str) -> list[connection_pb2.Connection]:
    """Return the one connection that a text names; the only one there is for an empty text."""
    systems = await _systems(client)
    found = [one for one in systems if not named or named in (one.id, one.display_name)]
    if len(found) == 1:
        return found
    if not systems:
        raise click.ClickException("There is no connection to a system of record. Create one with CreateConnection.")
    names = ", ".join(f"{one.id} ({one.display_name})" for one in systems[:_SHOWN])
    what = f"{len(found)} connections fit" if found else f"No connection is {named}"
    raise click.ClickException(f"{what}; there are {names}. Say which by its id.")


async def _to_the_end(client: Client, sync: system_pb2.Sync) -> tuple[system_pb2.Sync, list[system_pb2.SyncItem]]:
    """Return a sync that is over, with the records that somebody may want to look at; shows how far it is meanwhile."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from dripstone.v1 import system_pb2 as pb

    told = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=told, transient=True, disable=not told.is_terminal) as bar:
        task = bar.add_task(_progress(sync), total=None)  # how many records there are is known at the end
        while sync.state in (pb.SYNC_STATE_RUNNING, pb.SYNC_STATE_WAITING):
            await asyncio.sleep(_LOOKS_EVERY_SECONDS)
            sync = await client.connections.GetSync(pb.GetSyncRequest(sync_id=sync.id))
            bar.update(task, description=_progress(sync))
    found: list[system_pb2.SyncItem] = []
    for outcome in _TOLD:
        request = pb.ListSyncItemsRequest(sync_id=sync.id, outcome=outcome, page_size=_PAGE)
        found += (await client.connections.ListSyncItems(request)).items
    return sync, found


def _progress(sync: system_pb2.Sync) -> str:
    held = f", waits until {_time(sync.resume_time)}: {sync.wait_reason}" if sync.wait_reason else ""
    return f"{_counts(sync)}{held}"


def _counts(sync: system_pb2.Sync) -> str:
    return (
        f"{sync.done_count:,} looked at: {sync.pulled_count:,} changed here, {sync.pushed_count:,} there, "
        f"{sync.conflict_count:,} fields in conflict, {sync.failed_count:,} failed"
    )


def _tell(sync: system_pb2.Sync, items: Sequence[system_pb2.SyncItem], as_json: bool) -> None:
    """Print what became of a sync; ends with 1 where something failed."""
    from dripstone.v1 import system_pb2 as pb

    if as_json:
        click.echo(json.dumps({**_as_data(sync), "items": [_as_data(one) for one in items]}, ensure_ascii=False))
    else:
        _show(sync, items)
    if sync.state == pb.SYNC_STATE_FAILED or sync.failed_count:
        raise SystemExit(1)


def _show(sync: system_pb2.Sync, items: Sequence[system_pb2.SyncItem]) -> None:
    if items:
        _print(_items(items[:_SHOWN]))
        if len(items) > _SHOWN:
            click.echo(f"… and {len(items) - _SHOWN} more records")
    state = _short(sync, "state")
    if state in ("running", "waiting"):
        click.echo(f"{sync.id} is under way. To see how far it is: dripstone sync watch {sync.id}")
    elif sync.error:
        click.echo(f"{sync.id} failed: {sync.error} {_counts(sync)}.")
    else:
        told = "Nothing was changed." if sync.preview else f"To take back what it changed here: cause sync:{sync.id}"
        click.echo(f"{sync.id} {state}, {_counts(sync)}. {told}")


def _items(items: Sequence[system_pb2.SyncItem]) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table("record here", "record there", "outcome", "what", "the way out", box=None)
    for one in items:
        fields = ", ".join(f"{each.field} ({each.winner} won)" for each in one.conflicts)
        cells = (one.record_id, one.external_id, one.outcome, one.error or fields, one.hint)
        table.add_row(*(escape(cell) for cell in cells))
    return table


def _connections(systems: Sequence[connection_pb2.Connection]) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table("connection", "name", "system", "types", "last in step", box=None)
    for one in systems:
        types = ", ".join(mapping.type for mapping in one.system.mappings)
        last = _time(one.last_sync_time) if one.HasField("last_sync_time") else "never"
        table.add_row(one.id, escape(one.display_name), one.system.system, escape(types), last)
    return table


def _syncs(syncs: Sequence[system_pb2.Sync]) -> Table:
    from rich.table import Table

    table = Table("sync", "began", "direction", "state", box=None)
    for name in ("looked at", "here", "there", "conflicts", "failed"):
        table.add_column(name, justify="right")
    for one in syncs:
        numbers = (one.done_count, one.pulled_count, one.pushed_count, one.conflict_count, one.failed_count)
        state = _short(one, "state") + (" (preview)" if one.preview else "")
        table.add_row(
            one.id, _time(one.create_time), _short(one, "direction"), state, *(f"{number:,}" for number in numbers)
        )
    return table


def _print(table: Table) -> None:
    """Print a table; what is read by a program is as wide as it needs to be."""
    from rich.console import Console

    for column in table.columns[:2]:
        column.no_wrap = True  # ids are copied
    out = Console(highlight=False)
    (out if out.is_terminal else Console(highlight=False, width=_WIDEST)).print(table, soft_wrap=True)


def _short(sync: system_pb2.Sync, field: str) -> str:
    """Return the value of an enum as HTTP spells it."""
    from core.gateway import enums

    return enums.short_names(sync.DESCRIPTOR.fields_by_name[field].enum_type)[getattr(sync, field)]


def _time(instant: Any) -> str:
    return f"{instant.ToDatetime():%Y-%m-%d %H:%M:%S}Z"


def _as_data(message: Message) -> dict[str, Any]:
    """Return a message as HTTP answers it."""
    from core.gateway.answers import to_json

    return to_json(message)
