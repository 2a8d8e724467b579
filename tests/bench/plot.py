"""Draws docs/benchmarks.svg from a report on standard input; runs in the peers' environment, which has matplotlib."""

from __future__ import annotations

import json
import sys
from typing import Any

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "dripstone"  # the same figures give the same file
matplotlib.rcParams["svg.fonttype"] = "none"
matplotlib.rcParams["font.family"] = "sans-serif"

from matplotlib import pyplot  # noqa: E402 -- after the choice of what it draws with

OURS = "#1b6f8a"
THEIRS = "#b9c2c7"
SHORT_OF_IT = "#c2603a"


def main() -> None:
    figures = json.load(sys.stdin)["figures"]
    rates, aims = list(_rates(figures)), list(_aims(figures))
    heights = [max(len(rates), 1), max(len(aims), 1)]
    figure, (upper, lower) = pyplot.subplots(
        2, 1, figsize=(9, 1.8 + 0.3 * sum(heights)), height_ratios=heights, layout="constrained"
    )
    _bars(upper, rates, "Steps or jobs a second, one process")
    _bars(lower, aims, "Figure over aim: right of the line is better than aimed at")
    lower.axvline(1, color="#444444", linewidth=1)
    figure.savefig(sys.argv[1], metadata={"Date": None})


def _rates(figures: list[dict[str, Any]]) -> list[tuple[str, float, str]]:
    """Return name, rate and colour of the engine and of each peer, the fastest last."""
    found = [
        (f"Dripstone, {one['database']}, {one['note']}", one["value"], OURS)
        for one in figures
        if one["part"] == "engine" and one["what"] == "steps"
    ]
    for one in figures:
        if one["part"] == "peers":
            name = one["what"].removeprefix("steps, against ")
            found.append((f"{name}, {one['database']}", one["against_value"], THEIRS))
    return sorted(found, key=lambda bar: bar[1])


def _aims(figures: list[dict[str, Any]]) -> list[tuple[str, float, str]]:
    """Return how many times better than its aim each figure is."""
    found = []
    for one in figures:
        aim = one["aim"]
        told = one["ratio"] if aim and aim["of"] == "ratio" else one["value"]
        if not aim or not told or not aim["bound"]:
            continue
        times = told / aim["bound"] if aim["sign"] == ">=" else aim["bound"] / told
        found.append((f"{one['what']} ({one['database']})", times, OURS if times >= 1 else SHORT_OF_IT))
    return found[::-1]


def _bars(axes: Any, bars: list[tuple[str, float, str]], title: str) -> None:
    axes.set_title(title, loc="left", fontsize=10)
    if not bars:
        axes.set_axis_off()
        return
    names, values, colours = zip(*bars, strict=True)
    drawn = axes.barh(range(len(bars)), values, color=colours)
    axes.set_yticks(range(len(bars)), names, fontsize=8)
    axes.bar_label(drawn, [f" {value:,.0f}" if value >= 100 else f" {value:.2g}" for value in values], fontsize=8)
    axes.set_xscale("log")
    axes.set_xlim(min(values) / 2, max(values) * 4)
    axes.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    main()
