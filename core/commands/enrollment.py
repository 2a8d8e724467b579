"""`dripstone enrollment`: why somebody is where they are, why somebody is not there, and ending an enrollment."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from core.commands.acting import as_data, client, instant, not_done, row, table, word, yes_option
from core.commands.documents import as_json_option, console
from core.commands.telling import run

if TYPE_CHECKING:
    from dripstone.v1 import enrollment_pb2 as pb
    from dripstone.v1.client import Client


@click.group(short_help="Tell why somebody is in a workflow, or not; end an enrollment.")
def enrollment() -> None:
    """Tell why somebody is where they are in a workflow, or why they are not in it; end an enrollment.

    An enrollment is named by its id, or by the workflow and the contact: the latest one. The running core is found by
    DRIPSTONE_TARGET and DRIPSTONE_API_KEY, else by connection.json in $DRIPSTONE_DATA_DIR or ./.dripstone.
    """


def _one_or_two(_ctx: click.Context, _param: click.Parameter, names: tuple[str, ...]) -> tuple[str, ...]:
    if len(names) > 2:
        raise click.UsageError("Name an enrollment, or a workflow and a contact.")
    return names


_which = click.argument("which", nargs=-1, required=True, metavar="ENROLLMENT | WORKFLOW CONTACT", callback=_one_or_two)


@enrollment.command(short_help="Tell why somebody is where they are, and what comes next.")
@_which
@as_json_option
def explain(which: tuple[str, ...], as_json: bool) -> None:
    """Tell why somebody is where they are, what comes next and when, and the last decisions.

    CONTACT is an e-mail or an id, cnt_….
    """
    found = run(_explained(which))
    if as_json:
        click.echo(json.dumps(as_data(found), indent=2))
        return
    _tell(found)
    made = table("when", "step", "outcome", "why")
    for one in found.entries:
        outcome = f"{one.outcome} → {one.exit}" if one.exit else one.outcome
        row(made, instant(one.time), one.step_id, outcome, one.reason)
    if made.row_count:
        console().print(made)


def _tell(found: pb.ExplainEnrollmentResponse) -> None:
    from dripstone.v1 import enrollment_pb2 as pb

    one = found.enrollment
    click.echo(f"{one.id}: {one.contact_id} in {one.workflow_id}, {word(pb.EnrollmentState, one.state)}.")
    for sentence in (found.why, found.next):
        if sentence:
            click.echo(sentence)


async def _explained(which: tuple[str, ...]) -> pb.ExplainEnrollmentResponse:
    from dripstone.v1 import enrollment_pb2 as pb

    async with client() as core:
        asked = pb.ExplainEnrollmentRequest(enrollment_id=await _meant(core, which))
        return await core.enrollments.ExplainEnrollment(asked)


async def _meant(core: Client, which: tuple[str, ...]) -> str:
    """Return the enrollment that is named."""
    if len(which) == 1:
        return which[0]
    workflow_id, contact = which
    found = await core.enrollments.WhyNot(_why_not(workflow_id, contact))
    if not found.enrollment_id:
        raise click.ClickException(f"{contact} has never been in {workflow_id}. {found.why}")
    return found.enrollment_id


def _why_not(workflow_id: str, contact: str) -> pb.WhyNotRequest:
    from dripstone.v1 import enrollment_pb2 as pb

    by: dict[str, Any] = {"email": contact} if "@" in contact else {"contact_id": contact}
    return pb.WhyNotRequest(workflow_id=workflow_id, **by)


@enrollment.command("why-not", short_help="Tell why somebody is not in a workflow.")
@click.argument("workflow_id", metavar="WORKFLOW")
@click.argument("contact")
@as_json_option
def why_not(workflow_id: str, contact: str, as_json: bool) -> None:
    """Tell rule by rule why CONTACT, an e-mail or an id, is not in WORKFLOW."""
    found = run(_not_in(workflow_id, contact))
    if as_json:
        click.echo(json.dumps(as_data(found), indent=2))
        return
    click.echo(found.why)
    made = table("rule", "", "what it says")
    for one in found.reasons:
        row(made, one.rule, "holds" if one.holds else "does not", one.message)
    if made.row_count:
        console().print(made)


async def _not_in(workflow_id: str, contact: str) -> pb.WhyNotResponse:
    async with client() as core:
        return await core.enrollments.WhyNot(_why_not(workflow_id, contact))


@enrollment.command(short_help="End an enrollment where it stands.")
@_which
@click.option("--reason", default="", help="Why, for the trace.")
@yes_option
@as_json_option
def cancel(which: tuple[str, ...], reason: str, yes: bool, as_json: bool) -> None:
    """End an enrollment where it stands; nothing more is sent for it.

    CONTACT is an e-mail or an id, cnt_…. Without --yes it tells where they stand and what would have come next.
    """
    before, after = run(_cancelled(which, reason, yes))
    if as_json:
        click.echo(json.dumps({"done": yes, **as_data(after)}, indent=2))
    elif yes:
        click.echo(f"{after.id} is cancelled, at {after.step_id}.")
    else:
        _tell(before)
        click.echo("Cancelled, it would end there.")
        not_done()


async def _cancelled(
    which: tuple[str, ...], reason: str, yes: bool
) -> tuple[pb.ExplainEnrollmentResponse, pb.Enrollment]:
    from dripstone.v1 import enrollment_pb2 as pb

    async with client() as core:
        meant = await _meant(core, which)
        before = await core.enrollments.ExplainEnrollment(pb.ExplainEnrollmentRequest(enrollment_id=meant))
        asked = pb.CancelEnrollmentRequest(enrollment_id=meant, reason=reason, validate_only=not yes)
        return before, await core.enrollments.CancelEnrollment(asked)
