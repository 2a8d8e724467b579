"""The command line: `dripstone serve | demo | mcp | env | keys | migrate`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
import signal
import sys
from collections.abc import Coroutine, Iterator
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, TypeVar

import click
import grpc
import structlog
import uvloop
from sqlalchemy.exc import DBAPIError

from core import connection, logging_setup
from core.clock import SystemClock
from core.settings import ROLES, Settings

_T = TypeVar("_T")


def _run(main: Coroutine[Any, Any, _T]) -> _T:
    os.umask(0o077)  # databases, keys and logs are for their owner alone
    with _told_plainly():
        return uvloop.run(main)


def default_data_dir() -> Path:
    """Return where a core keeps its files unless told: `$DRIPSTONE_DATA_DIR`, else `.dripstone` here."""
    return Path(os.environ.get("DRIPSTONE_DATA_DIR", ".dripstone"))


class _Network(click.ParamType[IPv4Network | IPv6Network]):
    name = "cidr"

    def convert(self, value: Any, param: Any, ctx: Any) -> IPv4Network | IPv6Network:
        try:
            return ip_network(str(value))
        except ValueError as error:
            self.fail(f"{value!r} is not a network such as 10.1.0.0/16: {error}", param, ctx)


def _serving_options(command: Any) -> Any:
    for option in reversed(
        [
            click.option(
                "--db", "database_url", help="sqlite:///path or postgresql://…; default: a file in the data dir."
            ),
            click.option(
                "--data-dir", type=click.Path(path_type=Path), default=default_data_dir, show_default=".dripstone"
            ),
            click.option(
                "--grpc-listen", default="127.0.0.1:7443", show_default=True, help="host:port; port 0 for any."
            ),
            click.option(
                "--http-listen", default="127.0.0.1:7480", show_default=True, help="host:port; port 0 for any."
            ),
            click.option(
                "--allow-destination",
                "allowed",
                multiple=True,
                type=_Network(),
                help="Network that webhooks may reach although it is not public. May be repeated.",
            ),
            click.option(
                "--allow-host",
                "hosts",
                multiple=True,
                help="Host header under which /mcp answers beside loopback's; * for any.",
            ),
            click.option(
                "--tls-cert", type=click.Path(exists=True, path_type=Path), help="PEM chain for both listeners."
            ),
            click.option("--tls-key", type=click.Path(exists=True, path_type=Path), help="PEM key of --tls-cert."),
            click.option("--insecure", is_flag=True, help="Serve plaintext also to others (behind a TLS proxy)."),
            click.option("--log-level", default="info", type=click.Choice(["debug", "info", "warning", "error"])),
        ]
    ):
        command = option(command)
    return command


def _settings(roles: frozenset[str] = frozenset(ROLES), **given: Any) -> Settings:
    data_dir: Path = given["data_dir"]
    if (given["tls_cert"] is None) != (given["tls_key"] is None):
        raise click.UsageError("--tls-cert and --tls-key go together.")
    logging_setup.configure(given["log_level"])
    return Settings(
        database_url=given["database_url"] or f"sqlite:///{data_dir / 'dripstone.db'}",
        data_dir=data_dir,
        roles=roles,
        grpc_listen=given["grpc_listen"],
        http_listen=given["http_listen"],
        allowed_destinations=tuple(given["allowed"]),
        allowed_hosts=tuple(given["hosts"]),
        tls_certificate=given["tls_cert"],
        tls_key=given["tls_key"],
        insecure=given["insecure"],
    )


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="dripstone")
def main() -> None:
    """Dripstone: the agent-operable CRM automation core."""


def _roles(_ctx: Any, _param: Any, value: str) -> frozenset[str]:
    roles = frozenset(role.strip() for role in value.split(",") if role.strip())
    if unknown := sorted(roles - set(ROLES)):
        raise click.BadParameter(f"unknown: {', '.join(unknown)}; there are {', '.join(ROLES)}")
    return roles


@main.command()
@_serving_options
@click.option("--roles", default=",".join(ROLES), callback=_roles, show_default=True, help="What this process does.")
def serve(roles: frozenset[str], **given: Any) -> None:
    """Serve until SIGTERM: gRPC, HTTP with MCP at /mcp, engine, dispatcher and scheduler in one process."""
    _run(_serve(_settings(roles, **given)))


@contextlib.contextmanager
def _told_plainly() -> Iterator[None]:
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


async def _serve(settings: Settings) -> None:
    from core.bootstrap import Core

    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    log = structlog.get_logger()
    core = await Core.open(settings, SystemClock())
    await core.start()
    if settings.roles & {"grpc", "http"}:
        await core.write_connection(settings.data_dir)
    log.info(
        "serving",
        roles=sorted(settings.roles),
        grpc=core.grpc_target,
        http=core.http_url,
        connection=str(settings.data_dir / connection.FILE_NAME),
    )
    await stopping.wait()
    log.info("draining")
    await core.stop()
    log.info("stopped")


@main.command()
@_serving_options
@click.option("--exit", "leave", is_flag=True, help="End after the story instead of serving on.")
def demo(leave: bool, **given: Any) -> None:
    """Serve, and play the flagship story once through the MCP server while you watch."""
    from core.demo import play

    given["log_level"] = "warning" if given["log_level"] == "info" else given["log_level"]
    given["allowed"] = (*given["allowed"], ip_network("127.0.0.0/8"))  # the story's receiver is on this machine
    sys.exit(_run(play(_settings(**given), leave=leave)))


@main.command()
@click.option("--data-dir", type=click.Path(path_type=Path), default=default_data_dir, show_default=".dripstone")
def mcp(data_dir: Path) -> None:
    """Serve MCP over stdio: to a running core, or to one started inside when there is none.

    The core is found by DRIPSTONE_TARGET and DRIPSTONE_AGENT_KEY (or DRIPSTONE_API_KEY), else by connection.json.
    """
    logging_setup.configure("warning")
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        _run(_stdio(data_dir))


async def _stdio(data_dir: Path) -> None:
    from core.bootstrap import Core
    from mcp_server.stdio import answers, serve_stdio

    target = os.environ.get("DRIPSTONE_TARGET", "")
    key = os.environ.get("DRIPSTONE_AGENT_KEY") or os.environ.get("DRIPSTONE_API_KEY", "")
    known = connection.read(data_dir)
    if not target and known is not None:
        target = known.grpc
    key = key or (known.agent_key if known is not None else "")
    if target and key and await answers(target, key):
        await serve_stdio(target, key)
        return
    if os.environ.get("DRIPSTONE_TARGET"):
        raise click.ClickException(f"No core answers at {target} with this key. Start one with `dripstone serve`.")
    settings = Settings(
        database_url=f"sqlite:///{data_dir / 'dripstone.db'}",
        data_dir=data_dir,
        grpc_listen="127.0.0.1:0",
        http_listen="127.0.0.1:0",
    )
    core = await Core.open(settings, SystemClock())
    await core.start()
    try:
        written = await core.write_connection(data_dir)
        await serve_stdio(written.grpc, written.agent_key)
    finally:
        await core.stop()


@main.command()
@click.option("--db", "database_url", required=True, help="sqlite:///path or postgresql://…")
def migrate(database_url: str) -> None:
    """Bring a database to the newest schema."""
    from core.store import migrate as migrations
    from core.store.database import Database

    async def upgrade() -> str | None:
        database = await Database.open(database_url, SystemClock())
        try:
            await migrations.upgrade(database)
            return await migrations.revision(database)
        finally:
            await database.close()

    click.echo(f"at revision {_run(upgrade())}")


@main.command()
@click.option("--data-dir", type=click.Path(path_type=Path), default=default_data_dir, show_default=".dripstone")
def env(data_dir: Path) -> None:
    """Print the running core's addresses and keys as shell exports."""
    known = _known(data_dir)
    for name, value in (
        ("DRIPSTONE_TARGET", known.grpc),
        ("DRIPSTONE_HTTP", known.http),
        ("DRIPSTONE_MCP", known.mcp),
        ("DRIPSTONE_API_KEY", known.api_key),
        ("DRIPSTONE_AGENT_KEY", known.agent_key),
        ("DRIPSTONE_APPROVER_KEY", known.approver_api_key),
    ):
        if value:
            click.echo(f"export {name}={shlex.quote(value)}")


@main.group()
def keys() -> None:
    """Mint, list and revoke API keys of the running core."""


def _known(data_dir: Path) -> connection.Connection:
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

    known = _known(data_dir)
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

    made = _run(create())
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

    listed = _run(read())
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

    _run(revoke())
    click.echo(f"{key_id} is revoked")


if __name__ == "__main__":
    main()
