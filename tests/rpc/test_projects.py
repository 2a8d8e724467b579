"""Projects group workflows: they are moved, listed and counted, and none is deleted with workflows in it."""

from __future__ import annotations

import pytest

from dripstone.v1 import organization_pb2 as pb
from dripstone.v1 import workflow_pb2
from tests.rpc.control_calls import refused
from tests.running import RunningCore

pytestmark = pytest.mark.anyio
SOURCE = "title: F\nsteps: [{id: done, kind: exit, reason: done}]"


async def test_workflows_move_between_projects(core: RunningCore) -> None:
    async with core.client() as client:
        spring = await client.organization.CreateProject(
            pb.CreateProjectRequest(project_id="spring", display_name="Spring", description="All of it")
        )
        minted = await client.organization.CreateProject(pb.CreateProjectRequest(display_name="Other"))
        assert minted.id.startswith("prj_")
        for workflow_id, project_id in (("one", "spring"), ("two", "")):
            await client.workflows.CreateWorkflow(
                workflow_pb2.CreateWorkflowRequest(workflow_id=workflow_id, source=SOURCE, project_id=project_id)
            )
        moved = await client.workflows.MoveWorkflow(
            workflow_pb2.MoveWorkflowRequest(workflow_id="two", project_id="spring")
        )
        assert moved.project_id == "spring"
        listed = await client.workflows.ListWorkflows(workflow_pb2.ListWorkflowsRequest(project_id="spring"))
        assert {one.id for one in listed.workflows} == {"one", "two"}
        projects = (await client.organization.ListProjects(pb.ListProjectsRequest())).projects
        assert {one.id: one.workflow_count for one in projects} == {"spring": 2, minted.id: 0}
        with refused("PROJECT_NOT_EMPTY"):
            await client.organization.DeleteProject(pb.DeleteProjectRequest(project_id="spring"))
        for workflow_id in ("one", "two"):
            await client.workflows.MoveWorkflow(workflow_pb2.MoveWorkflowRequest(workflow_id=workflow_id))
        changed = await client.organization.UpdateProject(
            pb.UpdateProjectRequest(project_id="spring", description="Some of it", etag=spring.etag)
        )
        assert (changed.display_name, changed.description) == ("Spring", "Some of it")
        with refused("ETAG_MISMATCH"):
            await client.organization.UpdateProject(
                pb.UpdateProjectRequest(project_id="spring", display_name="S", etag=spring.etag)
            )
        await client.organization.DeleteProject(pb.DeleteProjectRequest(project_id="spring"))
        with refused("NOT_FOUND"):
            await client.organization.GetProject(pb.GetProjectRequest(project_id="spring"))
        for unknown in (
            workflow_pb2.MoveWorkflowRequest(workflow_id="one", project_id="spring"),
            workflow_pb2.MoveWorkflowRequest(workflow_id="none"),
        ):
            with refused("NOT_FOUND"):
                await client.workflows.MoveWorkflow(unknown)
        with refused("NOT_FOUND"):
            await client.workflows.CreateWorkflow(
                workflow_pb2.CreateWorkflowRequest(workflow_id="three", source=SOURCE, project_id="spring")
            )
        with refused("INVALID_ARGUMENT"):
            await client.organization.CreateProject(pb.CreateProjectRequest(project_id="No Slug", display_name="x"))
