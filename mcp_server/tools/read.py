"""The read toolset: find records and workflows, follow enrollments and executions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import grpc
from pydantic import Field

from dripstone.v1 import agent_pb2, enrollment_pb2, record_pb2, workflow_pb2
from dripstone.v1.client import Client
from dripstone.v1.enrollment_pb2 import EnrollmentState
from dripstone.v1.workflow_pb2 import WorkflowState
from mcp_server.progress import Progress
from mcp_server.refusals import Refusal, Refused
from mcp_server.schemas import placeholder
from mcp_server.tool import Cursor, Toolset
from mcp_server.tools.enrollments import EnrollmentAnswer, Entry, follow, waiting_for
from mcp_server.tools.executions import (
    LONGEST_WATCH,
    ExecutedStep,
    ExecutionAnswer,
    execution_state,
    follow_execution,
    watched,
)
from mcp_server.tools.records import Change, RecordAnswer, Records, RecordSummary, headline
from mcp_server.tools.workflows import (
    WorkflowAnswer,
    Workflows,
    WorkflowSummary,
    drafted,
    outline,
    source_part,
    statistics_of,
)
from mcp_server.values import (
    clip,
    compact,
    fit,
    from_struct,
    from_value,
    in_state,
    instant,
    invocation,
    page_after,
    version_of,
    word,
)

READ = Toolset("read")

Limit = Annotated[int, Field(ge=1, le=50)]
SHOWN_STEPS = 10
"""Steps that one answer shows of an execution."""


@READ.tool("find-records", "Find records", "RecordService.ListRecords", "RecordService.FindRecords", read_only=True)
async def find_records(
    client: Client,
    query: Annotated[str, Field(max_length=200, description="words anywhere; with type and limit alone")] = "",
    type: Annotated[
        str, Field(description="contact, company, lead, opportunity, activity, task, note or a custom one")
    ] = "",
    email: Annotated[str, Field(description="exact e-mail; of a lead, its contact's")] = "",
    filter: Annotated[
        str, Field(description='such as tier = "A" AND score >= 70, or name:"Jan" for a part; any standard field')
    ] = "",
    limit: Limit = 10,
    cursor: Cursor = "",
) -> Records:
    """Look up, search or list contacts (people), companies (accounts), leads (prospects) or, by type, other records.

    By words, e-mail or field values, newest first.
    """
    if query:
        return await _searched(client, query, type, email or filter or cursor, limit)
    type = type or "contact"
    who = f"email = {compact(email)}" if email else ""
    if who and type == "lead":  # a lead has no address of its own
        request = record_pb2.ListRecordsRequest(type="contact", filter=who, page_size=1)
        contacts = (await client.records.ListRecords(request)).records
        if not contacts:
            return Records(records=[], next=invocation("qualify-lead", email=email, mode="preview"))
        who = f'contact_id = "{contacts[0].id}"'
    conditions = [who, f"({filter})" if who and filter else filter]
    answer = await client.records.ListRecords(
        record_pb2.ListRecordsRequest(
            type=type, filter=" AND ".join(c for c in conditions if c), page_size=limit, page_token=cursor
        )
    )
    more = page_after(answer.next_page_token, "find-records", type=type, email=email, filter=filter, limit=limit)
    return _records(answer.records, more=more, next_cursor=answer.next_page_token)


async def _searched(client: Client, query: str, type_: str, too_much: str, limit: int) -> Records:
    """Return the records that have every word, the best first."""
    if too_much:
        following = invocation("find-records", query=query, type=type_, limit=limit)
        message = "query goes with type and limit alone; filter finds by fields."
        raise Refused(Refusal("INVALID_ARGUMENT", message, "query", next=following))
    request = record_pb2.FindRecordsRequest(query=query, types=[type_] if type_ else [], limit=limit)
    return _records([one.record for one in (await client.records.FindRecords(request)).results])


def _records(records: Sequence[record_pb2.Record], more: str = "", next_cursor: str = "") -> Records:
    found = [RecordSummary(record_id=record.id, fields=headline(record)) for record in records]
    following = invocation("get-record", record_id=found[0].record_id) if found else ""
    return Records(records=found, next_cursor=next_cursor, more=more, next=following)


@READ.tool("get-record", "Get a record", "RecordService.GetRecord", "RecordService.ListRecordChanges", read_only=True)
async def get_record(
    client: Client,
    record_id: Annotated[str, Field(description="cnt_…, cmp_…, lead_… or another record's")],
    history: Annotated[int, Field(ge=0, le=20, description="how many past changes to show")] = 0,
) -> RecordAnswer:
    """Read everything stored about one person, company, lead or other record: fields, version, who changed what."""
    record = await client.records.GetRecord(record_pb2.GetRecordRequest(record_id=record_id))
    changes = []
    if history:
        request = record_pb2.ListRecordChangesRequest(record_id=record_id, page_size=history)
        changes = [
            Change(
                field=change.field,
                old=clip(from_value(change.old_value)),
                new=clip(from_value(change.new_value)),
                actor=change.actor,
                cause=change.cause,
                time=instant(change.create_time),
            )
            for change in (await client.records.ListRecordChanges(request)).changes
        ]
    if record.type == "lead":
        following = invocation("qualify-lead", lead_id=record.id)
    else:
        following = invocation("find-records", type="lead", filter=f'contact_id = "{record.id}"')
    return RecordAnswer(
        record_id=record.id,
        type=record.type,
        fields=fit(from_struct(record.fields), 3_500),
        external_refs={ref.system: ref.id for ref in record.external_refs},
        version=version_of(record.etag),
        updated=instant(record.update_time),
        changes=changes,
        next=following if record.type in ("lead", "contact") else "",
    )


@READ.tool("list-workflows", "List workflows", "WorkflowService.ListWorkflows", read_only=True)
async def list_workflows(
    client: Client,
    state: Literal["active", "draft", "archived", "all"] = "active",
    limit: Limit = 20,
    cursor: Cursor = "",
) -> Workflows:
    """List workflows (automations, campaigns, sequences, flows) that are live (active), or unpublished drafts."""
    answer = await client.workflows.ListWorkflows(
        workflow_pb2.ListWorkflowsRequest(filter=in_state(state), page_size=limit, page_token=cursor)
    )
    found = [
        WorkflowSummary(
            workflow_id=workflow.id,
            title=clip(workflow.title),
            state=word(WorkflowState.Name(workflow.state), "WORKFLOW_STATE_"),
            version=workflow.published_version,
            unpublished_draft=drafted(workflow),
        )
        for workflow in answer.workflows
    ]
    following = invocation("get-workflow", workflow_id=found[0].workflow_id) if found else ""
    if not found and not cursor:
        following = "Tell the person that there is none; to begin with a template: " + invocation("draft-workflow")
    more = page_after(answer.next_page_token, "list-workflows", state=state, limit=limit)
    return Workflows(workflows=found, next_cursor=answer.next_page_token, more=more, next=following)


@READ.tool(
    "get-workflow",
    "Get a workflow",
    "WorkflowService.GetWorkflow",
    "WorkflowService.GetWorkflowStatistics",
    read_only=True,
)
async def get_workflow(
    client: Client,
    workflow_id: str,
    version: Annotated[int, Field(ge=0, description="0: the published one, else the draft")] = 0,
    draft: bool = False,
    source: Annotated[bool, Field(description="the document's text, and if_version to change it")] = False,
    from_line: Annotated[int, Field(ge=1)] = 1,
    statistics: Annotated[bool, Field(description="how many went where")] = False,
) -> WorkflowAnswer:
    """Read or show what a workflow, series or campaign does, step by step, day by day, its YAML, how it performs."""
    workflow = stored = await client.workflows.GetWorkflow(
        workflow_pb2.GetWorkflowRequest(workflow_id=workflow_id, version=version)
    )
    if not version and not draft and workflow.published_version:
        workflow = await client.workflows.GetWorkflow(
            workflow_pb2.GetWorkflowRequest(workflow_id=workflow_id, version=workflow.published_version)
        )
    document = workflow.document
    active = workflow.state == WorkflowState.WORKFLOW_STATE_ACTIVE
    # Whoever has not seen what a change would overwrite is not told the version with which to do it.
    if_version = version_of(stored.etag) if source and not version and (draft or not drafted(stored)) else ""
    text, shown, following = source_part(workflow.source, from_line) if source else ("", "", 0)
    more = {"workflow_id": workflow_id, "version": version or "", "draft": draft or "", "source": True}
    figures = {}
    if statistics:
        request = workflow_pb2.GetWorkflowStatisticsRequest(workflow_id=workflow_id, version=version)
        figures = statistics_of(await client.workflows.GetWorkflowStatistics(request))
    return WorkflowAnswer(
        workflow_id=workflow.id,
        title=clip(workflow.title or document.title),
        state=word(WorkflowState.Name(workflow.state), "WORKFLOW_STATE_"),
        version=workflow.version,
        description=clip(document.description, 400),
        reentry=document.reentry,
        triggers=[trigger.event + (f" when {trigger.when}" if trigger.when else "") for trigger in document.triggers],
        steps=[] if source or statistics else outline(document.steps),
        source=text,
        source_lines=shown,
        unpublished_draft=drafted(workflow),
        if_version=if_version,
        statistics=figures,
        more=invocation("get-workflow", **more, from_line=following) if following else "",
        next=_after_workflow(workflow, active, if_version),
    )


def _after_workflow(workflow: workflow_pb2.Workflow, active: bool, if_version: str) -> str:
    if if_version:
        change = {"workflow_id": workflow.id, "source": "<document>", "if_version": if_version, "mode": "preview"}
        return f"to change it: {invocation('draft-workflow', **change)}"
    if not workflow.version and workflow.draft_unpublished:
        return invocation("simulate-workflow", workflow_id=workflow.id)
    if not active:
        return ""
    return invocation("enroll", workflow_id=workflow.id, contacts=placeholder("contacts"), mode="preview")


@READ.tool("get-enrollment", "Follow an enrollment", "EnrollmentService.ExplainEnrollment", read_only=True)
async def get_enrollment(
    client: Client,
    enrollment_id: Annotated[str, Field(description="enr_…")],
    entries: Annotated[int, Field(ge=0, le=20, description="how many trace entries to show")] = 5,
) -> EnrollmentAnswer:
    """Explain where a contact stands right now in a sequence or drip, why, and which message comes next and when."""
    answer = await client.enrollments.ExplainEnrollment(
        enrollment_pb2.ExplainEnrollmentRequest(enrollment_id=enrollment_id)
    )
    enrollment = answer.enrollment
    trace = [
        Entry(
            seq=entry.seq,
            step_id=entry.step_id,
            kind=entry.kind,
            outcome=entry.outcome,
            exit=entry.exit,
            reason=clip(entry.reason, 300),
            effects=list(entry.effects[:5]),
            time=instant(entry.time),
        )
        for entry in answer.entries[max(0, len(answer.entries) - entries) :]
    ]
    return EnrollmentAnswer(
        enrollment_id=enrollment.id,
        workflow_id=enrollment.workflow_id,
        version=enrollment.version,
        contact_id=enrollment.contact_id,
        state=word(EnrollmentState.Name(enrollment.state), "ENROLLMENT_STATE_"),
        step_id=enrollment.step_id,
        why=clip(answer.why, 600),
        what_next=clip(answer.next, 600),
        waiting_for=waiting_for(enrollment),
        waiting_until=instant(enrollment.waiting.until),
        end_reason=clip(enrollment.end_reason, 300),
        trace=trace,
        next=follow(enrollment),
    )


@READ.tool("get-execution", "Get an execution", "AgentService.GetExecution", read_only=True)
async def get_execution(
    client: Client,
    progress: Progress,
    execution_id: Annotated[str, Field(description="exe_…")],
    wait: Annotated[int, Field(ge=0, le=LONGEST_WATCH, description="seconds to wait for its end")] = 0,
) -> ExecutionAnswer:
    """Check a run that execute-workflow started: finished, stuck or failed, its steps, its wait, its output."""
    execution = await watched(client, execution_id, wait, progress)
    waiting = await _waiting(client, execution)
    return ExecutionAnswer(
        execution_id=execution.id,
        workflow_id=execution.workflow_id,
        state=execution_state(execution),
        agent_id=execution.agent_id,
        enrollment_id=execution.enrollment_id,
        contact_id=execution.contact_id,
        result=fit(from_struct(execution.result), 3_500),
        error=clip(execution.error, 400),
        waiting_for=waiting_for(waiting),
        waiting_until=instant(waiting.waiting.until),
        steps=[
            ExecutedStep(
                step_id=step.step_id,
                outcome=step.outcome,
                reason=clip(step.reason, 120),
                cost=step.cost,
                time=instant(step.create_time),
            )
            for step in execution.steps[-SHOWN_STEPS:]
        ],
        cost=execution.cost,
        tokens=execution.tokens,
        next=follow_execution(execution),
    )


async def _waiting(client: Client, execution: agent_pb2.Execution) -> enrollment_pb2.Enrollment:
    """Return the enrollment that carries a run which goes on; an empty one where there is none to be seen."""
    over = execution.state >= agent_pb2.EXECUTION_STATE_SUCCEEDED
    if over or not execution.enrollment_id:
        return enrollment_pb2.Enrollment()
    try:
        return await client.enrollments.GetEnrollment(
            enrollment_pb2.GetEnrollmentRequest(enrollment_id=execution.enrollment_id)
        )
    except grpc.aio.AioRpcError:  # the key may follow executions and not enrollments
        return enrollment_pb2.Enrollment()
