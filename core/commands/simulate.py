"""`dripstone simulate`: what a workflow would do, before anybody gets a message from it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from core.clock import SystemClock
from core.commands import simulation_tables
from core.commands.simulation_files import named, nested, read_assumed, read_rows, text_of
from core.domain.errors import Invalid, Violation
from core.domain.frozen import frozen
from core.domain.workflow import durations, source
from core.domain.workflow.compile import compile_document
from core.domain.workflow.source_lines import SourceLines
from core.domain.workflow.version import Version
from core.simulation.assumptions import Assumptions, read_assumptions
from core.simulation.beginnings import Entering
from core.simulation.difference import diff
from core.simulation.made_up import made_up
from core.simulation.plot import SUFFIXES, CannotPlot, plot
from core.simulation.result import Simulation, as_data
from core.simulation.script import ScriptedEvent, read_script
from core.simulation.simulate import simulate as run
from core.simulation.subjects import MOST_SUBJECTS, Subject, read_subjects

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_LONGEST = timedelta(days=3 * 366)
_USUAL_SAMPLE = 1_000
_USUAL_LINES = 10


class _Length(click.ParamType[timedelta]):
    name = "duration"

    def convert(self, value: Any, param: Any, ctx: Any) -> timedelta:
        if isinstance(value, timedelta):
            return value
        try:
            length = durations.parse(str(value))
        except ValueError as error:
            self.fail(f"{error}. {durations.EXAMPLE}", param, ctx)
        if length > _LONGEST:
            self.fail("a simulation goes three years at most", param, ctx)
        return length


class _Instant(click.ParamType[datetime]):
    name = "instant"

    def convert(self, value: Any, param: Any, ctx: Any) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            instant = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is not an instant such as 2026-03-02T09:00:00Z", param, ctx)
        return instant.astimezone(UTC) if instant.tzinfo else instant.replace(tzinfo=UTC)


def _plot_path(ctx: Any, param: Any, value: Path | None) -> Path | None:
    if value is not None and value.suffix.lower() not in SUFFIXES:
        raise click.BadParameter(f"the file must end in {', '.join(SUFFIXES)}")
    return value


@click.command(short_help="Try a workflow file on contacts in memory.")
@click.argument("file", type=_FILE)
@click.option("--contacts", type=_FILE, help="Who: a CSV, JSON, JSON lines or YAML file; made up without it.")
@click.option(
    "--sample",
    type=click.IntRange(1, MOST_SUBJECTS),
    help=f"How many: the first ones of --contacts, or made up ones ({_USUAL_SAMPLE:,} when nothing is said).",
)
@click.option("--horizon", type=_Length(), default="90d", show_default=True, help="How far to go.")
@click.option(
    "--events", type=_FILE, help="What happens: a file of {event, contact, at | after, since, share, fields}."
)
@click.option(
    "--assume",
    "assumed",
    multiple=True,
    help="What others answer: a file, or YAML such as 'approvals: {approve: 0.8, after: 4h}'. May be repeated.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Another number, another fall of the dice.")
@click.option("--start", type=_Instant(), help="First instant, such as 2026-03-02T09:00:00Z; now without it.")
@click.option(
    "--entering",
    type=click.Choice(["auto", "start", "triggers"]),
    default="auto",
    show_default=True,
    help="All at the start, or as triggers fire; auto: as triggers fire, where one can.",
)
@click.option("--against", type=_FILE, help="Another workflow file, to compare with on the same contacts.")
@click.option("--timelines", type=click.IntRange(0, 1000), default=0, help="Show so many contacts step by step.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.option(
    "--plot", "plot_file", type=click.Path(path_type=Path), callback=_plot_path, help="Draw into: .svg, .png, .pdf."
)
def simulate(
    file: Path,
    contacts: Path | None,
    sample: int | None,
    horizon: timedelta,
    events: Path | None,
    assumed: tuple[str, ...],
    seed: int,
    start: datetime | None,
    entering: Any,
    against: Path | None,
    timelines: int,
    as_json: bool,
    plot_file: Path | None,
) -> None:
    """Try a workflow file on contacts in memory: the same machine on a virtual clock; nothing leaves.

    The same files, --seed and --start always come to the same. Ends with 1 when anything that is read has problems.
    """
    out, told = Console(), Console(stderr=True)
    begin = start or SystemClock().now().replace(second=0, microsecond=0)
    try:
        version = _compile(file, file.stem)
        other = _compile(against, file.stem) if against is not None else None  # one name: chance falls alike
        script = _script(events)
        tried = _Tried(
            _people(contacts, sample, seed), script, begin, horizon, seed, entering, timelines or _USUAL_LINES
        )
        raw = read_assumed(assumed)
        one = tried.run(version, read_assumptions(raw, version), told)
        two = None if other is None else tried.run(other, read_assumptions(raw, other), told)
    except Invalid as error:
        _refuse(told, error.violations, as_json=as_json)
        raise SystemExit(1) from None
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from error
    difference = None if two is None else diff(one, two)
    if as_json:
        compared = {} if difference is None else {"difference": as_data(difference)}
        click.echo(json.dumps({**as_data(one), **compared}, ensure_ascii=False))
    else:
        simulation_tables.show(out, one, timelines)
        if not one.admitted:
            simulation_tables.show_ways_in(out, version)
        if difference is not None and against is not None:
            simulation_tables.show_difference(out, difference, against.name)
    if plot_file is not None:
        _draw(one, plot_file, told)


def _draw(simulation: Simulation, path: Path, told: Console) -> None:
    try:
        plot(simulation, path)
    except CannotPlot as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"{path}: {error.strerror}") from error
    told.print(f"Drawn into {escape(str(path))}.")


@frozen
class _Tried:
    """What every version is tried on."""

    people: Sequence[Subject]
    script: Sequence[ScriptedEvent]
    start: datetime
    horizon: timedelta
    seed: int
    entering: Entering
    timelines: int

    def run(self, version: Version, assumptions: Assumptions, told: Console) -> Simulation:
        """Simulate one version, with a bar that shows how far it is."""
        title = version.title or version.workflow_id
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
        with Progress(*columns, console=told, transient=True, disable=not told.is_terminal) as bar:
            task = bar.add_task(f"Simulating {escape(title)}", total=None)
            return run(
                version,
                self.people,
                self.script,
                start=self.start,
                horizon=self.horizon,
                assumptions=assumptions,
                seed=self.seed,
                timelines=self.timelines,
                entering=self.entering,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )


def _compile(file: Path, workflow_id: str) -> Version:
    """Return the version that a document describes; what it refers to is taken to be there."""
    text = text_of(file)
    document = source.parse(text, file.name)
    compiled = compile_document(document, workflow_id=workflow_id, number=1)
    if compiled.version is None:
        lines = SourceLines(text)
        told = [(one, lines.line(one.field, one.message)) for one in compiled.problems]
        raise Invalid(*(replace(one, field=f"{file.name}:{line or 1}: {one.field}") for one, line in told))
    return compiled.version


def _script(events: Path | None) -> tuple[ScriptedEvent, ...]:
    if events is None:
        return ()
    rows = nested(read_rows(events, "events"))
    with named(events):
        return read_script(rows)


def _people(contacts: Path | None, sample: int | None, seed: int) -> tuple[Subject, ...]:
    if contacts is None:
        return made_up(sample or _USUAL_SAMPLE, seed)
    rows = read_rows(contacts, "contacts")
    with named(contacts):
        return read_subjects(rows if sample is None else rows[:sample])


def _refuse(told: Console, problems: Sequence[Violation], *, as_json: bool) -> None:
    """Print everything that is wrong: where, what, and the way out."""
    if as_json:
        click.echo(json.dumps({"problems": [asdict(one) for one in problems]}, ensure_ascii=False))
        return
    for one in problems:
        told.print(f"[bold]{escape(one.field)}[/]: {escape(one.message)}", soft_wrap=True, highlight=False)
        if one.hint:
            told.print(f"  [dim]{escape(one.hint)}[/]", soft_wrap=True, highlight=False)
    told.print(f"[red]{len(problems)} {'problem' if len(problems) == 1 else 'problems'}; nothing was simulated.[/]")
