"""A simulation as tables for a terminal."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import date, timedelta

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from core.domain.workflow import durations
from core.domain.workflow.version import Version
from core.domain.workflow.why_not import spoken
from core.simulation.difference import Difference
from core.simulation.result import Exclusion, FunnelStep, Simulation, Timeline

_BAR = 24
_MOST_DAYS = 35
_MOST_ENDS = 8
_MOST_DIVERGENT = 10


def show(console: Console, simulation: Simulation, timelines: int) -> None:
    """Print what a simulation found."""
    length = simulation.end - simulation.start
    how = "as triggers fired" if simulation.entering == "triggers" else "at the start"
    console.print(
        f"[bold]{escape(simulation.title)}[/]: {simulation.contacts:,} contacts over {durations.speak(length)} "
        f"from {simulation.start:%Y-%m-%d %H:%M} UTC; {simulation.admitted:,} entered {how}, "
        f"{simulation.messages_sent:,} messages, {simulation.transitions:,} decisions."
    )
    console.print(_funnel(simulation))
    tables = (
        _ends(simulation),
        _refused("Kept out: never entered", simulation.exclusions),
        _refused("Entered, but refused at a re-entry", simulation.refused_reentries),
        _messages(simulation),
        _variants(simulation),
    )
    for table in tables:
        if table.row_count:
            console.print(table)
    _counted(console, "Sent to webhook endpoints", simulation.webhooks)
    _counted(console, "Events recorded", simulation.emitted)
    _counted(console, "Enrolled elsewhere", simulation.handed_over)
    for timeline in simulation.timelines[:timelines]:
        console.print(_timeline(timeline))
    for warning in simulation.warnings:
        console.print(f"[yellow]![/] {escape(warning)}")


def show_ways_in(console: Console, version: Version) -> None:
    """Print how contacts come in, and so what a simulation that nobody entered lacks."""
    ways = "; ".join(dict.fromkeys(spoken(trigger) for trigger in version.triggers)) or "when a call enrolls somebody"
    console.print(f"It starts {escape(ways)}.")
    console.print(
        "Give contacts that fit with --contacts, what happens to them with --events, more time with --horizon; or let "
        "all of them enter at the start with --entering start. docs/simulation.md shows it."
    )


def show_difference(console: Console, difference: Difference, other: str) -> None:
    """Print how a simulation differs from another one."""
    going = f"{difference.changed:,} of {difference.changed + difference.same:,} contacts go another way"
    console.print(f"[bold]Against {escape(other)}[/]: {going}.")
    counts = Table("what", "", "difference", box=None, title="Here minus there", title_justify="left")
    counts.columns[2].justify = "right"
    for what, found in (
        ("visits", difference.entered),
        ("messages", difference.messages),
        ("state", difference.states),
        ("goal", difference.goals),
    ):
        for name, by in found.items():
            counts.add_row(what, escape(name), f"{by:+,}")
    if counts.row_count:
        console.print(counts)
    parted = Table("contact", "after", "here", "there", box=None, title="Who goes another way", title_justify="left")
    for one in difference.contacts[:_MOST_DIVERGENT]:
        parted.add_row(*map(escape, (one.contact, one.after or "(entry)", one.here, one.there)))
    if parted.row_count:
        console.print(parted)


def _funnel(simulation: Simulation) -> Table:
    table = Table(title="Funnel", title_justify="left", box=None)
    table.add_column("step", no_wrap=True)
    table.add_column("kind", no_wrap=True)
    table.add_column("entered", justify="right")
    table.add_column("", no_wrap=True, width=_BAR // 3)
    table.add_column("left by")
    standing = any(one.waiting for one in simulation.funnel)
    failing = any(one.failed for one in simulation.funnel)
    for is_there, name in ((standing, "there"), (failing, "failed"), (True, "median")):
        if is_there:
            table.add_column(name, justify="right")
    most = max((one.entered for one in simulation.funnel), default=0)
    for one in simulation.funnel:
        cells = [escape(one.step_id), one.kind, f"{one.entered:,}", _bar(one.entered, most, _BAR // 3), _left(one)]
        cells += [f"{one.waiting:,}" if one.waiting else ""] if standing else []
        cells += [f"[red]{one.failed:,}[/]" if one.failed else ""] if failing else []
        median = "" if one.median is None else durations.render(one.median) if one.median else "at once"
        table.add_row(*cells, median)
    return table


def _left(step: FunnelStep) -> str:
    left = [f"{name} {count:,}" for name, count in step.exits.items()]
    left += [f"ended {step.ended:,}"] if step.ended else []
    notes = [f"{what} {count:,}" for what, count in (("skipped", step.skipped), ("held", step.held)) if count]
    return escape(", ".join(left) + (f" ({', '.join(notes)})" if notes else ""))


def _ends(simulation: Simulation) -> Table:
    table = Table("state", "enrollments", title="How they end", title_justify="left", box=None)
    table.columns[1].justify = "right"
    for state, count in simulation.states.items():
        table.add_row(state, f"{count:,}")
    for reason, count in list(simulation.ends.items())[:_MOST_ENDS]:
        if reason not in simulation.states:
            table.add_row(f"  [dim]{escape(reason)}[/]", f"[dim]{count:,}[/]")
    return table


def _refused(title: str, exclusions: Iterable[Exclusion]) -> Table:
    table = Table("reason", "contacts", "such as", "because", title=title, title_justify="left", box=None)
    table.columns[1].justify = "right"
    for one in exclusions:
        table.add_row(one.reason, f"{one.count:,}", escape(", ".join(one.contacts[:2])), escape(one.message))
    return table


def _messages(simulation: Simulation) -> Table:
    """Return the messages by day; by week where there are too many days."""
    days = {one.day for one in simulation.messages}
    weekly = len(days) > _MOST_DAYS
    channels = sorted({one.channel for one in simulation.messages})
    counts: dict[date, Counter[str]] = defaultdict(Counter)
    for one in simulation.messages:
        counts[one.day - timedelta(days=one.day.weekday()) if weekly else one.day][one.channel] += one.count
    title = "Messages by week, from Monday (UTC)" if weekly else "Messages by day (UTC)"
    table = Table("week of" if weekly else "day", *channels, "", title=title, title_justify="left", box=None)
    for column in table.columns[1 : 1 + len(channels)]:
        column.justify = "right"
    most = max((sum(by.values()) for by in counts.values()), default=0)
    for day, by in sorted(counts.items()):
        cells = (f"{by[channel]:,}" if by[channel] else "" for channel in channels)
        table.add_row(f"{day:%a %Y-%m-%d}", *cells, _bar(sum(by.values()), most, _BAR))
    return table


def _variants(simulation: Simulation) -> Table:
    table = Table("split", "way", "entered", "goal", "rate", title="Ways of splits", title_justify="left", box=None)
    for column in table.columns[2:]:
        column.justify = "right"
    for one in simulation.variants:
        rate = f"{one.converted / one.entered:.1%}" if one.entered else ""
        table.add_row(escape(one.step_id), escape(one.way), f"{one.entered:,}", f"{one.converted:,}", rate)
    return table


def _timeline(timeline: Timeline) -> Table:
    about = f"{timeline.contact}: {timeline.state}" + (f" ({timeline.reason})" if timeline.reason else "")
    table = Table("when (UTC)", "step", "outcome", "why", title=escape(about), title_justify="left", box=None)
    for entry in timeline.entries:
        outcome = f"{entry.outcome} → {entry.exit}" if entry.exit else entry.outcome
        table.add_row(f"{entry.at:%Y-%m-%d %H:%M}", escape(entry.step_id), escape(outcome), escape(entry.reason))
    return table


def _counted(console: Console, title: str, counts: Mapping[str, int]) -> None:
    if counts:
        told: Iterable[str] = (f"{escape(name)} {count:,}" for name, count in counts.items())
        console.print(f"{title}: {', '.join(told)}.")


def _bar(count: int, most: int, width: int) -> str:
    return "█" * max(1, round(width * count / most)) if count and most else ""
