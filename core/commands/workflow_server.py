"""The running core as the commands on workflow files see it: what is published there, what it finds wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc

from core.domain.errors import Violation
from core.domain.workflow.document import parse_source

if TYPE_CHECKING:
    from dripstone.v1.client import Client


def _client() -> Client:
    from dripstone.v1.client import from_environment

    return from_environment()


@dataclass(frozen=True, slots=True)
class Known:
    """A workflow on the server."""

    document: dict[str, Any]
    version: int
    """0 for a draft."""
    label: str
    etag: str


async def problems(sources: list[str]) -> list[tuple[Violation, ...]]:
    """Return what the core finds wrong with each text."""
    from dripstone.v1 import workflow_pb2 as pb

    found = []
    async with _client() as client:
        for source in sources:
            answer = await client.workflows.ValidateWorkflow(pb.ValidateWorkflowRequest(source=source))
            found.append(tuple(Violation(one.path, one.reason, one.message, one.hint) for one in answer.problems))
    return found


async def fetched(workflow_id: str, draft: bool = False) -> Known | None:
    """Return the newest published version, or the draft where there is none; None when there is no such workflow."""
    from dripstone.v1 import workflow_pb2 as pb

    async with _client() as client:
        try:
            found = await client.workflows.GetWorkflow(pb.GetWorkflowRequest(workflow_id=workflow_id))
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return None
            raise
        number = 0 if draft else found.published_version
        if number:
            asked = pb.GetWorkflowRequest(workflow_id=workflow_id, version=number)
            source = (await client.workflows.GetWorkflow(asked)).source
        else:
            source = found.source
    label = f"{workflow_id} version {number}" if number else f"the draft of {workflow_id}"
    return Known(parse_source(source), number, label, found.etag)


async def published(workflow_id: str, source: str, known: Known | None) -> int:
    """Publish, unless somebody else changed the workflow since it was looked at."""
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
