"""Handlers of OrganizationService: projects, which group workflows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.empty_pb2 import Empty
from sqlalchemy import Row

from core import ids
from core.domain import names
from core.domain.errors import AlreadyExists, NotFound, ProjectNotEmpty, invalid
from core.rpc import changes
from core.rpc.call import Call
from core.rpc.convert import to_timestamp
from core.store.organizations import projects as store
from dripstone.v1 import organization_pb2 as pb


async def create_project(request: pb.CreateProjectRequest, call: Call) -> pb.Project:
    """Create a project under an id of the caller's choice, or a minted one."""
    project_id = request.project_id or ids.mint("prj", call.now)
    if not names.is_slug(project_id):
        message = "an id has lower-case letters, digits and hyphens"
        raise invalid("project_id", "NOT_A_SLUG", message, "Try spring-campaigns.")
    row = await store.create(call.tx, project_id, request.display_name, request.description)
    if row is None:
        raise AlreadyExists(kind="project", id=project_id)
    return _message(row, {})


async def get_project(request: pb.GetProjectRequest, call: Call) -> pb.Project:
    """Return one project."""
    return await _told(call, request.project_id)


async def list_projects(request: pb.ListProjectsRequest, call: Call) -> pb.ListProjectsResponse:
    """Return a page of projects."""
    rows, token = await store.listed(call.tx, request.page_size, request.page_token)
    counts = await store.workflow_counts(call.tx, [row.id for row in rows])
    return pb.ListProjectsResponse(projects=[_message(row, counts) for row in rows], next_page_token=token)


async def update_project(request: pb.UpdateProjectRequest, call: Call) -> pb.Project:
    """Change what is given; what is empty stays."""
    row = await _get(call, request.project_id, lock=True)
    changes.expect("project", row.id, given=request.etag, current=str(row.rev))
    new = {name: value for name in ("display_name", "description") if (value := getattr(request, name))}
    if new:
        await store.change(call.tx, row.id, new)
    return await _told(call, row.id)


async def delete_project(request: pb.DeleteProjectRequest, call: Call) -> Empty:
    """Delete a project. Raises ProjectNotEmpty while workflows are in it."""
    row = await _get(call, request.project_id, lock=True)
    if count := (await store.workflow_counts(call.tx, [row.id])).get(row.id, 0):
        raise ProjectNotEmpty(project_id=row.id, count=count)
    await store.remove(call.tx, row.id)
    return Empty()


async def _get(call: Call, project_id: str, *, lock: bool = False) -> Row[Any]:
    row = await store.get(call.tx, project_id, lock=lock)
    if row is None:
        raise NotFound(kind="project", id=project_id)
    return row


async def _told(call: Call, project_id: str) -> pb.Project:
    return _message(await _get(call, project_id), await store.workflow_counts(call.tx, [project_id]))


def _message(row: Row[Any], counts: Mapping[str, int]) -> pb.Project:
    return pb.Project(
        id=row.id,
        display_name=row.display_name,
        description=row.description,
        workflow_count=counts.get(row.id, 0),
        etag=str(row.rev),
        create_time=to_timestamp(row.created_at),
    )
