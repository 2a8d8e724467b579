"""`dripstone usage`: what was done and cost, as the running core counts it."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click
from rich.markup import escape
from rich.table import Table

from core.clock import SystemClock
from core.commands.documents import console
from core.commands.telling import run

if TYPE_CHECKING:
    from dripstone.v1 import audit_pb2 as pb

_COUNTED = (
    "writes", "executions", "succeeded", "failed", "cancelled", "tasks", "enrollments", "messages", "records", "steps",
    "tokens", "scored", "streamed",
)  # fmt: skip
"""What has a column where there is any of it, in this order."""

_MOST_DAYS = 366


@click.command(short_help="Tell what was done and cost, by day.")
@click.option(
    "--by", "group_by", type=click.Choice(["principal", "workflow", "agent"]), help="A line for each of these."
)
@click.option("--days", type=click.IntRange(1, _MOST_DAYS), default=7, show_default=True, help="The last days, in UTC.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def usage(group_by: str | None, days: int, as_json: bool) -> None:
    """Tell what was done and what it cost, by day: the whole organization, each principal, workflow or agent."""
    answer = run(_asked(group_by or "", days))
    if as_json:
        click.echo(json.dumps(_as_data(answer)))
        return
    if not answer.lines:
        click.echo("Nothing was done in these days.")
        return
    console().print(_table(answer, group_by or ""))
    click.echo(f"Cost: {_cost(answer.cost, answer.currency)}")


async def _asked(group_by: str, days: int) -> pb.GetUsageResponse:
    from dripstone.v1 import audit_pb2 as pb
    from dripstone.v1.client import from_environment

    first = SystemClock().now().date() - timedelta(days=days - 1)
    async with from_environment() as client:
        return await client.audit.GetUsage(pb.GetUsageRequest(group_by=group_by, start_day=first.isoformat()))


def _table(answer: pb.GetUsageResponse, group_by: str) -> Table:
    counted = {name for line in answer.lines for name in line.counts}
    columns = [name for name in _COUNTED if name in counted]
    table = Table("Day", *([group_by.capitalize()] if group_by else []), box=None, header_style="bold")
    table.columns[0].no_wrap = True
    for name in (*columns, "cost"):
        table.add_column(name.capitalize(), justify="right")
    for line in answer.lines:
        who = [escape(line.display_name or line.subject_id)] if group_by else []
        counts = _counts(line)
        numbers = [f"{counts[name]:,}" if name in counts else "" for name in columns]
        table.add_row(line.day, *who, *numbers, _cost(line.cost, "") if line.cost else "")
    return table


def _counts(line: pb.UsageLine) -> dict[str, int]:
    return {name: int(value.number_value) for name, value in line.counts.fields.items()}


def _cost(cost: float, currency: str) -> str:
    return f"{cost:,.4f}".rstrip("0").rstrip(".") + (f" {currency}" if currency else "")


def _as_data(answer: pb.GetUsageResponse) -> dict[str, Any]:
    return {
        "lines": [
            {
                "day": line.day,
                "subject_id": line.subject_id,
                "display_name": line.display_name,
                "counts": _counts(line),
                "cost": line.cost,
            }
            for line in answer.lines
        ],
        "cost": answer.cost,
        "currency": answer.currency,
    }
