"""The commands that mint, list, rotate and revoke API keys of the running core."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import click

from core import connection
from core.clock import SystemClock
from core.commands.later import Later
from core.commands.serving import default_data_dir
from core.commands.telling import run
from core.domain.workflow import durations


@click.group()
def keys() -> None:
    """Mint, list, rotate and revoke API keys of the running core."""


def known_core(data_dir: Path) -> connection.Connection:
    """Return where the running core is. Raises ClickException when there is none."""
    known = connection.read(data_dir)
    if known is None:
        there = (data_dir / connection.FILE_NAME).exists()
        what = (
            f"{data_dir / connection.FILE_NAME} cannot be read" if there else f"No {connection.FILE_NAME} in {data_dir}"
        )
        raise click.ClickException(f"{what}. Start a core with `dripstone serve`.")
    return known


def _client(data_dir: Path) -> Any:
    from dripstone.v1.client import Client

    known = known_core(data_dir)
    return Client(known.grpc, known.api_key)


class _Length(click.ParamType[timedelta]):
    """A length of time, such as 24h or 7d."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Return it. Fails with an example."""
        if isinstance(value, timedelta):
            return value
        if value in ("0", "0s"):
            return timedelta(0)
        try:
            return durations.parse(str(value))
        except ValueError as error:
            self.fail(f"{error}. {durations.EXAMPLE}", param, ctx)


_LIMITS = {
    "methods": ("--method", "Only this method, such as RecordService.UpdateRecord."),
    "record_types": ("--record-type", "Only records of this type."),
    "writable_fields": ("--write", "Only this field is written, such as contact.tier or lead.*."),
    "hidden_fields": ("--hide", "This field is neither shown nor written."),
    "workflow_ids": ("--workflow", "Only this workflow is enrolled in, executed or changed."),
    "project_ids": ("--project", "Only workflows of this project."),
}


def _limits(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that narrow a key; each may be repeated."""
    for name, (option, text) in reversed(_LIMITS.items()):
        command = click.option(option, name, multiple=True, help=text)(command)
    return command


@keys.command("create")
@click.argument("display_name")
@click.option("--kind", type=click.Choice(["service", "agent"]), default="agent", show_default=True)
@click.option("--scope", "scopes", multiple=True, help="May be repeated; default: the kind's usual scopes.")
@_limits
@click.option("--expires-in", type=_Length(), help="When it stops working, such as 90d; never unless given.")
@click.option("--data-dir", type=click.Path(path_type=Path), default=default_data_dir, show_default=".dripstone")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def keys_create(
    display_name: str,
    kind: str,
    scopes: tuple[str, ...],
    expires_in: timedelta | None,
    data_dir: Path,
    as_json: bool,
    **limits: tuple[str, ...],
) -> None:
    """Mint a key and print its secret, this once.

    Options that narrow it may be repeated.
    """
    from core.domain.control.scopes import AGENT_SCOPES, SERVICE_SCOPES
    from dripstone.v1 import organization_pb2 as pb

    usual = AGENT_SCOPES if kind == "agent" else SERVICE_SCOPES

    async def create() -> pb.CreateApiKeyResponse:
        request = pb.CreateApiKeyRequest(
            display_name=display_name,
            principal_kind=getattr(pb, f"PRINCIPAL_KIND_{kind.upper()}"),
            scopes=sorted(scopes or usual),
        )
        if any(limits.values()):
            request.limits.CopyFrom(pb.KeyLimits(**limits))
        if expires_in is not None:
            request.expire_time.FromDatetime(SystemClock().now() + expires_in)
        async with _client(data_dir) as client:
            return await client.organization.CreateApiKey(request)  # type: ignore[no-any-return]

    made = run(create())
    if as_json:
        click.echo(json.dumps({"id": made.api_key.id, "secret": made.secret, "scopes": list(made.api_key.scopes)}))
    else:
        click.echo(f"{made.secret}\n  {made.api_key.id}, shown this once; scopes: {', '.join(made.api_key.scopes)}")
        for name, (option, _) in _LIMITS.items():
            if values := getattr(made.api_key.limits, name):
                click.echo(f"  {option}: {', '.join(values)}")


@keys.command("list")
@click.option("--data-dir", type=click.Path(path_type=Path), default=default_data_dir, show_default=".dripstone")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def keys_list(data_dir: Path, as_json: bool) -> None:
    """List keys without their secrets."""
    from google.protobuf.json_format import MessageToDict
    from rich.console import Console
    from rich.table import Table

    from dripstone.v1 import organization_pb2 as pb

    async def read() -> pb.ListApiKeysResponse:
        async with _client(data_dir) as client:
            return await client.organization.ListApiKeys(pb.ListApiKeysRequest(page_size=500))  # type: ignore[no-any-return]

    listed = run(read())
    if as_json:
        click.echo(json.dumps([MessageToDict(key, preserving_proto_field_name=True) for key in listed.api_keys]))
        return
    shown = Table("name", "kind", "state", "last used", "prefix", "id", box=None)
    for column in shown.columns[-2:]:
        column.no_wrap, column.overflow = True, "ignore"  # ids are there to be copied
    for key in listed.api_keys:
        kind = pb.PrincipalKind.Name(key.principal_kind).removeprefix("PRINCIPAL_KIND_").lower()
        used = key.last_use_time.ToDatetime().strftime("%Y-%m-%d %H:%M") if key.HasField("last_use_time") else "never"
        shown.add_row(key.display_name, kind, _state(key), used, key.prefix, key.id)
    Console(soft_wrap=True, width=200).print(shown)


def _state(key: Any) -> str:
    if key.HasField("revoke_time"):
        return "revoked"
    if not key.HasField("expire_time"):
        return "valid"
    ends = key.expire_time.ToDatetime(UTC)
    return "expired" if ends <= SystemClock().now() else f"until {ends:%Y-%m-%d %H:%M}"


@keys.command("rotate")
@click.argument("key_id")
@click.option("--grace", type=_Length(), default="24h", show_default=True, help="How long the old secret still works.")
@click.option("--data-dir", type=click.Path(path_type=Path), default=default_data_dir, show_default=".dripstone")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def keys_rotate(key_id: str, grace: timedelta, data_dir: Path, as_json: bool) -> None:
    """Give a key a new secret and print it, this once."""
    from dripstone.v1 import organization_pb2 as pb

    async def rotate() -> pb.CreateApiKeyResponse:
        request = pb.RotateApiKeyRequest(api_key_id=key_id)
        request.grace.FromTimedelta(grace)
        async with _client(data_dir) as client:
            return await client.organization.RotateApiKey(request)  # type: ignore[no-any-return]

    made = run(rotate())
    if as_json:
        click.echo(json.dumps({"id": made.api_key.id, "secret": made.secret}))
    else:
        ends = durations.speak(grace) if grace else "no time at all"
        click.echo(f"{made.secret}\n  {made.api_key.id}, shown this once; the old secret works for {ends} more")


@keys.command("revoke")
@click.argument("key_id")
@click.option("--data-dir", type=click.Path(path_type=Path), default=default_data_dir, show_default=".dripstone")
def keys_revoke(key_id: str, data_dir: Path) -> None:
    """Revoke a key; it stops working within 30 seconds everywhere."""
    from dripstone.v1 import organization_pb2 as pb

    async def revoke() -> None:
        async with _client(data_dir) as client:
            await client.organization.RevokeApiKey(pb.RevokeApiKeyRequest(api_key_id=key_id))

    run(revoke())
    click.echo(f"{key_id} is revoked")


keys.add_command(
    Later("core.commands.rotating:rotate_master", "Put a new master key before the others."), "rotate-master"
)
