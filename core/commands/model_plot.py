"""What trying a scoring model brought, as a picture: scores by how they ended, and how tiers ended."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.simulation.plot import CannotPlot

__all__ = ["CannotPlot", "plot"]

_WELL, _OTHER = "#2f6f8f", "#c8ccd0"


def plot(result: Mapping[str, Any], path: Path, title: str) -> None:
    """Draw a result into a file; its suffix says how. Raises CannotPlot where matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise CannotPlot from None
    figure: Any = Figure(figsize=(10, 4), layout="constrained")
    scores, tiers = figure.subplots(1, 2, width_ratios=[3, 2])
    auc = result.get("auc")
    quality = "" if auc is None else f", AUC {auc:.3f}"
    figure.suptitle(f"{title}: {result['lead_count']:,} leads, {result['positive_count']:,} ended well{quality}")
    _draw_scores(scores, result)
    _draw_tiers(tiers, result)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _draw_scores(axes: Any, result: Mapping[str, Any]) -> None:
    rows = result["score_buckets"]
    places = range(len(rows))
    well = [row["positive_count"] for row in rows]
    axes.bar(places, well, color=_WELL, label="ended well")
    other = [row["count"] - row["positive_count"] for row in rows]
    axes.bar(places, other, bottom=well, color=_OTHER, label="did not")
    axes.set_xticks(list(places), [f"{row['from_score']}-{row['to_score']}" for row in rows], fontsize=8)
    axes.set_xlabel("score")
    axes.set_ylabel("leads")
    axes.legend(fontsize=8, frameon=False)
    _plain(axes)


def _draw_tiers(axes: Any, result: Mapping[str, Any]) -> None:
    rows = [row for row in result["calibration_rows"] if row["count"]]
    names = [row["tier"] or "disqualified" for row in rows]
    rates = [100 * row["rate"] for row in rows]
    below = [100 * max(0.0, row["rate"] - row["low"]) for row in rows]
    above = [100 * max(0.0, row["high"] - row["rate"]) for row in rows]
    if rows:
        axes.errorbar(names, rates, yerr=[below, above], fmt="o", color=_WELL, capsize=4)
    axes.set_ylim(0, 105)
    axes.set_xlabel("tier")
    axes.set_ylabel("ended well, % with 95 % interval")
    axes.tick_params(labelsize=8)
    _plain(axes)


def _plain(axes: Any) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
