"""The command line: `dripstone serve`, `demo`, `mcp`, `keys`, `workflow`, `model`, `audit`, `fake` and others."""

from __future__ import annotations

import asyncio
import shlex
import signal
import sys
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import click
import structlog

from core import collector, connection
from core.clock import SystemClock
from core.commands.keys import keys, known_core
from core.commands.later import Later
from core.commands.serving import default_data_dir, serving_options, settings_of
from core.commands.telling import run
from core.settings import ROLES, Settings


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="dripstone")
def main() -> None:
    """Dripstone: the agent-operable CRM automation core."""


def _roles(_ctx: Any, _param: Any, value: str) -> frozenset[str]:
    roles = frozenset(role.strip() for role in value.split(",") if role.strip())
    if unknown := sorted(roles - set(ROLES)):
        raise click.BadParameter(f"unknown: {', '.join(unknown)}; there are {', '.join(ROLES)}")
    return roles


@main.command(short_help="Serve gRPC, HTTP and MCP, and run the engine, until SIGTERM.")
@serving_options
@click.option("--roles", default=",".join(ROLES), callback=_roles, show_default=True, help="What this process does.")
def serve(roles: frozenset[str], **given: Any) -> None:
    """Serve until SIGTERM: gRPC, HTTP with MCP at /mcp, engine, dispatcher and scheduler in one process."""
    run(_serve(settings_of(roles, **given)))


async def _serve(settings: Settings) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    log = structlog.get_logger()
    with collector.resting():
        from core.bootstrap import Core

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
    core.warm()
    await stopping.wait()
    log.info("draining")
    await core.stop()
    log.info("stopped")


@main.command(short_help="Serve, and play the flagship story once as you watch.")
@serving_options
@click.option("--exit", "leave", is_flag=True, help="End after the story instead of serving on.")
def demo(leave: bool, **given: Any) -> None:
    """Serve, and play the flagship story once through the MCP server while you watch."""
    with collector.resting():
        from core.demo import play

    given["log_level"] = "warning" if given["log_level"] == "info" else given["log_level"]
    given["allowed"] = (*given["allowed"], ip_network("127.0.0.0/8"))  # the story's receiver is on this machine
    sys.exit(run(play(settings_of(**given), leave=leave)))


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

    click.echo(f"at revision {run(upgrade())}")


@main.command()
@click.option("--data-dir", type=click.Path(path_type=Path), default=default_data_dir, show_default=".dripstone")
def env(data_dir: Path) -> None:
    """Print the running core's addresses and keys as shell exports."""
    known = known_core(data_dir)
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


main.add_command(keys)
main.add_command(Later("core.commands.audit:audit", "Take the audit log out, and check it offline."))
main.add_command(
    Later("core.commands.enrollment:enrollment", "Tell why somebody is in a workflow, or not; end an enrollment.")
)
main.add_command(Later("core.commands.fake:fake", "Serve a stand-in for HubSpot or Salesforce."))
main.add_command(Later("core.commands.exporting:export", "Write the records of the running core into a file."))
main.add_command(Later("core.commands.importing:import_", "Take a file of records into the running core."), "import")
main.add_command(Later("core.commands.letters:letters", "List what failed for good, and let it be tried again."))
main.add_command(Later("core.commands.listen:listen", "Forward webhooks to a URL on this machine."))
main.add_command(Later("core.commands.mcp:mcp", "Serve MCP over stdio, for an AI agent on this machine."))
main.add_command(Later("core.commands.model:model", "Check, try and publish scoring models."))
main.add_command(Later("core.commands.routing:routing", "Check and publish routings: who gets a lead."))
main.add_command(Later("core.commands.simulate:simulate", "Try a workflow file on contacts in memory."))
main.add_command(Later("core.commands.skills:skills", "List and install the skills that teach agents to use it."))
main.add_command(Later("core.commands.sync:sync", "Bring records in step with HubSpot, Salesforce and others."))
main.add_command(Later("core.commands.usage:usage", "Tell what was done and cost, by day."))
main.add_command(Later("core.commands.workflow:workflow", "Check, publish, pause, migrate and watch workflows."))


if __name__ == "__main__":
    main()
