"""The command that writes an entry for this MCP server into the file of a program that runs agents, or prints it."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import click

from core.commands.mcp_clients import CLIENTS, KEY_VARIABLE, CannotAdd, Server
from core.commands.serving import MCP_OPTIONS, default_data_dir
from mcp_server.views import View


@click.command(short_help="Tell an agent's program of this server.")
@click.argument("client", type=click.Choice(list(CLIENTS)))
@click.option("--url", default="", help="Call a server at this address, such as https://crm.example.com/mcp.")
@click.option("--name", default="dripstone", show_default=True, help="Name of the entry.")
@click.option("--print", "only_print", is_flag=True, help="Print what would be written, and write nothing.")
@click.option("--file", type=click.Path(path_type=Path, dir_okay=False), help="Another file than the program's usual.")
@click.option("--data-dir", type=click.Path(path_type=Path), default=default_data_dir, show_default=".dripstone")
@MCP_OPTIONS[0]
@MCP_OPTIONS[1]
def install(
    client: str,
    url: str,
    name: str,
    only_print: bool,
    file: Path | None,
    data_dir: Path,
    mcp_toolsets: tuple[str, ...],
    mcp_read_only: bool,
) -> None:
    """Tell a program that runs agents of this server, in the file where it looks in this folder.

    Without --url the program runs `dripstone mcp`. With it the key is taken from $DRIPSTONE_AGENT_KEY, or asked for:
    none is written. Other entries stay as they are.
    """
    if not name.replace("-", "").replace("_", "").isalnum() or not name.isascii():
        raise click.BadParameter("letters, digits, - and _ only", param_hint="--name")
    known = CLIENTS[client]
    view = View(toolsets=frozenset(mcp_toolsets), read_only=mcp_read_only)
    server = Server(name, url=_address(url, view)) if url else Server(name, command=_command(data_dir, view))
    if only_print:
        click.echo(known.snippet(server), nl=False)
        return
    path = file.resolve() if file else _usual(known.file(Path.cwd()))
    before = path.read_text() if path.exists() else ""
    try:
        after = known.added(before, server)
    except CannotAdd as error:
        raise click.ClickException(
            f"{path} is left as it is: {error}. Put this into it:\n\n{known.snippet(server)}"
        ) from error
    if after == before:
        click.echo(f"{path} has it already")
        return
    _write(path, after)
    needs = f" It needs ${KEY_VARIABLE}." if url and KEY_VARIABLE in after else ""
    click.echo(f"{path} is written: {known.title} finds `{name}` {known.reads}.{needs}")


def _usual(file: Path) -> Path:
    """Return a program's usual file; of a link, what it leads to, which is changed.

    Who made the project made its links: they must not lead a write out of it.
    """
    project, path = Path.cwd().resolve(), file.resolve()
    if file.is_relative_to(project) and not path.is_relative_to(project):
        raise click.ClickException(f"{file} leads out of this folder, to {path}. If that is meant: --file {path}")
    return path


def _address(url: str, view: View) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise click.BadParameter("is no address such as https://crm.example.com/mcp", param_hint="--url")
    if parts.username is not None or parts.password is not None:
        raise click.BadParameter("has a name or a password in it: leave the key to the header", param_hint="--url")
    root = View().resource
    base = url.rstrip("/")
    return (base if parts.path.rstrip("/") else base + root) + view.path.removeprefix(root)


def _command(data_dir: Path, view: View) -> list[str]:
    beside = Path(sys.executable).with_name("dripstone")
    program = [str(beside)] if beside.exists() else [sys.executable, "-m", "core"]
    toolsets = ["--toolsets", ",".join(sorted(view.toolsets))] if view.toolsets else []
    read_only = ["--read-only"] if view.read_only else []
    return [*program, "mcp", "--data-dir", str(data_dir.resolve()), *toolsets, *read_only]


def _write(path: Path, text: str) -> None:
    """Replace a file in one step, and leave who may read it as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # nobody can have put a link there
    try:
        with os.fdopen(descriptor, "w") as new:
            with contextlib.suppress(FileNotFoundError):
                os.fchmod(descriptor, path.stat().st_mode & 0o777)
            new.write(text)
        os.replace(beside, path)
    except BaseException:
        os.unlink(beside)
        raise
