"""`dripstone workflow get | list | stats`: what is published, what stands, and how it is going."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table

from core.commands.acting import as_data, client, counts, instant, row, table, word
from core.commands.documents import as_json_option, console, out_option, write
from core.commands.overwriting import Base, with_base
from core.commands.telling import run
from core.domain.workflow import durations

if TYPE_CHECKING:
    from dripstone.v1 import workflow_pb2 as pb


@click.command("get", short_help="Fetch a workflow into a file.")
@click.argument("workflow_id", metavar="WORKFLOW")
@click.option("--version", "number", type=click.IntRange(1), help="This version; the newest without it.")
@click.option("--draft", is_flag=True, help="The draft.")
@click.option("--replaced", metavar="ETAG", default="", help="The draft that was written over at this etag.")
@out_option
@click.option("--force", is_flag=True, help="Overwrite a file that is there.")
@as_json_option
def get(
    workflow_id: str, number: int | None, draft: bool, replaced: str, out: Path | None, force: bool, as_json: bool
) -> None:
    """Fetch the document of WORKFLOW: the newest version, or the draft where nothing is published.

    Its first line says what it was taken from; `publish` compares that with what is there by then.
    """
    if bool(number) + draft + bool(replaced) > 1:
        raise click.UsageError("Say one of --version, --draft and --replaced.")
    found = run(_fetched(workflow_id, number, draft, replaced))
    if as_json:
        click.echo(json.dumps(as_data(found), indent=2))
        return
    time = "" if found.version else found.draft_time.ToJsonString()
    write(out, with_base(found.source, Base(found.id, found.version, time)), force=force)
    if out is not None:
        what = f"version {found.version}" if found.version else "a draft"
        own = "" if out.stem == found.id else f" --id {found.id}"
        click.echo(f"{out} is written: {what} of {found.id}. Change it, then: dripstone workflow publish {out}{own}")
    if found.draft_unpublished and found.version:
        told = f"by {found.draft_author or 'somebody'} of {instant(found.draft_time)}"
        click.echo(f"There is a draft that is not published, {told}; --draft fetches it.", err=True)


async def _fetched(workflow_id: str, number: int | None, draft: bool, replaced: str) -> pb.Workflow:
    from dripstone.v1 import workflow_pb2 as pb

    etag = f'"{replaced.strip(chr(34))}"' if replaced else ""
    async with client() as core:
        asked = pb.GetWorkflowRequest(workflow_id=workflow_id, version=number or 0, draft_etag=etag)
        found = await core.workflows.GetWorkflow(asked)
        if draft or number or replaced or not found.published_version:
            return found
        asked.version = found.published_version
        return await core.workflows.GetWorkflow(asked)


@click.command("list", short_help="List workflows, with who is paused and why.")
@click.option("--state", type=click.Choice(["draft", "active", "paused", "archived"]), help="Only these.")
@click.option("--project", "project_id", default="", help="Only those of this project.")
@as_json_option
def list_(state: str | None, project_id: str, as_json: bool) -> None:
    """List workflows, newest first: state, version, drafts that are not published, why they are paused."""
    found = run(_listed(state, project_id))
    if as_json:
        click.echo(json.dumps([as_data(one) for one in found], indent=2))
        return
    if not found:
        click.echo(f"No workflow is {state}." if state else "There is no workflow yet.")
        return
    made = table("workflow", "title", "state", "version", "changed", "", numbers=["version"])
    for one in found:
        notes = [f"since {instant(one.pause_time)}: {one.pause_reason}"] if one.HasField("pause_time") else []
        if one.draft_unpublished and one.published_version:
            notes.append(f"draft of {instant(one.draft_time)} not published")
        state_ = word(_states(), one.state)
        number = one.published_version or ""
        row(made, one.id, one.title, state_, number, instant(one.update_time), "; ".join(notes))
    console().print(made)


def _states() -> object:
    from dripstone.v1 import workflow_pb2 as pb

    return pb.WorkflowState


async def _listed(state: str | None, project_id: str) -> list[pb.Workflow]:
    from dripstone.v1 import workflow_pb2 as pb

    asked = pb.ListWorkflowsRequest(page_size=500, project_id=project_id, filter=f"state = {state}" if state else "")
    found: list[pb.Workflow] = []
    async with client() as core:
        while True:
            page = await core.workflows.ListWorkflows(asked)
            found += page.workflows
            asked.page_token = page.next_page_token
            if not asked.page_token:
                return found


@click.command("stats", short_help="Tell how contacts go through a workflow.")
@click.argument("workflow_id", metavar="WORKFLOW")
@click.option("--version", "number", type=click.IntRange(1), help="One version; all together without it.")
@as_json_option
def stats(workflow_id: str, number: int | None, as_json: bool) -> None:
    """Tell how contacts go through WORKFLOW: who stands where, what failed, goals, and the results of splits."""
    found = run(_statistics(workflow_id, number or 0))
    if as_json:
        click.echo(json.dumps(as_data(found), indent=2))
        return
    which = f"version {number}" if number else "all versions"
    states = counts(found.states)
    click.echo(f"{workflow_id}, {which}: {found.entered_count:,} entered{f'; {states}' if states else ''}.")
    if found.goals:
        click.echo(f"Goals: {counts(found.goals)}.")
    console().print(_steps(found))
    for split in found.splits:
        console().print(_split(split))


async def _statistics(workflow_id: str, number: int) -> pb.WorkflowStatistics:
    from dripstone.v1 import workflow_pb2 as pb

    async with client() as core:
        asked = pb.GetWorkflowStatisticsRequest(workflow_id=workflow_id, version=number)
        return await core.workflows.GetWorkflowStatistics(asked)


def _steps(found: pb.WorkflowStatistics) -> Table:
    made = table("step", "kind", "here", "failed", "mean", "outcomes", "left by", numbers=["here", "failed", "mean"])
    for one in found.steps:
        failed = f"{one.failure_rate:.0%}" if one.outcome_count else ""
        outcomes = counts({**one.outcomes, "held": one.held_count, **one.messages, "with gaps": one.gaps_count})
        row(made, one.step_id, one.kind, f"{one.standing_count:,}", failed, _mean(one), outcomes, counts(one.exits))
    return made


def _mean(one: pb.StepStatistics) -> str:
    from datetime import timedelta

    return durations.render(timedelta(seconds=round(one.mean_seconds))) if one.mean_seconds >= 1 else ""


def _split(split: pb.SplitStatistics) -> Table:
    made = table(
        f"split {split.step_id}", "entered", "goal", "share", "95 % interval", "lift", numbers=["entered", "goal"]
    )
    for one in split.ways:
        share = f"{one.rate:.1%}" if one.entered_count else ""
        between = f"{one.rate_low:.1%} to {one.rate_high:.1%}" if one.entered_count else ""
        sure = ", significant" if one.significant else ""
        lift = (
            f"{one.lift:+.1%} ({one.lift_low:+.1%} to {one.lift_high:+.1%}{sure})"
            if one.lift_low or one.lift_high
            else ""
        )
        row(made, one.way, f"{one.entered_count:,}", f"{one.converted_count:,}", share, between, lift)
    return made
