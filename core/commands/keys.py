"""The commands that mint, list and revoke API keys of the running core."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from core import connection
from core.commands.serving import default_data_dir
from core.commands.telling import run


@click.group()
def keys() -> None:
    """Mint, list and revoke API keys of the running core."""


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


@keys.command("create")
@click.argument("display_name")
@click.option("--kind", type=click.Choice(["service", "agent"]), default="agent", show_default=True)
@click.option("--scope", "scopes", multiple=True, help="May be repeated; default: the kind's usual scopes.")
@click.option("--data-dir", type=click.Path(path_type=Path), default=default_data_dir, show_default=".dripstone")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def keys_create(display_name: str, kind: str, scopes: tuple[str, ...], data_dir: Path, as_json: bool) -> None:
    """Mint a key and print its secret, this once."""
    from core.domain.control.scopes import AGENT_SCOPES, SERVICE_SCOPES
    from dripstone.v1 import organization_pb2 as pb

    usual = AGENT_SCOPES if kind == "agent" else SERVICE_SCOPES

    async def create() -> pb.CreateApiKeyResponse:
        async with _client(data_dir) as client:
            return await client.organization.CreateApiKey(  # type: ignore[no-any-return]
                pb.CreateApiKeyRequest(
                    display_name=display_name,
                    principal_kind=getattr(pb, f"PRINCIPAL_KIND_{kind.upper()}"),
                    scopes=sorted(scopes or usual),
                )
            )

    made = run(create())
    if as_json:
        click.echo(json.dumps({"id": made.api_key.id, "secret": made.secret, "scopes": list(made.api_key.scopes)}))
    else:
        click.echo(f"{made.secret}\n  {made.api_key.id}, shown this once; scopes: {', '.join(made.api_key.scopes)}")


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
    shown = Table("name", "kind", "state", "prefix", "id", box=None)
    for column in shown.columns[-2:]:
        column.no_wrap, column.overflow = True, "ignore"  # ids are there to be copied
    for key in listed.api_keys:
        kind = pb.PrincipalKind.Name(key.principal_kind).removeprefix("PRINCIPAL_KIND_").lower()
        state = "revoked" if key.HasField("revoke_time") else "valid"
        shown.add_row(key.display_name, kind, state, key.prefix, key.id)
    Console(soft_wrap=True, width=200).print(shown)


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
