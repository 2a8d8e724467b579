"""What the story needs to be there: a source, two salespeople, a scoring model, a workflow and an endpoint."""

from __future__ import annotations

from importlib import resources

import grpc
from google.protobuf.duration_pb2 import Duration

from dripstone.v1 import event_pb2, organization_pb2, qualification_pb2, webhook_pb2, workflow_pb2
from dripstone.v1.client import Client

SOURCE = "website"
WORKFLOW = "inbound-nurture"
MODEL = "default"
DESCRIPTION = "The story's receiver"
_PEOPLE = (("ada@example.com", "Ada Sales"), ("bob@example.com", "Bob Sales"))


def document(name: str) -> str:
    """Return a document that ships with the story."""
    return resources.files("core.demo").joinpath(name).read_text()


async def prepare(client: Client, receiver_url: str) -> str:
    """Make what is missing, point the story's endpoint at the receiver and return its signing secret."""
    await _unless_there(
        client.events.CreateSource(
            event_pb2.CreateSourceRequest(source_id=SOURCE, display_name="Website", kind=event_pb2.SOURCE_KIND_WEBHOOK)
        )
    )
    for email, name in _PEOPLE:
        await _unless_there(
            client.organization.CreateMember(
                organization_pb2.CreateMemberRequest(email=email, display_name=name, role=organization_pb2.ROLE_EDITOR)
            )
        )
    known = await client.qualification.ListScoringModels(qualification_pb2.ListScoringModelsRequest())
    if MODEL not in {model.id for model in known.scoring_models}:
        await client.qualification.PublishScoringModel(
            qualification_pb2.PublishScoringModelRequest(model_id=MODEL, source=document("default-model.yaml"))
        )
    await _unless_there(
        client.workflows.CreateWorkflow(
            workflow_pb2.CreateWorkflowRequest(
                workflow_id=WORKFLOW, source=document("inbound-nurture.yaml"), publish=True
            )
        )
    )
    return await _endpoint(client, receiver_url)


async def _endpoint(client: Client, url: str) -> str:
    """Return the secret of the story's endpoint; an earlier run's is pointed here, with all that waits for it."""
    listed = await client.webhooks.ListEndpoints(webhook_pb2.ListEndpointsRequest(page_size=500))
    for endpoint in listed.endpoints:
        if endpoint.description == DESCRIPTION:
            changed = webhook_pb2.Endpoint(id=endpoint.id, url=url, state=webhook_pb2.ENDPOINT_STATE_ACTIVE)
            await client.webhooks.UpdateEndpoint(webhook_pb2.UpdateEndpointRequest(endpoint=changed))
            rotated = await client.webhooks.RotateSecret(
                webhook_pb2.RotateSecretRequest(endpoint_id=endpoint.id, grace_period=Duration())
            )
            return rotated.secret
    made = await client.webhooks.CreateEndpoint(
        webhook_pb2.CreateEndpointRequest(
            url=url,
            description=DESCRIPTION,
            event_types=["nurture.hot_lead", "lead.qualified", "enrollment.created"],
            retry_preset=webhook_pb2.RETRY_PRESET_QUICK,
        )
    )
    return made.secret


async def _unless_there(call: object) -> None:
    try:
        await call  # type: ignore[misc]
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.ALREADY_EXISTS:
            raise
