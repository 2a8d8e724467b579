"""The operate toolset: the four tools that the product exists for, each with a preview before it acts."""

from __future__ import annotations

from typing import Annotated, Any

from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import Field

from dripstone.v1 import agent_pb2, enrollment_pb2, record_pb2
from dripstone.v1.client import ApiError, Client, FieldViolation
from dripstone.v1.enrollment_pb2 import EnrollOutcome
from mcp_server.progress import Progress
from mcp_server.refusals import Refusal, Refused, Unfit
from mcp_server.tool import IdempotencyKey, IfVersion, Mode, Previewed, Reason, Toolset, committing, settled
from mcp_server.tools import creating, foreseeing, qualification
from mcp_server.tools.enrollments import (
    SHOWN,
    Contact,
    Enrolled,
    Enrollment,
    after_enroll,
    check_any_fits,
    left_out_of,
    to_input,
)
from mcp_server.tools.executions import Execution, contact_in, execution_state
from mcp_server.tools.qualification import Asked, Claim, Qualification
from mcp_server.tools.records import Update, changes_of, undo_of
from mcp_server.values import (
    clip,
    commit_of,
    etag_of,
    fit,
    from_struct,
    invocation,
    to_struct,
    version_of,
    word,
)

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
    """Score (rate) a lead or prospect and decide, with exact points and reasons, whether it is qualified.

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
    if_version: Previewed = "",
    reason: Reason = "",
    mode: Mode = "preview",
    idempotency_key: IdempotencyKey = "",
) -> Enrollment:
    """Add (put, start, sign up) people in a workflow: nurture sequence, campaign, drip; contacts are made or updated.

    Preview tells who is left out and why, when messages would leave, and who is in other workflows already:
    show it to the person. With its if_version a commit does nothing else.
    """
    key = committing(mode, idempotency_key)
    request = enrollment_pb2.EnrollContactsRequest(
        workflow_id=workflow_id,
        contacts=[to_input(contact) for contact in contacts],
        timezone=timezone,
        request_id=key,
        validate_only=mode == "preview",
        preview_etag=if_version,
    )
    await progress.tell(0, len(contacts))
    answer, replayed = await settled(client.enrollments.EnrollContacts(request))
    await progress.tell(len(contacts), len(contacts), f"{answer.created_count} enrolled")
    check_any_fits(answer.results)
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
    told = Enrollment(
        mode=mode,
        replayed=replayed,
        workflow_id=workflow_id,
        enrolled_count=answer.created_count,
        counts=counts,
        enrolled=shown,
        left_out=left_out[:SHOWN],
        not_shown=hidden,
        sends=foreseen.sends,
        also_leaves=foreseen.also_leaves,
        collisions=foreseen.collisions,
        disqualified=foreseen.disqualified,
        basis=foreseen.basis,
        version=answer.preview_etag,
        idempotency_key=key,
        undo=f"enrolled:{key}" if enrolled and mode == "commit" else "",
    )
    return told.model_copy(update={"next": after_enroll(told, contacts, timezone, reason, answer.results)})


@OPERATE.tool(
    "update-record",
    "Update or create a record",
    "RecordService.UpdateRecord",
    "RecordService.UpsertRecord",
    "RecordService.GetRecord",
    destructive=True,
    idempotent=True,
)
async def update_record(
    client: Client,
    fields: Annotated[dict[str, Any], Field(min_length=1, description="new values; null removes a field")],
    record_id: Annotated[str, Field(description="cnt_…, cmp_…, lead_…; empty with type: a new one")] = "",
    type: Annotated[str, Field(description="instead of record_id; a contact is matched by e-mail")] = "",
    if_version: IfVersion = "",
    reason: Reason = "",
    mode: Mode = "preview",
    idempotency_key: IdempotencyKey = "",
) -> Update:
    """Change, fix, set, assign or mark fields of a contact, company (account), lead or other record.

    Or create one, such as a note or a task. Shows each field before and after.
    """
    preview, key = mode == "preview", committing(mode, idempotency_key)
    if bool(record_id) == bool(type):
        message = "Give record_id to change a record, or type to create one: one of them."
        raise Refused(Refusal("INVALID_ARGUMENT", message, "record_id", next=invocation("find-records")))
    if type:
        return await creating.upserted(client, type, fields, if_version, reason, preview=preview, key=key)
    if preview and not if_version:
        # The commit that follows is then refused if the record changes in between.
        read = await client.records.GetRecord(record_pb2.GetRecordRequest(record_id=record_id))
        if_version = version_of(read.etag)
    request = record_pb2.UpdateRecordRequest(
        record_id=record_id,
        fields=to_struct(fields),
        etag=etag_of(if_version),
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
        changes=changes_of(answer.changes),
        version=if_version if preview else version_of(answer.record.etag),
        idempotency_key=key,
        undo="" if preview else undo_of(answer.changes),
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
    if_version: Previewed = "",
    reason: Reason = "",
    mode: Mode = "preview",
    idempotency_key: IdempotencyKey = "",
) -> Execution:
    """Run, launch, fire, trigger or kick off a workflow (automation) once on a JSON payload.

    Returns at once with a durable execution; get-execution shows how it ends.
    """
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
                    agent_id=agent_id,
                    type="workflow",
                    input=payload,
                    idempotency_key=key,
                    validate_only=preview,
                    preview_etag=if_version,
                )
            )
        )
    else:
        execution, replayed = await settled(
            client.agents.ExecuteWorkflow(
                agent_pb2.ExecuteWorkflowRequest(
                    workflow_id=workflow_id,
                    input=payload,
                    request_id=key,
                    validate_only=preview,
                    preview_etag=if_version,
                )
            )
        )
    following = invocation("get-execution", execution_id=execution.id, wait=20)
    if preview:
        following = commit_of(
            "execute-workflow",
            input=input,
            workflow_id=workflow_id,
            agent_id=agent_id,
            if_version=execution.preview_etag,
            reason=reason,
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
        version=execution.preview_etag,
        next=following,
    )


def _instant(text: str) -> Timestamp | None:
    if not text:
        return None
    timestamp = Timestamp()
    try:
        timestamp.FromJsonString(text)
    except ValueError:
        message = "must be ISO 8601 with a zone, such as 2026-03-02T09:00:00Z"
        violation = FieldViolation("as_of", "INVALID_VALUE", message)
        hint = "Leave it out for now."
        raise Unfit(ApiError("INVALID_ARGUMENT", "INVALID_ARGUMENT", message, hint, (violation,))) from None
    return timestamp
