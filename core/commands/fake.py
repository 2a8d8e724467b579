"""The command that serves stand-ins for outside systems of record, for whoever has no credentials there."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import click

from core.clock import SystemClock
from core.commands.telling import run
from core.fakes import hubspot, salesforce
from core.fakes.faults import KINDS, BadFault
from core.fakes.hubspot import HubSpotFake
from core.fakes.salesforce import SalesforceFake
from core.fakes.samples import people
from core.fakes.serving import serving

_PORTS = {"hubspot": 7481, "salesforce": 7482}
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@click.command("fake", short_help="Serve a stand-in for HubSpot or Salesforce.")
@click.argument("system", type=click.Choice(sorted(_PORTS)))
@click.option(
    "--port", type=click.IntRange(0, 65_535), help="Default: 7481 for hubspot, 7482 for salesforce; 0 for any."
)
@click.option("--host", default="127.0.0.1", show_default=True, type=click.Choice(_LOOPBACK), help="Loopback only.")
@click.option("--seed-data", "seeds", type=click.IntRange(0, 100_000), default=0, help="So many people to begin with.")
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="KIND[@PATH][*TIMES]",
    help=f"What goes wrong, in this order: {', '.join(KINDS)}. May be repeated.",
)
def fake(system: str, port: int | None, host: str, seeds: int, faults: tuple[str, ...]) -> None:
    """Serve a stand-in for HubSpot or Salesforce until interrupted; all it keeps is in memory.

    Its page at / shows what is stored and what was asked; POST /fake/faults asks for further faults.
    """
    made: Any = HubSpotFake(SystemClock()) if system == "hubspot" else SalesforceFake(SystemClock())
    try:
        made.watch.faults.add(*faults)
    except BadFault as error:
        raise click.BadParameter(str(error), param_hint="--fault") from None
    made.seed("contacts" if system == "hubspot" else "Lead", people(system, seeds))
    run(_serve(system, made, host, _PORTS[system] if port is None else port))


async def _serve(system: str, made: Any, host: str, port: int) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with serving(made.application(), host, port) as url:
        click.echo(f"{url} stands in for {system}; look at it in a browser.")
        if system == "hubspot":
            click.echo(f"Token of its private app: {hubspot.PRIVATE_TOKEN}")
        client, secret, refresh = hubspot.CLIENT if system == "hubspot" else salesforce.CLIENT
        click.echo(f"OAuth client: {client}, secret: {secret}, refresh token: {refresh}")
        click.echo("The core reaches it with --allow-destination 127.0.0.0/8.")
        await stopping.wait()
