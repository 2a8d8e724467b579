"""The author tool that runs a workflow on a virtual clock before anybody is in it."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from dripstone.v1 import workflow_pb2
from dripstone.v1.client import Client
from mcp_server.progress import Progress
from mcp_server.refusals import Refusal, Refused
from mcp_server.schemas import placeholder
from mcp_server.tools.authoring import AUTHOR, Source
from mcp_server.tools.drafts import ExclusionLine, FunnelLine, SimulationAnswer, problems_of
from mcp_server.values import clip, instant, invocation, to_struct

__all__ = ["AUTHOR", "simulate_workflow"]

SECONDS = 60.0
"""How long a simulation may take."""
MADE_UP = 100
STEPS, EXCLUSIONS, CONTACTS, WARNINGS, ENTRIES = 30, 8, 3, 5, 15
"""How much of a result one answer shows."""


class Event(BaseModel):
    """An event to assume."""

    # What it is, its place in the arguments says already.
    model_config = ConfigDict(extra="forbid", json_schema_extra=lambda schema: schema.pop("description", None))

    name: str
    after: Annotated[str, Field(description="such as 2d")] = ""
    fields: dict[str, Any] = {}


@AUTHOR.tool(
    "simulate-workflow",
    "Simulate a workflow",
    "WorkflowService.SimulateWorkflow",
    "RecordService.ListRecords",  # it reads them: a document can ask anything of the contacts it is run on
    read_only=True,
)
async def simulate_workflow(
    client: Client,
    progress: Progress,
    workflow_id: str = "",
    source: Source = "",
    version: Annotated[int, Field(ge=0)] = 0,
    contacts: Annotated[list[str], Field(max_length=200, description="ids")] = [],  # noqa: B006  never changed
    filter: Annotated[str, Field(description="or a filter of contacts")] = "",
    sample: Annotated[int, Field(ge=0, le=2_000, description="0: made-up ones")] = 100,
    events: Annotated[list[Event], Field(max_length=50)] = [],  # noqa: B006  never changed
    horizon: str = "90d",
    against_version: Annotated[int, Field(ge=0)] = 0,
) -> SimulationAnswer:
    """Dry run or test a draft (version 0), version or document: what would happen, how many would get messages.

    Nothing is sent or stored. Without contacts: a sample of the real ones, or made-up ones.
    """
    if not (workflow_id or source):
        raise Refused(
            Refusal(
                reason="INVALID_ARGUMENT",
                message="workflow_id or source is required.",
                field="workflow_id",
                next=invocation("list-workflows", state="all"),
            )
        )
    chosen = workflow_pb2.SimulatedContacts(contact_ids=contacts)
    if not contacts:
        # The core tells both that a filter and made-up people do not go together.
        made_up = 0 if sample else MADE_UP
        chosen = workflow_pb2.SimulatedContacts(filter=filter, sample_size=sample, made_up=made_up)
    request = workflow_pb2.SimulateWorkflowRequest(
        workflow_id=workflow_id,
        version=version,
        source=source,
        contacts=chosen,
        events=[
            workflow_pb2.SimulatedEvent(name=one.name, contact="*", after=one.after, fields=to_struct(one.fields))
            for one in events
        ],
        horizon=horizon,
        timelines=1,
        against_version=against_version,
    )
    await progress.tell(0, 1, "simulating")
    answer = await client.workflows.SimulateWorkflow(request, timeout=SECONDS)
    await progress.tell(1, 1, f"{answer.entered_count} entered")
    return _told(answer, _after(answer, workflow_id, source, version))


def _told(answer: workflow_pb2.SimulateWorkflowResponse, following: str) -> SimulationAnswer:
    sent, days = Counter[str](), Counter[str]()
    for one in answer.messages:
        sent[one.channel] += one.count
        days[one.day] += one.count
    day, most = max(days.items(), key=lambda item: item[1], default=("", 0))
    return SimulationAnswer(
        entered=answer.entered_count,
        states=dict(answer.states),
        funnel=[_line(step) for step in answer.steps[:STEPS]],
        exclusions=[
            ExclusionLine(
                reason=one.reason,
                message=clip(one.message, 160),
                count=one.count,
                contacts=list(one.contacts[:CONTACTS]),
            )
            for one in answer.exclusions[:EXCLUSIONS]
        ],
        messages=dict(sent),
        busiest_day=f"{day}: {most}" if day else "",
        warnings=[clip(warning, 200) for warning in answer.warnings[:WARNINGS]],
        difference=_difference(answer),
        timeline=_timeline(answer),
        problems=problems_of(answer.problems),
        start=instant(answer.start_time),
        end=instant(answer.end_time),
        next=following,
    )


def _line(step: workflow_pb2.FunnelStep) -> FunnelLine:
    return FunnelLine(
        step_id=step.step_id,
        kind=step.kind,
        entered=step.entered_count,
        waiting=step.waiting_count,
        failed=step.failed_count,
        held=step.held_count,
        # One way on says no more than who came in.
        exits=dict(step.exits) if len(step.exits) > 1 else {},
    )


def _difference(answer: workflow_pb2.SimulateWorkflowResponse) -> dict[str, Any]:
    if not answer.HasField("difference"):
        return {}
    found = answer.difference
    return {
        "contacts_that_go_another_way": found.changed_count,
        "messages": found.messages,
        "entered": dict(found.entered_counts),
        "states": dict(found.states),
    }


def _timeline(answer: workflow_pb2.SimulateWorkflowResponse) -> list[str]:
    if not answer.timelines:
        return []
    one = answer.timelines[0]
    shown = [
        clip(f"{instant(entry.time)} {entry.step_id} {entry.outcome} {entry.reason}".strip(), 120)
        for entry in one.entries[:ENTRIES]
    ]
    return [f"{one.contact}: {one.state}", *shown]


def _after(answer: workflow_pb2.SimulateWorkflowResponse, workflow_id: str, source: str, version: int) -> str:
    if answer.problems:
        return "simulate-workflow with the source corrected at the named paths"
    if source:
        return invocation("draft-workflow", workflow_id=workflow_id or placeholder("workflow_id"), source="<document>")
    if version:
        return invocation("get-workflow", workflow_id=workflow_id, version=version)
    return invocation("propose-workflow", workflow_id=workflow_id, mode="preview")
