"""`dripstone workflow pause | resume`: holding a workflow, and letting it go on by a policy that was shown first."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING

import click
from rich.table import Table

from core.commands.acting import as_data, client, counts, instant, not_done, row, table, yes_option
from core.commands.documents import as_json_option, console, counted
from core.commands.telling import run
from core.domain.workflow import durations

if TYPE_CHECKING:
    from dripstone.v1 import workflow_pb2 as pb

_POLICIES = ("run_overdue", "shift", "skip_overdue")
_MOVES = ("move at once", "timers moved", "of those to a slot")
_STANDING = ("fell due", "had something happen", "wait on")


@click.command(short_help="Hold a workflow; nobody is lost.")
@click.argument("workflow_id", metavar="WORKFLOW")
@click.option("--reason", default="", help="Why, for whoever looks.")
@yes_option
@as_json_option
def pause(workflow_id: str, reason: str, yes: bool, as_json: bool) -> None:
    """Hold WORKFLOW: timers keep their time, nothing is sent, nobody is skipped.

    Without --yes it tells who would be held.
    """
    done, standing = run(_paused(workflow_id, reason, yes))
    if as_json:
        click.echo(json.dumps({"done": yes, **as_data(done)}, indent=2))
        return
    held = sum(standing.values())
    where = f" ({counts(standing)})" if held else ""
    click.echo(f"{workflow_id} {'is' if yes else 'would be'} paused; {counted(held, 'enrollment')} held{where}.")
    if yes:
        click.echo(f"What letting it go on would do: dripstone workflow resume {workflow_id}")
    else:
        not_done()


async def _paused(workflow_id: str, reason: str, yes: bool) -> tuple[pb.Workflow, dict[str, int]]:
    from dripstone.v1 import workflow_pb2 as pb

    async with client() as core:
        asked = pb.PauseWorkflowRequest(workflow_id=workflow_id, reason=reason, validate_only=not yes)
        done = await core.workflows.PauseWorkflow(asked)
        found = await core.workflows.GetWorkflowStatistics(pb.GetWorkflowStatisticsRequest(workflow_id=workflow_id))
    return done, {one.step_id: one.standing_count for one in found.steps if one.standing_count}


@click.command(short_help="Let a paused workflow go on, after a preview.")
@click.argument("workflow_id", metavar="WORKFLOW")
@click.option("--policy", type=click.Choice(_POLICIES), help="What becomes of what fell due meanwhile.")
@yes_option
@as_json_option
def resume(workflow_id: str, policy: str | None, yes: bool, as_json: bool) -> None:
    """Let WORKFLOW go on.

    run_overdue does now what fell due during the pause; shift moves every timer by the length of the pause;
    skip_overdue passes over messages and other outward steps that fell due. Without --yes it tells what each would do.
    """
    if yes and policy is None:
        raise click.UsageError(f"Say --policy, one of {', '.join(_POLICIES)}: without --yes, each is shown.")
    found = run(_resumed(workflow_id, [policy] if policy else list(_POLICIES), yes))
    if as_json:
        click.echo(json.dumps({"done": yes, "policies": {one: as_data(it) for one, it in found.items()}}, indent=2))
        return
    first = next(iter(found.values()))
    length = durations.render(timedelta(seconds=first.paused_seconds))
    why = f": {first.workflow.pause_reason}" if first.workflow.pause_reason else "."
    click.echo(f"{workflow_id} {'goes on after' if yes else 'has been paused for'} {length}{why}")
    console().print(_effects(found))
    if first.steps:
        console().print(_steps(first))
    for one, answer in found.items():
        _tell_missed(one, answer)
    if not yes:
        not_done(f"--policy {policy or 'POLICY'} --yes")


async def _resumed(workflow_id: str, policies: list[str], yes: bool) -> dict[str, pb.ResumeWorkflowResponse]:
    from dripstone.v1 import workflow_pb2 as pb

    found = {}
    async with client() as core:
        for policy in policies:
            number = pb.ResumePolicy.Value(f"RESUME_POLICY_{policy.upper()}")
            asked = pb.ResumeWorkflowRequest(workflow_id=workflow_id, policy=number, validate_only=not yes)
            found[policy] = await core.workflows.ResumeWorkflow(asked)
    return found


def _effects(found: dict[str, pb.ResumeWorkflowResponse]) -> Table:
    made = table("policy", *_MOVES, numbers=_MOVES)
    for policy, one in found.items():
        row(made, policy, f"{one.released_count:,}", f"{one.shifted_count:,}", f"{one.slotted_count:,}")
    return made


def _steps(answer: pb.ResumeWorkflowResponse) -> Table:
    made = table("step", *_STANDING, numbers=_STANDING)
    for one in answer.steps:
        row(made, one.step_id, f"{one.overdue_count:,}", f"{one.kept_count:,}", f"{one.waiting_count:,}")
    return made


def _tell_missed(policy: str, answer: pb.ResumeWorkflowResponse) -> None:
    for one in answer.missed_firings:
        came = f"came round {counted(one.count, 'time')} meanwhile, last on {instant(one.last_time)}"
        then = f"fires next on {instant(one.next_time)}, for {counted(one.contact_count, 'contact')}"
        click.echo(f"{policy}: triggers[{one.trigger}] ({one.kind}) {came}; it {then}.")
