"""The command that serves MCP over stdio, and the one that tells an agent's program of it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from core import collector, connection, logging_setup
from core.clock import SystemClock
from core.commands.later import Later
from core.commands.serving import MCP_OPTIONS, default_data_dir
from core.commands.telling import run
from core.settings import Settings


def _served(command: Any) -> Any:
    for option in reversed(MCP_OPTIONS):
        command = option(command)
    return command


def nearest_data_dir() -> Path:
    """Return the data folder that is told or is here; else the user's own, for clients start this where they like."""
    here = default_data_dir()
    return here if os.environ.get("DRIPSTONE_DATA_DIR") or here.exists() else Path.home() / here


@click.group(invoke_without_command=True, short_help="Serve MCP over stdio, for an AI agent on this machine.")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    default=nearest_data_dir,
    show_default=".dripstone here, else in your home folder",
)
@_served
@click.pass_context
def mcp(ctx: click.Context, data_dir: Path, mcp_toolsets: tuple[str, ...], mcp_read_only: bool) -> None:
    """Serve MCP over stdio: to a running core, or to one started inside when there is none.

    The core is found by DRIPSTONE_TARGET and DRIPSTONE_AGENT_KEY (or DRIPSTONE_API_KEY), else by connection.json, which
    then has the key, too. Beyond this machine it uses TLS, with DRIPSTONE_CA_FILE's roots where that is set.
    """
    if ctx.invoked_subcommand is not None:
        return
    logging_setup.configure("warning")
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        run(_stdio(data_dir, mcp_toolsets, mcp_read_only))


mcp.add_command(Later("core.commands.mcp_install:install", "Tell an agent's program of this server."))


def where(environment: Mapping[str, str], data_dir: Path) -> tuple[str, str]:
    """Return the target and the key, both from one source: no key goes where another source leads."""
    target = environment.get("DRIPSTONE_TARGET", "")
    known = connection.read(data_dir)
    if not target:
        return (known.grpc, known.agent_key) if known is not None else ("", "")
    stored = known.agent_key if known is not None and known.grpc == target else ""
    return target, environment.get("DRIPSTONE_AGENT_KEY") or environment.get("DRIPSTONE_API_KEY") or stored


async def _stdio(data_dir: Path, toolsets: tuple[str, ...], read_only: bool) -> None:
    with collector.resting():
        from dripstone.v1.client import tls_for
        from mcp_server.stdio import answers, serve_stdio

    target, key = where(os.environ, data_dir)
    try:
        tls = tls_for(target)
    except OSError as error:
        raise click.ClickException(f"DRIPSTONE_CA_FILE cannot be read: {error.strerror}") from error
    if target and key and await answers(target, key, tls=tls):
        await serve_stdio(target, key, tls=tls, toolsets=toolsets, read_only=read_only)
        return
    if os.environ.get("DRIPSTONE_TARGET"):
        raise click.ClickException(f"No core answers at {target} with this key. Start one with `dripstone serve`.")
    with collector.resting():
        from core.bootstrap import Core  # slow to load: only where there is none to talk to
    settings = Settings(
        database_url=f"sqlite:///{data_dir / 'dripstone.db'}",
        data_dir=data_dir,
        grpc_listen="127.0.0.1:0",
        http_listen="127.0.0.1:0",
        mcp_toolsets=toolsets,
        mcp_read_only=read_only,
    )
    core = await Core.open(settings, SystemClock())
    await core.start()
    try:
        written = await core.write_connection(data_dir)
        await serve_stdio(written.grpc, written.agent_key, toolsets=toolsets, read_only=read_only)
    finally:
        await core.stop()
