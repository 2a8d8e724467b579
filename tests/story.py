"""The story told through the API, for tests that need an organization with something in every table."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from core.demo.setting import document
from core.fakes.hubspot import PRIVATE_TOKEN, HubSpotFake
from core.fakes.serving import serving
from core.store.events import refusing
from core.store.events.refusing import Said
from core.store.merging import duplicates
from core.store.messages import consent
from core.store.workflows import statistics
from dripstone.v1 import (
    agent_pb2,
    agent_template_pb2,
    approval_pb2,
    connection_pb2,
    duplicate_pb2,
    enrollment_pb2,
    event_pb2,
    organization_pb2,
    policy_pb2,
    qualification_pb2,
    record_pb2,
    record_type_pb2,
    routing_pb2,
    system_pb2,
    transfer_pb2,
    webhook_pb2,
    workflow_pb2,
)
from dripstone.v1.client import Client
from tests.running import RunningCore

WORKFLOW = """
title: Everything at once
triggers:
  - event: trial.started
steps:
  - {id: tell, kind: webhook, event_type: story.told, data: {email: "{{ contact.email }}"}}
  - {id: mark, kind: update, set: {lifecycle_stage: engaged}}
  - id: agree
    kind: approval
    title: "Go on with {{ contact.email }}?"
    timeout: 2d
    exits: {rejected: done, timeout: done}
  - {id: reply, kind: wait_for_event, event: reply.received, timeout: 3d, exits: {timeout: done}}
  - {id: done, kind: exit, reason: story told}
"""


CARE = """
title: Care
entry: {when: contact.job_title != "Nobody"}
exit_on:
  - {name: left, event: contact.left}
triggers:
  - schedule: {cron: "0 9 1 1 *"}
    audience: {list: patient}
steps:
  - {id: listed, kind: list, add: [patient]}
  - {id: hello, kind: message, channel: dm, to: "@{{ contact.email }}", text: "Hello {{ contact.first_name }}"}
  - {id: broken, kind: update, set: {employees: "{{ contact.job_title }}"}, on_error: continue}
  - id: think
    kind: agent_task
    title: "What to say to {{ contact.email }}?"
    instructions: Say it in one line.
    output_schema: {type: object, properties: {line: {type: string}}, required: [line]}
    timeout: 20d
