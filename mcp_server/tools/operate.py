"""The operate toolset: the four tools that the product exists for, each with a preview before it acts."""

from __future__ import annotations

from typing import Annotated, Any

from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import Field

from dripstone.v1 import agent_pb2, enrollment_pb2, record_pb2
from dripstone.v1.client import Client
from dripstone.v1.enrollment_pb2 import EnrollOutcome
from mcp_server.progress import Progress
from mcp_server.refusals import Refusal, Refused
from mcp_server.tool import IdempotencyKey, IfVersion, Mode, Reason, Toolset, committing, settled
from mcp_server.tools import foreseeing, qualification
from mcp_server.tools.enrollments import SHOWN, Contact, Enrolled, Enrollment, after_enroll, left_out_of, to_input
from mcp_server.tools.executions import Execution, contact_in, execution_state
from mcp_server.tools.qualification import Asked, Claim, Qualification
from mcp_server.tools.records import Change, Update, undo_of
from mcp_server.values import clip, commit_of, fit, from_struct, from_value, invocation, to_struct, word

OPERATE = Toolset("operate")


@OPERATE.tool("qualify-lead", "Qualify a lead", "QualificationService.QualifyLead")
async def qualify_lead(
    client: Client,
    lead_id: Annotated[str, Field(description="lead_…, or cnt_… for the contact's newest lead; else give email")] = "",
    email: Annotated[str, Field(max_length=320, description="finds or makes the contact and its lead")] = "",
    fields: Annotated[dict[str, Any], Field(description="only with email: facts to set on the contact first")] = {},  # noqa: B006  never changed
    model_id: Annotated[str, Field(description="scoring model; empty for default")] = "",
    plan_id: Annotated[str, Field(description="with commit: apply exactly this previewed plan")] = "",
    as_of: Annotated[str, Field(description="ISO 8601 with zone: later facts are not read")] = "",
    evidence: Annotated[
        list[Claim], Field(max_length=20, description="what you found out, kept apart from fields")
    ] = [],  # noqa: B006  never changed
    if_version: IfVersion = "",
    reason: Reason = "",
    mode: Mode = "preview",
    idempotency_key: IdempotencyKey = "",
) -> Qualification:
    """Score a lead and decide with exact reasons: qualified, nurture, disqualified, needs_info or needs_approval.

    Preview keeps a plan and changes no record; commit with its plan_id applies exactly that plan or fails PLAN_STALE.
    """
    if not (lead_id or email or plan_id):
        raise Refused(
            Refusal(
                reason="INVALID_ARGUMENT",
                message="lead_id or email is required.",
                field="lead_id",
                hint="Find the lead first, or give the person's e-mail.",
                next=invocation("find-records", type="lead"),
            )
        )
    key = committing(mode, idempotency_key)
    asked = Asked(lead_id, email, fields, model_id, plan_id, _instant(as_of), evidence, if_version, mode, key)
    answer, replayed = await settled(client.qualification.QualifyLead(asked.request()))
    return qualification.answer(answer, mode, replayed, email, key)


@OPERATE.tool("enroll", "Enroll contacts", "EnrollmentService.EnrollContacts", open_world=True)
async def enroll(
    client: Client,
    progress: Progress,
    workflow_id: Annotated[str, Field(description="from list-workflows")],
    contacts: Annotated[list[Contact], Field(min_length=1, max_length=1000)],
    timezone: Annotated[str, Field(description="IANA, for new contacts without one")] = "",
    reason: Reason = "",
    mode: Mode = "preview",
    idempotency_key: IdempotencyKey = "",
) -> Enrollment:
    """Enroll contacts in a workflow, such as a nurture sequence; they are created or updated on the way.

    Preview tells who is left out and why, when messages would leave, and who is in other workflows already:
    show it to the person.
    """
    key = committing(mode, idempotency_key)
    request = enrollment_pb2.EnrollContactsRequest(
        workflow_id=workflow_id,
        contacts=[to_input(contact) for contact in contacts],
        timezone=timezone,
        request_id=key,
        validate_only=mode == "preview",
    )
    await progress.tell(0, len(contacts))
    answer, replayed = await settled(client.enrollments.EnrollContacts(request))
    await progress.tell(len(contacts), len(contacts), f"{answer.created_count} enrolled")
    enrolled, entering, left_out, counts = [], [], [], dict[str, int]()
    for result in answer.results:
        outcome = word(EnrollOutcome.Name(result.outcome), "ENROLL_OUTCOME_")
        counts[outcome] = counts.get(outcome, 0) + 1
        if result.outcome == EnrollOutcome.ENROLL_OUTCOME_ENROLLED:
            entering.append(result)
            enrolled.append(Enrolled(enrollment_id=result.enrollment_id, contact_id=result.contact_id))
        else:
            left_out.append(left_out_of(result, outcome, contacts, mode))
    # What a preview would create does not exist: its ids would lead nowhere.
    shown = enrolled[:SHOWN] if mode == "commit" else []
    foreseen = foreseeing.Foreseen()
    if mode == "preview":
        foreseen = await foreseeing.foresee(client, workflow_id, contacts, entering)
    hidden = (len(enrolled) - len(shown) if mode == "commit" else 0) + max(0, len(left_out) - SHOWN)
    return Enrollment(
        mode=mode,
        replayed=replayed,
        workflow_id=workflow_id,
        enrolled_count=answer.created_count,
        counts=counts,
        enrolled=shown,
        left_out=left_out[:SHOWN],
        not_shown=hidden,
        sends=foreseen.sends,
        collisions=foreseen.collisions,
        basis=foreseen.basis,
        idempotency_key=key,
        undo=f"enrolled:{key}" if enrolled and mode == "commit" else "",
        next=after_enroll(workflow_id, contacts, timezone, reason, mode, enrolled, left_out),
    )


