"""`dripstone routing`: check and publish the files in which routings are kept, and start new ones."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from core.commands.documents import (
    DocumentFile,
    as_json_option,
    counted,
    list_templates,
    new_from,
    out_option,
    write,
)
from core.commands.telling import run
from core.domain import names
from core.domain.routing.parse import problems
from core.domain.routing.schema import routing_schema
from core.templates import routings as shipped


@click.group(short_help="Check and publish routings: who gets a lead.")
def routing() -> None:
    """Check and publish routings: who gets a lead.

    The running core is found by DRIPSTONE_TARGET and DRIPSTONE_API_KEY, else by connection.json in $DRIPSTONE_DATA_DIR
    or ./.dripstone.
    """


@routing.command(short_help="List everything that is wrong with files.")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@as_json_option
def lint(files: tuple[str, ...], as_json: bool) -> None:
    """List what is wrong with routings, with lines; - reads standard input.

    Members are looked up when one is published. Ends with 1 when something is wrong.
    """
    read = [DocumentFile.read(name) for name in files]
    found = [problems(file.text) for file in read]
    if as_json:
        told = [
            {"file": file.name, "valid": not wrong, "problems": file.told(wrong)}
            for file, wrong in zip(read, found, strict=True)
        ]
        click.echo(json.dumps(told, indent=2))
    else:
        for file, wrong in zip(read, found, strict=True):
            click.echo(f"{file.name}: {counted(len(wrong), 'problem') if wrong else 'valid'}")
            if wrong:
                file.show(wrong)
    if any(found):
        sys.exit(1)


@routing.command(short_help="Make a file the next version.")
@click.argument("file")
@click.option("--id", "routing_id", default="", help="The routing; the name of FILE without it.")
@as_json_option
def publish(file: str, routing_id: str, as_json: bool) -> None:
    """Make FILE the next version of its routing, in use from then on."""
    read = DocumentFile.read(file)
    chosen = routing_id or read.id
    if not names.is_slug(chosen):
        raise click.UsageError(f"{file} does not say which routing it is: add --id, such as --id inbound.")
    version = run(_published(chosen, read.text))
    if as_json:
        click.echo(json.dumps({"routing_id": chosen, "version": version}, indent=2))
    else:
        click.echo(f"{chosen} is published: version {version}, in use.")


async def _published(routing_id: str, text: str) -> int:
    from dripstone.v1 import routing_pb2 as pb
    from dripstone.v1.client import from_environment

    async with from_environment() as client:
        answer: Any = await client.qualification.PublishRouting(
            pb.PublishRoutingRequest(routing_id=routing_id, source=text)
        )
    return int(answer.version)


@routing.command("templates")
@as_json_option
def templates(as_json: bool) -> None:
    """List the routings to start from."""
    list_templates(shipped(), as_json=as_json)


@routing.command()
@click.argument("template", required=False)
@out_option
@click.option("--force", is_flag=True, help="Overwrite a file that is there.")
def new(template: str | None, out: Path | None, force: bool) -> None:
    """Write a copy of a template to start from."""
    new_from(shipped(), template, out, force=force, then="dripstone routing lint")


@routing.command(short_help="Print the JSON Schema, for editors.")
@out_option
def schema(out: Path | None) -> None:
    """Print the JSON Schema of routings, by which editors complete and check them."""
    write(out, json.dumps(routing_schema(), indent=2) + "\n", force=True)