"""


@dataclass(frozen=True, slots=True)
class Told:
    """Ids of what the story left behind."""

    workflow_id: str
    agent_id: str
    endpoint_id: str
    source_id: str
    model_id: str
    member_id: str
    enrollment_id: str
    contact_id: str
    lead_id: str
    execution_id: str
    approval_id: str
    plan_id: str
    delivery_id: str
    api_key_id: str
    task_id: str
    dead_letter_id: str
    list_name: str
    replay_id: str
    connection_id: str
    suppression_id: str
    quarantined_id: str
    sync_id: str
    project_id: str


async def tell(core: RunningCore, receiver_url: str, marker: str) -> Told:
    """Live through everything once; names and e-mails carry the marker."""
    async with core.client() as client:
        source = await client.events.CreateSource(
            event_pb2.CreateSourceRequest(
                source_id=f"{marker}-web", display_name=marker, kind=event_pb2.SOURCE_KIND_WEBHOOK, request_id="story-1"
            )
        )
        members = [
            await client.organization.CreateMember(
                organization_pb2.CreateMemberRequest(
                    email=f"{name}@example.com", display_name=f"{name} {marker}", role=organization_pb2.ROLE_EDITOR
                )
            )
            for name in ("ada", "bob")
        ]
        project = await client.organization.CreateProject(
            organization_pb2.CreateProjectRequest(project_id=f"{marker}-project", display_name=marker)
        )
        await client.organization.SetIdentityProvider(
            organization_pb2.SetIdentityProviderRequest(
                identity_provider={"issuer": f"https://{marker}.example.com", "audience": marker}
            )
        )
        await client.qualification.PublishScoringModel(
            qualification_pb2.PublishScoringModelRequest(model_id="default", source=document("default-model.yaml"))
        )
        workflow = await client.workflows.CreateWorkflow(
            workflow_pb2.CreateWorkflowRequest(
                workflow_id=f"{marker}-flow", source=WORKFLOW, publish=True, project_id=project.id
            )
        )
        await client.workflows.UpdateWorkflow(
            workflow_pb2.UpdateWorkflowRequest(workflow_id=workflow.id, source=f"{WORKFLOW}# once more")
        )
        endpoint = await client.webhooks.CreateEndpoint(webhook_pb2.CreateEndpointRequest(url=receiver_url))
        await client.webhooks.CreateEventType(
            webhook_pb2.CreateEventTypeRequest(name="story.told", schema={"type": "object", "required": ["email"]})
        )
        template = agent_template_pb2.AgentTemplate(id=f"{marker}-template", display_name=marker)
        await client.agents.PutAgentTemplate(agent_template_pb2.PutAgentTemplateRequest(template=template))
        agent = await client.agents.CreateAgent(
            agent_pb2.CreateAgentRequest(
                agent_id=f"{marker}-agent", display_name=marker, workflow_id=workflow.id, template_id=template.id
            )
        )
        await client.events.IngestEvent(
            event_pb2.IngestEventRequest(
                event=event_pb2.EventInput(
                    event_type="lead",
                    event_name="demo.requested",
                    source_id=source.id,
                    message_id="m-1",
                    fields={
                        "email": f"{marker}@example.com",
                        "job_title": "Head of Sales",
                        "employees": 90,
                        "country": "DE",
                    },
                )
            )
        )
        await core.settle()
        plan = await client.qualification.QualifyLead(
            qualification_pb2.QualifyLeadRequest(email=f"{marker}@example.com")
        )
        waiting = await client.qualification.QualifyLead(
            qualification_pb2.QualifyLeadRequest(plan_id=plan.plan_id, mode=qualification_pb2.QUALIFY_MODE_COMMIT)
        )
        async with core.client(core.approver_api_key) as person:
            await person.approvals.DecideApproval(
                approval_pb2.DecideApprovalRequest(
                    approval_id=waiting.approval_id, decision=approval_pb2.APPROVAL_DECISION_APPROVE
                )
            )
        await client.qualification.QualifyLead(
            qualification_pb2.QualifyLeadRequest(plan_id=plan.plan_id, mode=qualification_pb2.QUALIFY_MODE_COMMIT)
        )
        execution = await client.agents.Execute(
            agent_pb2.ExecuteRequest(agent_id=agent.id, type="workflow", input={"email": f"{marker}@example.com"})
        )
        await client.agents.ReportCost(
            agent_template_pb2.ReportCostRequest(execution_id=execution.id, model=marker, input_tokens=12, cost=0.5)
        )
        enrolled = await client.enrollments.EnrollContacts(
            enrollment_pb2.EnrollContactsRequest(
                workflow_id=workflow.id, contacts=[{"email": f"{marker}@example.com"}], request_id="story-2"
            )
        )
        await client.records.SetConsent(
            record_pb2.SetConsentRequest(
                contact_id=enrolled.results[0].contact_id, purpose="news", reason=marker, granted=False
            )
        )
        async with core.core.database.system() as tx:
            await statistics.fold(tx, kept=0)
            await consent.secrets(tx, [core.organization.org_id])
            bounced = Said("recipient_server", f"message:{marker}", address=f"gone-{marker}@example.com")
            await refusing.bounce(tx.within(core.organization.org_id), bounced, hard=True)
        (suppression,) = (await client.records.ListSuppressions(record_pb2.ListSuppressionsRequest())).suppressions
        await client.workflows.CreateWorkflow(
            workflow_pb2.CreateWorkflowRequest(
                workflow_id=f"{marker}-care", source=CARE.replace("patient", f"{marker}-patient"), publish=True
            )
        )
        for job_title in ("Head of Sales", "Nobody"):
            contact = {"email": f"{job_title[0].lower()}-{marker}@example.com"}
            request = enrollment_pb2.EnrollContactsRequest(workflow_id=f"{marker}-care", contacts=[contact])
            request.contacts[0].fields.update({"job_title": job_title})
            await client.enrollments.EnrollContacts(request)
        await _merge_somebody(client, source.id, marker)
        await _define(client, marker)
        sync_id = await _link(core, client, marker)
        core.clock.advance(timedelta(minutes=2))
        await core.settle()
        (task,) = (await client.agents.ListAgentTasks(agent_pb2.ListAgentTasksRequest())).tasks
        (letter,) = (await client.enrollments.ListDeadLetters(enrollment_pb2.ListDeadLettersRequest())).dead_letters
        deliveries = await client.webhooks.ListDeliveries(webhook_pb2.ListDeliveriesRequest())
        replay = await client.webhooks.CreateReplay(
            webhook_pb2.CreateReplayRequest(endpoint_id=endpoint.endpoint.id, states=["delivered"])
        )
        await client.webhooks.ControlReplay(
            webhook_pb2.ControlReplayRequest(replay_id=replay.id, action=webhook_pb2.REPLAY_ACTION_PAUSE)
        )
        connection = await client.connections.CreateConnection(
            connection_pb2.CreateConnectionRequest(
                connection=connection_pb2.Connection(
                    display_name=marker, channel="sms", call={"url": receiver_url, "body": '{"to": "{{ message.to }}"}'}
                )
            )
        )
        inbound = await client.events.CreateSource(
            event_pb2.CreateSourceRequest(
                source_id=f"{marker}-inbound", display_name=marker, kind=event_pb2.SOURCE_KIND_INBOUND
            )
        )
        async with core.http() as http:
            misfit = (await http.post(inbound.inbound_path, json={"says": marker})).json()
        await _take_in_and_erase(core, client, marker)
        await _give_away(client, marker, members[0].id, plan.lead_id)
        await _limit(client, marker)
        keys = await client.organization.ListApiKeys(organization_pb2.ListApiKeysRequest())
        await core.settle()  # nothing of it is left to do while others are told of
        await core.core.outward.sealer.turn()
        return Told(
            workflow_id=workflow.id,
            agent_id=agent.id,
            endpoint_id=endpoint.endpoint.id,
            source_id=source.id,
            model_id="default",
            member_id=members[0].id,
            enrollment_id=enrolled.enrollment_ids[0],
            contact_id=enrolled.results[0].contact_id,
            lead_id=plan.lead_id,
            execution_id=execution.id,
            approval_id=waiting.approval_id,
            plan_id=plan.plan_id,
            delivery_id=deliveries.deliveries[0].id,
            api_key_id=keys.api_keys[0].id,
            task_id=task.id,
            dead_letter_id=letter.id,
            list_name=f"{marker}-patient",
            replay_id=replay.id,
            quarantined_id=misfit["quarantined_id"],
            project_id=project.id,
            connection_id=connection.id,
            suppression_id=suppression.id,
            sync_id=sync_id,
        )


async def _define(client: Client, marker: str) -> None:
    """Leave a type of the organization's own with a unique field, a pipeline, and a record of each."""
    await client.records.DefineRecordType(
        record_type_pb2.DefineRecordTypeRequest(type="subscription", display_name=marker)
    )
    await client.records.DefineField(
        record_type_pb2.DefineFieldRequest(
            type="subscription", field={"name": "number", "kind": record_type_pb2.FIELD_KIND_STRING, "unique": True}
        )
    )
    stages = [{"id": "new", "display_name": marker, "probability": 0.5}]
    await client.records.PutPipeline(
        record_type_pb2.PutPipelineRequest(pipeline={"id": "sales", "display_name": marker, "stages": stages})
    )
    for record_type, fields in (
        ("subscription", {"name": marker, "custom": {"number": "S-1"}}),
        ("opportunity", {"name": marker, "amount": "12.50 EUR"}),
    ):
        request = record_pb2.UpsertRecordRequest(type=record_type)
        request.fields.update(fields)
        await client.records.UpsertRecord(request)


