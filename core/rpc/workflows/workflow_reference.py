"""Handlers of WorkflowService: what authors look up: step kinds, the schema of documents, templates to start from."""

from __future__ import annotations

from core.domain.steps import step_types
from core.domain.workflow.schema import document_schema
from core.rpc.call import Call
from core.rpc.convert import to_struct
from core.templates import templates
from dripstone.v1 import workflow_pb2 as pb


async def list_step_types(request: pb.ListStepTypesRequest, call: Call) -> pb.ListStepTypesResponse:
    """Return the step kinds with the JSON Schema of their configuration."""
    return pb.ListStepTypesResponse(
        step_types=[
            pb.StepType(
                kind=one.kind,
                summary=one.summary,
                config_schema=to_struct(one.config_schema),
                exits=one.exits,
                waits=one.waits,
            )
            for one in step_types()
        ]
    )


async def get_workflow_schema(request: pb.GetWorkflowSchemaRequest, call: Call) -> pb.GetWorkflowSchemaResponse:
    """Return the JSON Schema of workflow documents."""
    return pb.GetWorkflowSchemaResponse(schema=to_struct(document_schema()))


async def list_workflow_templates(
    request: pb.ListWorkflowTemplatesRequest, call: Call
) -> pb.ListWorkflowTemplatesResponse:
    """Return the workflows that come with the product, to start from."""
    return pb.ListWorkflowTemplatesResponse(
        templates=[
            pb.WorkflowTemplate(id=one.id, title=one.title, description=one.description, source=one.source)
            for one in templates()
        ]
    )
