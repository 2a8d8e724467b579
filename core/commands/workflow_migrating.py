"""`dripstone workflow migrate`: moving enrollments under way to another version, exactly as it was shown."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from core.commands.acting import as_data, client, instant, not_done, row, table, word, yes_option
from core.commands.documents import as_json_option, console, counted
from core.commands.telling import run

if TYPE_CHECKING:
    from dripstone.v1 import workflow_pb2 as pb

_WAITS = ("keep", "recompute", "restart")


class _Pair(click.ParamType[tuple[str, str]]):
    """Two names with = between them."""

    name = "step=…"

    def __init__(self, values: tuple[str, ...] = ()):
        self._values = values

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Return both. Fails with an example."""
        if isinstance(value, tuple):
            return value
        left, _, right = str(value).partition("=")
        if not (left and right):
            self.fail(f"{value!r} is not STEP={'|'.join(self._values) or 'STEP'}", param, ctx)
        if self._values and right not in self._values:
            self.fail(f"{right!r} is none of {', '.join(self._values)}", param, ctx)
        return left, right


@click.command(short_help="Move enrollments under way to another version.")
@click.argument("workflow_id", metavar="WORKFLOW")
@click.option("--from", "from_version", type=click.IntRange(1), help="Only from this version.")
@click.option("--to", "to_version", type=click.IntRange(1), help="To this version; the newest without it.")
@click.option(
    "--step", "steps", type=_Pair(), multiple=True, help="OLD=NEW where a step is called otherwise; NEW may be `exit`."
)
@click.option(
    "--wait", "waits", type=_Pair(_WAITS), multiple=True, help="STEP=keep, recompute or restart: what waits become."
)
@click.option("--hash", "seen", default="", help="With --yes: only if this is the hash of the plan, as it was shown.")
@click.option("--plan", "plan_id", default="", help="With --hash: a plan that was made before, once it is approved.")
@yes_option
@as_json_option
def migrate(workflow_id: str, plan_id: str, seen: str, yes: bool, as_json: bool, **asked: Any) -> None:
    """Move enrollments of WORKFLOW to another version.

    Without --yes it tells who would go from which step to which, what becomes of their waits, and who cannot go and
    why. Ends with 1 when somebody else moved them meanwhile.
    """
    if plan_id and not seen:
        raise click.UsageError("Say --hash, the hash of the plan as it was shown.")
    plan = run(_planned(workflow_id, asked, yes)) if not plan_id else None
    if plan is not None and yes and seen not in ("", plan.hash):
        _tell(workflow_id, plan, done=False, as_json=as_json)
        click.echo("This is not what was shown before: somebody has moved, entered or left.", err=True)
        sys.exit(1)
    if plan_id or (yes and plan is not None and plan.moving_count):
        plan = run(_applied(plan_id or (plan.plan_id if plan else ""), seen or (plan.hash if plan else ""), yes))
    assert plan is not None
    _tell(workflow_id, plan, done=yes and plan.HasField("apply_time"), as_json=as_json)


def _tell(workflow_id: str, plan: pb.MigrationPlan, *, done: bool, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"done": done, **as_data(plan)}, indent=2))
        return
    _show(plan)
    if plan.approval_id:
        again = f"dripstone workflow migrate {workflow_id} --plan {plan.plan_id} --hash {plan.hash} --yes"
        click.echo(f"It waits for {plan.approval_id} to be decided. Then: {again}")
    elif done:
        click.echo(f"{plan.moving_count:,} moved, {plan.staying_count:,} stayed.")
    elif plan.moving_count:
        not_done(f"--yes --hash {plan.hash}")
    else:
        click.echo("Nobody moves.")


async def _planned(workflow_id: str, asked: dict[str, Any], keep: bool) -> pb.MigrationPlan:
    from dripstone.v1 import workflow_pb2 as pb

    request = pb.PlanMigrationRequest(
        workflow_id=workflow_id,
        from_version=asked["from_version"] or 0,
        to_version=asked["to_version"] or 0,
        steps=dict(asked["steps"]),
        waits={step: pb.WaitPolicy.Value(f"WAIT_POLICY_{what.upper()}") for step, what in asked["waits"]},
        validate_only=not keep,
    )
    async with client() as core:
        return await core.workflows.PlanMigration(request)


async def _applied(plan_id: str, seen: str, yes: bool) -> pb.MigrationPlan:
    from dripstone.v1 import workflow_pb2 as pb

    request = pb.ApplyMigrationRequest(plan_id=plan_id, hash=seen, validate_only=not yes)
    async with client() as core:
        return await core.workflows.ApplyMigration(request)


def _show(plan: pb.MigrationPlan) -> None:
    moving, staying = counted(plan.moving_count, "enrollment"), counted(plan.staying_count, "enrollment")
    click.echo(f"{plan.workflow_id} to version {plan.to_version}: {moving} to move, {staying} to stay.")
    for title, moves in (("goes", plan.moves), ("stays", plan.stays)):
        if moves:
            console().print(_moves(title, moves))


def _moves(title: str, moves: Any) -> Table:
    from dripstone.v1 import workflow_pb2 as pb

    made = table(title, "to", "count", "wait", "due", "why", numbers=["count"])
    for one in moves:
        wait = word(pb.WaitPolicy, one.wait) if one.wait else ""
        row(
            made,
            f"{one.from_step_id} (version {one.from_version})",
            one.to_step_id,
            f"{one.count:,}",
            wait,
            _due(one),
            one.reason,
        )
    return made


def _due(one: pb.MigrationMove) -> str:
    first, last = instant(one.earliest_due_time), instant(one.latest_due_time)
    told = [f"{one.at_once_count:,} at once"] if one.at_once_count else []
    told += [f"{one.failing_count:,} fail"] if one.failing_count else []
    told += [first if first == last else f"{first} to {last}"] if first else []
    return ", ".join(told)
