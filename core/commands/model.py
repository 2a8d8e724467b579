"""`dripstone model`: check, try and publish the files in which scoring models are kept."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from core.commands import model_server, model_tables
from core.commands.documents import (
    DocumentFile,
    as_json_option,
    console,
    counted,
    list_templates,
    new_from,
    out_option,
    write,
)
from core.commands.telling import run
from core.domain import names
from core.domain.errors import Invalid, Violation
from core.domain.qualification import lint as rules
from core.domain.qualification.schema import document_schema
from core.domain.workflow import durations
from core.templates import scoring_models as shipped

_PLOTS = (".svg", ".png", ".pdf")


@click.group(short_help="Check, try and publish scoring models.")
def model() -> None:
    """Check, try and publish scoring models.

    The running core is found by DRIPSTONE_TARGET and DRIPSTONE_API_KEY, else by connection.json in $DRIPSTONE_DATA_DIR
    or ./.dripstone.
    """


@model.command(short_help="List what is wrong with files, and what is doubtful.")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--server", is_flag=True, help="Let the running core check it: workflows, members and events as well.")
@click.option("--strict", is_flag=True, help="End with 1 for doubts as well.")
@as_json_option
def lint(files: tuple[str, ...], server: bool, strict: bool, as_json: bool) -> None:
    """List what is wrong with scoring models, and what is doubtful, with lines; - reads standard input.

    Ends with 1 when something is wrong.
    """
    read = [DocumentFile.read(name) for name in files]
    found = run(model_server.checked([one.text for one in read])) if server else [_checked(one.text) for one in read]
    if as_json:
        told = [_as_data(one, *both) for one, both in zip(read, found, strict=True)]
        click.echo(json.dumps(told, indent=2))
    else:
        for one, (problems, doubts) in zip(read, found, strict=True):
            _show(one, problems, doubts)
    if any(problems or (strict and doubts) for problems, doubts in found):
        sys.exit(1)


def _checked(text: str) -> model_server.Checked:
    try:
        return (), rules.warnings(text)
    except Invalid as error:
        return error.violations, ()


def _as_data(file: DocumentFile, problems: Sequence[Violation], doubts: Sequence[Violation]) -> dict[str, Any]:
    return {
        "file": file.name,
        "valid": not problems,
        "problems": file.told(problems),
        "warnings": file.told(doubts),
    }


def _show(file: DocumentFile, problems: Sequence[Violation], doubts: Sequence[Violation]) -> None:
    click.echo(f"{file.name}: {'valid' if not problems else counted(len(problems), 'problem')}", nl=False)
    click.echo(f", {counted(len(doubts), 'doubt')}" if doubts else "")
    for found, title in ((problems, "what is wrong"), (doubts, "what is doubtful")):
        if found:
            file.show(found, title)


def _id_of(file: DocumentFile, given: str) -> str:
    """Return the model's id: what was given, or what the file is called."""
    if given and not names.is_slug(given):
        raise click.UsageError(f"{given} cannot be an id. Use lower-case letters, digits, hyphens and underscores.")
    if not (given or file.id):
        raise click.UsageError(f"{file.name} does not say which model it is: add --id, such as --id default.")
    return given or file.id


@model.command(short_help="Make a file the next version.")
@click.argument("file")
@click.option("--id", "model_id", default="", help="The model; the name of FILE without it.")
@click.option("--keep-active", is_flag=True, help="Publish it beside the version in use, for trying.")
@as_json_option
def publish(file: str, model_id: str, keep_active: bool, as_json: bool) -> None:
    """Make FILE the next version of its model, in use from then on unless --keep-active is said."""
    read = DocumentFile.read(file)
    chosen = _id_of(read, model_id)
    problems, _ = run(model_server.checked([read.text]))[0]
    if problems:
        if as_json:
            click.echo(json.dumps(_as_data(read, problems, ()), indent=2))
        else:
            _show(read, problems, ())
        sys.exit(1)
    version, active, doubts = run(model_server.published(chosen, read.text, keep_active))
    if as_json:
        told = {"model_id": chosen, "version": version, "active": active}
        click.echo(json.dumps({**told, "warnings": _as_data(read, (), doubts)["warnings"]}, indent=2))
        return
    state = "in use" if active else "not in use yet"
    click.echo(f"{chosen} is published: version {version}, {state}.")
    if doubts:
        _show(read, (), doubts)