async def _take_in_and_erase(core: RunningCore, client: Client, marker: str) -> None:
    """Leave an import, a pair of duplicates and somebody who was erased."""
    lines = [f"{name}-{marker}@gmail.com" for name in ("al.an", "ala.n", "gone")]
    made = await client.records.CreateImport(
        transfer_pb2.CreateImportRequest(
            format=transfer_pb2.IMPORT_FORMAT_CSV,
            content="\n".join(["email", *lines]).encode(),
            type="contact",
            trigger_behaviour=transfer_pb2.TRIGGER_BEHAVIOUR_NONE,
            start=True,
        )
    )
    while await core.core.outward.importer.turn():
        pass
    rows = (await client.records.ListImportRows(transfer_pb2.ListImportRowsRequest(import_id=made.id))).rows
    await client.records.EraseContact(record_pb2.EraseContactRequest(record_id=rows[2].record_id, reason=marker))
    await client.records.ListDuplicates(
        duplicate_pb2.ListDuplicatesRequest(type="contact", record_id=rows[0].record_id)
    )
    async with core.core.database.write(core.organization.org_id) as tx:
        await duplicates.look_further(tx)


async def _merge_somebody(client: Client, source_id: str, marker: str) -> None:
    """Leave a conflict of identity and a merge."""
    for person, email in (("one", "one"), ("two", "two"), ("two", "one")):
        event = event_pb2.EventInput(
            event_type="action", event_name="seen", source_id=source_id, person_id=f"{marker}-{person}"
        )
        event.fields.update({"email": f"{email}-{marker}@example.com"})
        await client.events.IngestEvent(event_pb2.IngestEventRequest(event=event))
    (conflict,) = (await client.records.ListIdentityConflicts(record_pb2.ListIdentityConflictsRequest())).conflicts
    await client.records.ResolveIdentityConflict(
        record_pb2.ResolveIdentityConflictRequest(
            conflict_id=conflict.id, resolution=record_pb2.CONFLICT_RESOLUTION_MERGE
        )
    )