@OPERATE.tool(
    "update-record",
    "Update a record",
    "RecordService.UpdateRecord",
    "RecordService.GetRecord",
    destructive=True,
    idempotent=True,
)
async def update_record(
    client: Client,
    record_id: Annotated[str, Field(description="cnt_…, cmp_… or lead_…")],
    fields: Annotated[dict[str, Any], Field(min_length=1, description="new values; null removes a field")],
    if_version: IfVersion = "",
    reason: Reason = "",
    mode: Mode = "preview",
    idempotency_key: IdempotencyKey = "",
) -> Update:
    """Change fields of a contact, company or lead; shows every field before and after."""
    preview, key = mode == "preview", committing(mode, idempotency_key)
    if preview and not if_version:
        # The commit that follows is then refused if the record changes in between.
        if_version = (await client.records.GetRecord(record_pb2.GetRecordRequest(record_id=record_id))).etag
    request = record_pb2.UpdateRecordRequest(
        record_id=record_id,
        fields=to_struct(fields),
        etag=if_version,
        reason=reason,
        request_id=key,
        validate_only=preview,
    )
    answer, replayed = await settled(client.records.UpdateRecord(request))
    following = invocation("get-record", record_id=record_id, history=5)
    if preview:
        following = ""
        if answer.changes:
            following = commit_of(
                "update-record", record_id=record_id, fields=fields, if_version=if_version, reason=reason
            )
    return Update(
        mode=mode,
        replayed=replayed,
        record_id=record_id,
        changes=[
            Change(field=change.field, old=clip(from_value(change.old_value)), new=clip(from_value(change.new_value)))
            for change in answer.changes
        ],
        version=if_version if preview else answer.record.etag,
        idempotency_key=key,
        undo="" if preview else undo_of(answer.changes, key),
        next=following,
    )


@OPERATE.tool(
    "execute-workflow",
    "Execute a workflow",
    "AgentService.ExecuteWorkflow",
    open_world=True,
)
async def execute_workflow(
    client: Client,
    input: Annotated[
        dict[str, Any],
        Field(description="names its contact by contact_id, email or lead_ref; all of it is vars to the steps"),
    ],
    workflow_id: Annotated[str, Field(description="this workflow, or agent_id")] = "",
    agent_id: Annotated[str, Field(description="a deployed agent that runs its workflow")] = "",
    reason: Reason = "",
    mode: Mode = "preview",
    idempotency_key: IdempotencyKey = "",
) -> Execution:
    """Run a workflow once on a payload. Returns at once with a durable execution; get-execution shows how it ends."""
    if bool(workflow_id) == bool(agent_id):
        raise Refused(
            Refusal(
                reason="INVALID_ARGUMENT",
                message="Give workflow_id or agent_id, one of them.",
                field="workflow_id",
                hint="A workflow is run directly by its id.",
                next=invocation("list-workflows"),
            )
        )
    preview, key, payload = mode == "preview", committing(mode, idempotency_key), to_struct(input)
    if agent_id:
        execution, replayed = await settled(
            client.agents.Execute(
                agent_pb2.ExecuteRequest(
                    agent_id=agent_id, type="workflow", input=payload, idempotency_key=key, validate_only=preview
                )
            )
        )
    else:
        execution, replayed = await settled(
            client.agents.ExecuteWorkflow(
                agent_pb2.ExecuteWorkflowRequest(
                    workflow_id=workflow_id, input=payload, request_id=key, validate_only=preview
                )
            )
        )
    following = invocation("get-execution", execution_id=execution.id, wait=20)
    if preview:
        following = commit_of(
            "execute-workflow", input=input, workflow_id=workflow_id, agent_id=agent_id, reason=reason
        )
    return Execution(
        mode=mode,
        replayed=replayed,
        idempotency_key=key,
        undo="" if preview else execution.id,
        execution_id="" if preview else execution.id,
        workflow_id=execution.workflow_id or workflow_id,
        agent_id=execution.agent_id,
        state="preview" if preview else execution_state(execution),
        enrollment_id="" if preview else execution.enrollment_id,
        # A preview makes no contact: only what the caller named is sure to exist.
        contact_id=str(input.get("contact_id", "")) if preview else execution.contact_id,
        contact=contact_in(input),
        result=fit(from_struct(execution.result), 3_500),
        error=clip(execution.error, 400),
        next=following,
    )


def _instant(text: str) -> Timestamp | None:
    if not text:
        return None
    timestamp = Timestamp()
    try:
        timestamp.FromJsonString(text)
    except ValueError:
        raise Refused(
            Refusal(
                reason="INVALID_ARGUMENT",
                message="as_of must be ISO 8601 with a zone, such as 2026-03-02T09:00:00Z.",
                field="as_of",
                next="qualify-lead with as_of corrected, or without it for now",
            )
        ) from None
    return timestamp
