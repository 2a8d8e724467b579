"""Files of workflows, scoring models and routings, as the commands read them and tell what is wrong with them."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from core.domain import names
from core.domain.errors import Violation
from core.domain.frozen import frozen
from core.domain.nearest import did_you_mean
from core.domain.workflow.source_lines import SourceLines
from core.templates import Template

_WIDE = 200
"""Columns where nobody looks: what reads the output wants whole lines."""

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
out_option = click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="Write it there, not to the terminal."
)


@frozen
class DocumentFile:
    """A file with the text of a document."""

    name: str
    text: str

    @classmethod
    def read(cls, name: str) -> DocumentFile:
        """Return what a file says; `-` is standard input."""
        try:
            return cls(name, sys.stdin.read() if name == "-" else Path(name).read_text("utf-8"))
        except UnicodeDecodeError as error:
            raise click.ClickException(f"{name} is not UTF-8 text: {error.reason}") from error
        except OSError as error:
            raise click.ClickException(f"{name}: {error.strerror}") from error

    @property
    def id(self) -> str:
        """Return the document's id: what the file is called, as far as it can be one."""
        stem = Path(self.name).stem
        return stem if names.is_slug(stem) else ""

    def told(self, found: Sequence[Violation]) -> list[dict[str, Any]]:
        """Return what is wrong, each with its line and column, as JSON has it."""
        lines = SourceLines(self.text)
        return [_told(one, *lines.place(one.field, one.message)) for one in found]

    def show(self, found: Sequence[Violation], title: str = "what is wrong") -> None:
        """Print what is wrong, each with FILE:LINE, which terminals and editors lead to."""
        table = Table("where", "path", title, "the way out", box=None, padding=(0, 2, 0, 0))
        table.columns[0].no_wrap = True
        for one in self.told(found):
            where = f"{self.name}:{one['line']}" if one["line"] else self.name
            table.add_row(*(Text(text) for text in (where, one["path"], one["message"], one["hint"])))
        console().print(table)  # a path such as steps[3] is not markup


def _told(one: Violation, line: int, column: int) -> dict[str, Any]:
    place = {"path": one.field, "line": line, "column": column}
    return {**place, "reason": one.reason, "message": one.message, "hint": one.hint}


def console() -> Console:
    """Return where tables are printed; wide where nobody looks."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=_WIDE)


def counted(count: int, what: str) -> str:
    """Return a number of things in words, such as `2 problems`."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def list_templates(shipped: Sequence[Template], *, as_json: bool) -> None:
    """Print templates with what each is for."""
    if as_json:
        keys = ("id", "title", "description")
        click.echo(json.dumps([{key: getattr(one, key) for key in keys} for one in shipped], indent=2))
        return
    table = Table("template", "what it does", box=None, padding=(0, 2, 1, 0))
    table.columns[0].no_wrap = True
    for one in shipped:
        table.add_row(one.id, one.description)
    console().print(table)


def new_from(shipped: Sequence[Template], template: str | None, out: Path | None, *, force: bool, then: str) -> None:
    """Write a copy of a template and tell the command that checks it; an unknown one is told with the nearest."""
    known = [one.id for one in shipped]
    if template is None:
        raise click.UsageError(f"Say which template: {', '.join(known)}.")
    found = next((one for one in shipped if one.id == template), None)
    if found is None:
        near = did_you_mean(template, known) or f"There are {', '.join(known)}."
        raise click.ClickException(f"There is no template {template}. {near}")
    write(out, found.source, force=force)
    if out is not None:
        click.echo(f"{out} is written. Adapt it, then: {then} {out}")


def write(path: Path | None, text: str, *, force: bool = False) -> None:
    """Write a file, one that is there only where that is asked for; without a path print the text."""
    if path is None:
        click.echo(text, nl=False)
        return
    if path.exists() and not force:
        raise click.ClickException(f"{path} is there already. Say --force to overwrite it.")
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        raise click.ClickException(f"{path}: {error.strerror}") from error
