"""What trying a scoring model brought, as tables for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

_BAR = 24


def show(console: Console, result: Mapping[str, Any], name: str) -> None:
    """Print how a model would have done."""
    auc = result.get("auc")
    console.print(
        f"[bold]{escape(name)}[/]: {result['lead_count']:,} leads that ended, "
        f"{result['positive_count']:,} of them well; {result['left_out_count']:,} left out."
    )
    if not result["lead_count"]:
        console.print("Nothing to compare yet: no lead has ended by the field that --outcome names.")
        return
    if auc is None:
        console.print("No AUC: there is no good end, or no other, to tell apart.")
    else:
        console.print(f"AUC {auc:.3f}: so often a lead that ended well scored higher than one that did not.")
    console.print(_tiers(result))
    console.print(_scores(result))
    if result["tier_moves"]:
        console.print(_moves(result))
    if result["mean_score_change"]:
        console.print(f"Against the version in use, a score is {result['mean_score_change']:+.1f} points on average.")
    if result["unmet_rules"]:
        console.print(f"[yellow]![/] Rules that no lead met: {escape(', '.join(result['unmet_rules']))}")


def _table(title: str, *columns: str) -> Table:
    table = Table(*columns, title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for column in table.columns[1:]:
        column.justify = "right"
    return table


def _tiers(result: Mapping[str, Any]) -> Table:
    table = _table("How tiers ended", "tier", "leads", "well", "share", "95 % interval")
    for row in result["calibration_rows"]:
        interval = f"{row['low']:.0%} to {row['high']:.0%}" if row["count"] else ""
        share = f"{row['rate']:.0%}" if row["count"] else ""
        name = escape(row["tier"]) or "(disqualified)"
        table.add_row(name, f"{row['count']:,}", f"{row['positive_count']:,}", share, interval)
    return table


def _scores(result: Mapping[str, Any]) -> Table:
    table = _table("Scores", "score", "leads", "well", "")
    table.columns[3].justify = "left"
    most = max((row["count"] for row in result["score_buckets"]), default=0) or 1
    for row in result["score_buckets"]:
        bar = "█" * round(_BAR * row["count"] / most)
        span = f"{row['from_score']} to {row['to_score']}"
        table.add_row(span, f"{row['count']:,}", f"{row['positive_count']:,}", bar)
    return table


def _moves(result: Mapping[str, Any]) -> Table:
    table = _table("Leads that the version in use has in another tier", "there", "here", "leads")
    table.columns[1].justify = "left"
    for row in result["tier_moves"]:
        there, here = (escape(row[key]) or "(disqualified)" for key in ("from_tier", "to_tier"))
        table.add_row(there, here, f"{row['count']:,}")
    return table