class _Length(click.ParamType[timedelta]):
    name = "duration"

    def convert(self, value: Any, param: Any, ctx: Any) -> timedelta:
        if isinstance(value, timedelta):
            return value
        try:
            return durations.parse(str(value))
        except ValueError as error:
            self.fail(f"{error}. {durations.EXAMPLE}", param, ctx)


def _plot_path(ctx: Any, param: Any, value: Path | None) -> Path | None:
    if value is not None and value.suffix.lower() not in _PLOTS:
        raise click.BadParameter(f"the file must end in {', '.join(_PLOTS)}")
    return value


@model.command(short_help="Try a file on the leads there were.")
@click.argument("file")
@click.option("--outcome", required=True, help="The field that says how it ended, such as lead.status or custom.won.")
@click.option("--positive", multiple=True, help="A value that means a good end; true, converted and won without it.")
@click.option("--id", "model_id", default="", help="The model whose version in use it is compared with: default.")
@click.option("--filter", "filter_text", default="", help="Which leads, such as 'source = \"web\"'.")
@click.option("--lead-time", type=_Length(), help="Score so long before the end; when the lead was made, without it.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=10_000, show_default=True, help="Leads at most.")
@click.option(
    "--plot", "plot_file", type=click.Path(path_type=Path), callback=_plot_path, help="Draw into: .svg, .png, .pdf."
)
@as_json_option
def backtest(
    file: str,
    outcome: str,
    positive: tuple[str, ...],
    model_id: str,
    filter_text: str,
    lead_time: timedelta | None,
    limit: int,
    plot_file: Path | None,
    as_json: bool,
) -> None:
    """Try FILE on the leads of the running core: each scored by what was known of it at its moment.

    Nothing is written. Tells how well scores and ends agree, how tiers ended, and what differs from the version in use.
    """
    told = Console(stderr=True)
    read = DocumentFile.read(file)
    asked = model_server.Asked(read.text, model_id, outcome, positive, filter_text, lead_time, limit)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=told, transient=True, disable=not told.is_terminal) as bar:
        task = bar.add_task("Scoring", total=None)
        result = run(model_server.backtested(asked, lambda done, total: bar.update(task, completed=done, total=total)))
    if as_json:
        click.echo(json.dumps(result, indent=2))
    else:
        model_tables.show(console(), result, file)
    if plot_file is not None:
        _draw(result, plot_file, Path(file).name, told)


def _draw(result: dict[str, Any], path: Path, title: str, told: Console) -> None:
    from core.commands import model_plot

    try:
        model_plot.plot(result, path, title)
    except model_plot.CannotPlot as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"{path}: {error.strerror}") from error
    told.print(f"Drawn into {escape(str(path))}.")


@model.command(short_help="Print the JSON Schema, for editors.")
@out_option
def schema(out: Path | None) -> None:
    """Print the JSON Schema of scoring models, by which editors complete and check them."""
    text = json.dumps(document_schema(), indent=2) + "\n"
    write(out, text, force=True)


@model.command("templates")
@as_json_option
def templates(as_json: bool) -> None:
    """List the scoring models to start from."""
    list_templates(shipped(), as_json=as_json)


@model.command()
@click.argument("template", required=False)
@out_option
@click.option("--force", is_flag=True, help="Overwrite a file that is there.")
def new(template: str | None, out: Path | None, force: bool) -> None:
    """Write a copy of a template to start from."""
    new_from(shipped(), template, out, force=force, then="dripstone model lint")