async def _limit(client: Client, marker: str) -> None:
    """Leave a policy and a budget, both of which let everything pass, and a use of the budget."""
    policy = policy_pb2.Policy(
        id=f"{marker}-policy", description=marker, effect=policy_pb2.POLICY_EFFECT_ALLOW, when="action.count > 1000000"
    )
    await client.approvals.PutPolicy(policy_pb2.PutPolicyRequest(policy=policy))
    budget = policy_pb2.Budget(principal_id="service", metric="writes", daily_limit=1_000_000)
    await client.approvals.SetBudget(policy_pb2.SetBudgetRequest(budget=budget))
    await client.organization.UpdateOrganization(organization_pb2.UpdateOrganizationRequest(timezone="Europe/Berlin"))


async def _give_away(client: Client, marker: str, member_id: str, lead_id: str) -> None:
    """Leave a routing, a turn of it, and somebody's availability."""
    await client.organization.SetMemberAvailability(
        organization_pb2.SetMemberAvailabilityRequest(member_id=member_id, availability={"skills": [marker]})
    )
    source = "title: Routing\ncatch_all: {members: [ada@example.com]}"
    await client.qualification.PublishRouting(
        routing_pb2.PublishRoutingRequest(routing_id=f"{marker}-routing", source=source)
    )
    await client.qualification.AssignOwner(
        routing_pb2.AssignOwnerRequest(lead_id=lead_id, routing_id=f"{marker}-routing")
    )


async def _link(core: RunningCore, client: Client, marker: str) -> str:
    """Leave a sync with an outside system, and return its id."""
    fake = HubSpotFake(core.clock)
    fake.seed("contacts", [{"email": f"linked-{marker}@example.com"}])
    mapping = {"type": "contact", "object": "contacts", "fields": [{"field": "email", "property": "email"}]}
    mapping["fields"][0]["direction"] = system_pb2.SYNC_DIRECTION_PULL  # type: ignore[index]
    async with serving(fake.application()) as url:
        made = await client.connections.CreateConnection(
            connection_pb2.CreateConnectionRequest(
                connection=connection_pb2.Connection(
                    display_name=marker,
                    kind="system",
                    system={"system": "hubspot", "base_url": url, "mappings": [mapping]},  # type: ignore[list-item]
                )
            )
        )
        await client.connections.SetCredentials(
            system_pb2.SetCredentialsRequest(connection_id=made.id, credentials={"token": PRIVATE_TOKEN})
        )
        sync = await client.connections.StartSync(
            system_pb2.StartSyncRequest(connection_id=made.id, direction=system_pb2.SYNC_DIRECTION_PULL)
        )
        await core.settle()
        return sync.id
