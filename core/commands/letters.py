"""`dripstone letters`: what failed for good, and letting it be tried again."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

from core.commands.acting import as_data, client, instant, not_done, row, table, word, yes_option
from core.commands.documents import as_json_option, console, counted
from core.commands.telling import run

if TYPE_CHECKING:
    from dripstone.v1 import enrollment_pb2 as pb

_FILTER = "state, step_id, failure, contact_id, enrollment_id"
_workflow_option = click.option("--workflow", "workflow_id", default="", help="Only those of this workflow.")
_filter_option = click.option("--filter", "wanted", default="", help=f"Only these: AIP-160 over {_FILTER}.")


@click.group(short_help="List what failed for good, and let it be tried again.")
def letters() -> None:
    """List what failed for good, the dead letters, and let it be tried again.

    The running core is found by DRIPSTONE_TARGET and DRIPSTONE_API_KEY, else by connection.json in $DRIPSTONE_DATA_DIR
    or ./.dripstone.
    """


@letters.command("list", short_help="List what failed for good, newest first.")
@_workflow_option
@_filter_option
@click.option("--all", "every", is_flag=True, help="Also those that were redriven or passed by `on_error`.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="At most so many.")
@as_json_option
def list_(workflow_id: str, wanted: str, every: bool, limit: int, as_json: bool) -> None:
    """List what failed for good, newest first: the letters that are open."""
    found, more = run(_listed(workflow_id, wanted if every else _open(wanted), limit))
    if as_json:
        click.echo(json.dumps([as_data(one) for one in found], indent=2))
        return
    if not found:
        click.echo("There are no dead letters." if every else "There are no open dead letters.")
        return
    made = table("letter", "workflow", "step", "contact", "state", "failed", "what", "why")
    for one in found:
        when = instant(one.create_time)
        row(made, one.id, one.workflow_id, one.step_id, one.contact_id, one.state, when, one.failure, one.reason)
    console().print(made)
    if more:
        click.echo(f"There are more than {limit:,}: --limit, or a --filter.", err=True)


def _open(wanted: str) -> str:
    return f"({wanted}) AND state = open" if wanted else "state = open"


async def _listed(workflow_id: str, wanted: str, limit: int) -> tuple[list[pb.DeadLetter], bool]:
    from dripstone.v1 import enrollment_pb2 as pb

    asked = pb.ListDeadLettersRequest(workflow_id=workflow_id, filter=wanted, page_size=min(limit, 500))
    found: list[pb.DeadLetter] = []
    async with client() as core:
        while True:
            page = await core.enrollments.ListDeadLetters(asked)
            found += page.dead_letters
            asked.page_token = page.next_page_token
            if not asked.page_token or len(found) >= limit:
                return found[:limit], bool(asked.page_token) or len(found) > limit


@letters.command(short_help="Try again what failed.")
@click.argument("letter_ids", nargs=-1, metavar="[LETTER...]")
@_workflow_option
@_filter_option
@yes_option
@as_json_option
def redrive(letter_ids: tuple[str, ...], workflow_id: str, wanted: str, yes: bool, as_json: bool) -> None:
    """Try again what failed: single letters, or all open ones of a workflow or a filter, the oldest 1,000 at once.

    Without --yes it tells what would come of it. With it, ends with 1 when something failed again or was left out.
    """
    if bool(letter_ids) == bool(workflow_id or wanted):
        raise click.UsageError("Say which: letters by id, or --workflow and --filter.")
    found = run(_redriven(letter_ids, workflow_id, wanted, yes))
    again = [one for one in found.results if one.failure or one.new_dead_letter_id]
    left = [one for one in found.results if not one.redriven]
    if as_json:
        click.echo(json.dumps({"done": yes, **as_data(found)}, indent=2))
    else:
        _show(found, yes)
        went = found.redriven_count - len(again)
        parts = [counted(went, "letter") + (" went on" if yes else " would go on")]
        parts += [f"{len(again):,} failed again" if yes else f"{len(again):,} would fail again"] if again else []
        parts += [f"{len(left):,} left out"] if left else []
        click.echo("; ".join(parts) + ".")
        if found.remaining_count and yes:
            click.echo(f"Still open: {counted(found.remaining_count, 'letter')}.")
        if not yes:
            not_done()
    if yes and (again or left):
        sys.exit(1)


async def _redriven(
    letter_ids: tuple[str, ...], workflow_id: str, wanted: str, yes: bool
) -> pb.RedriveDeadLettersResponse:
    from dripstone.v1 import enrollment_pb2 as pb

    asked = pb.RedriveDeadLettersRequest(
        dead_letter_ids=letter_ids, workflow_id=workflow_id, filter=wanted, validate_only=not yes
    )
    async with client() as core:
        return await core.enrollments.RedriveDeadLetters(asked)


def _show(found: pb.RedriveDeadLettersResponse, yes: bool) -> None:
    from dripstone.v1 import enrollment_pb2 as pb

    made = table("letter", "enrollment", "then", "why")
    for one in found.results:
        then = word(pb.EnrollmentState, one.state) if one.redriven else "left out"
        why = one.failure or one.reason
        new = f" ({one.new_dead_letter_id})" if one.new_dead_letter_id and yes else ""
        row(made, one.dead_letter_id, one.enrollment_id, then, f"{why}{new}")
    if made.row_count:
        console().print(made)
