"""The running core as the commands on workflow files see it: what is published there, what it finds wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC
from typing import TYPE_CHECKING, Any

import click
import grpc

from core.commands.acting import client as _client
from core.commands.overwriting import There, Written
from core.domain.errors import Violation
from core.domain.frozen import frozen
from core.domain.workflow.document import parse_source

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp

    from dripstone.v1.client import Client
    from dripstone.v1.workflow_pb2 import Problem, Workflow


@frozen
class Checked:
    """What is to be said of a file."""

    problems: tuple[Violation, ...]
    warnings: tuple[Violation, ...]
    """What may not do as it is meant."""


@frozen
class Known:
    """A workflow on the server."""

    document: dict[str, Any]
    version: int
    """0 for a draft."""
    label: str
    etag: str
    there: There
    me: str
    """Who asks: the principal of the key."""


async def checked(sources: list[str]) -> list[Checked]:
    """Return what the core finds of each text."""
    from dripstone.v1 import workflow_pb2 as pb

    found = []
    async with _client() as client:
        for source in sources:
            answer = await client.workflows.ValidateWorkflow(pb.ValidateWorkflowRequest(source=source))
            found.append(Checked(_violations(answer.problems), _violations(answer.warnings)))
    return found


def _violations(told: Iterable[Problem]) -> tuple[Violation, ...]:
    return tuple(Violation(one.path, one.reason, one.message, one.hint) for one in told)


async def fetched(workflow_id: str, draft: bool = False) -> Known | None:
    """Return the newest published version, or the draft where there is none; None when there is no such workflow."""
    from dripstone.v1 import organization_pb2
    from dripstone.v1 import workflow_pb2 as pb

    async with _client() as client:
        try:
            found = await client.workflows.GetWorkflow(pb.GetWorkflowRequest(workflow_id=workflow_id))
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return None
            raise
        number = found.published_version
        published = None
        if number:
            asked = pb.GetWorkflowRequest(workflow_id=workflow_id, version=number)
            published = await client.workflows.GetWorkflow(asked)
        me = await client.organization.GetCaller(organization_pb2.GetCallerRequest())
    there = There(
        version=number,
        published=_written(published, published.publish_author, published.publish_time) if published else None,
        draft=_written(found, found.draft_author, found.draft_time),
        draft_unpublished=found.draft_unpublished,
    )
    if there.published is None or draft:
        document, number, label = there.draft.document, 0, f"the draft of {workflow_id}"
    else:
        document, label = there.published.document, f"{workflow_id} version {number}"
    return Known(dict(document), number, label, found.etag, there, me.principal_id)


def _written(workflow: Workflow, author: str, time: Timestamp) -> Written:
    return Written(parse_source(workflow.source), author, time.ToJsonString(), time.ToDatetime(UTC))


async def published(workflow_id: str, source: str, known: Known | None) -> int:
    """Publish. Raises ClickException, with who and when, if somebody changed the workflow since it was looked at."""
    try:
        return await _published(workflow_id, source, known)
    except grpc.aio.AioRpcError as error:
        if error.code() not in (grpc.StatusCode.ABORTED, grpc.StatusCode.ALREADY_EXISTS):
            raise
        now = await fetched(workflow_id)
        if now is None:
            raise
        there = now.there
        newest = there.draft if there.draft_unpublished or there.published is None else there.published
        names = await named([newest.author])
        raise click.ClickException(
            f"{workflow_id} has changed while you looked, and nothing is published. {now.label} is the newest; last "
            f"written {whose(newest, names)}. Say it again to see what differs."
        ) from error


async def _published(workflow_id: str, source: str, known: Known | None) -> int:
    from dripstone.v1 import workflow_pb2 as pb

    async with _client() as client:
        if known is None:
            asked = pb.CreateWorkflowRequest(workflow_id=workflow_id, source=source, publish=True)
            return (await client.workflows.CreateWorkflow(asked)).published_version
        updated = await client.workflows.UpdateWorkflow(
            pb.UpdateWorkflowRequest(workflow_id=workflow_id, source=source, etag=known.etag)
        )
        answer = await client.workflows.PublishWorkflow(
            pb.PublishWorkflowRequest(workflow_id=workflow_id, etag=updated.etag)
        )
        return answer.published_version


def whose(one: Written, names: Mapping[str, str]) -> str:
    """Return who wrote something and when, in words."""
    return f"by {names[one.author]} of {one.at:%Y-%m-%d %H:%M} UTC"


async def named(principal_ids: list[str]) -> dict[str, str]:
    """Return what principals are called with their ids; the id alone where this key may not read names."""
    async with _client() as client:
        return {one: await _named(client, one) for one in principal_ids}


async def _named(client: Client, principal_id: str) -> str:
    from dripstone.v1 import organization_pb2 as pb

    name = ""
    try:
        if principal_id.startswith("mem_"):
            name = (await client.organization.GetMember(pb.GetMemberRequest(member_id=principal_id))).display_name
        elif principal_id.startswith("key_"):
            keys = (await client.organization.ListApiKeys(pb.ListApiKeysRequest(page_size=500))).api_keys
            name = next((one.display_name for one in keys if one.id == principal_id), "")
    except grpc.aio.AioRpcError as error:
        if error.code() not in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.NOT_FOUND):
            raise
    return f"{name} ({principal_id})" if name else principal_id or "somebody"
