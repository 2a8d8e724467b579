"""A simulation as a picture: the funnel, and the messages day by day."""

from __future__ import annotations

from collections import defaultdict
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from core.simulation.result import Simulation

SUFFIXES = (".svg", ".png", ".pdf")

_LEFT = "#2f6f8f"
_WAITING = "#e0a030"
_LOST = "#b04a4a"
_CHANNELS = ("#2f6f8f", "#e0a030", "#5b8c5a", "#8d6a9f", "#b04a4a", "#7a7a7a")
_LONGEST_NAME = 28


class CannotPlot(Exception):
    """Plots need matplotlib: pip install 'dripstone[plot]'."""

    def __str__(self) -> str:
        return str(self.__doc__)


def plot(simulation: Simulation, path: Path) -> None:
    """Draw a simulation into a file; its suffix says how. Raises CannotPlot where matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise CannotPlot from None
    figure: Any = Figure(figsize=(11, 3.2 + 0.28 * len(simulation.funnel)), layout="constrained")
    funnel, messages = figure.subplots(2, 1, height_ratios=[max(2.0, 0.28 * len(simulation.funnel)), 2.2])
    days = f"{simulation.start:%Y-%m-%d} to {simulation.end:%Y-%m-%d}"
    figure.suptitle(f"{simulation.title}: {simulation.contacts:,} contacts, {days}")
    _draw_funnel(funnel, simulation)
    _draw_messages(messages, simulation)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _draw_funnel(axes: Any, simulation: Simulation) -> None:
    names = [one.step_id[:_LONGEST_NAME] for one in simulation.funnel]
    left = [one.entered - one.waiting - one.failed for one in simulation.funnel]
    waiting = [one.waiting for one in simulation.funnel]
    failed = [one.failed for one in simulation.funnel]
    axes.barh(names, left, color=_LEFT, label="went on or ended")
    base = [a + b for a, b in zip(left, waiting, strict=True)]
    for heights, start, color, label in ((waiting, left, _WAITING, "still there"), (failed, base, _LOST, "failed")):
        if any(heights):
            axes.barh(names, heights, left=start, color=color, label=label)
    for position, one in enumerate(simulation.funnel):
        axes.annotate(f" {one.entered:,}", (one.entered, position), va="center", fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("visits")
    axes.set_xlim(0, max(1.0, 1.08 * max(one.entered for one in simulation.funnel)))
    axes.tick_params(labelsize=8)
    axes.legend(fontsize=8, frameon=False, loc="lower right")
    _plain(axes)


def _draw_messages(axes: Any, simulation: Simulation) -> None:
    first, last = simulation.start.date(), simulation.end.date()
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    counts: dict[str, dict[date, int]] = defaultdict(dict)
    for one in simulation.messages:
        counts[one.channel][one.day] = one.count
    base = [0] * len(days)
    for number, (channel, by_day) in enumerate(sorted(counts.items())):
        heights = [by_day.get(day, 0) for day in days]
        axes.bar(days, heights, bottom=base, width=1.0, color=_CHANNELS[number % len(_CHANNELS)], label=channel)
        base = [a + b for a, b in zip(base, heights, strict=True)]
    axes.set_xlim(first - timedelta(days=0.5), last + timedelta(days=0.5))
    axes.set_ylabel("messages a day")
    axes.tick_params(labelsize=8)
    if counts:
        axes.legend(fontsize=8, frameon=False)
    _plain(axes)


def _plain(axes: Any) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
