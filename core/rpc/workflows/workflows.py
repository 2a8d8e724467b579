"""Handlers of WorkflowService: writing, checking, publishing and reading workflows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Row, select

from core import ids
from core.domain import names
from core.domain.effects import Emit
from core.domain.errors import (
    AlreadyExists,
    EtagMismatch,
    Invalid,
    NotFound,
    PermissionDenied,
    Violation,
    WrongState,
    invalid,
)
from core.domain.frozen import frozen
from core.domain.steps.shapes import Lookups
from core.domain.webhooks import own_types
from core.domain.workflow import launch_gate
from core.domain.workflow.advice import advise
from core.domain.workflow.compile import Compiled
from core.domain.workflow.document import from_wire, parse_source, render_source, to_wire
from core.domain.workflow.source import check_plain
from core.domain.workflow.source_lines import SourceLines
from core.domain.workflow.version import Version
from core.rpc.call import Call
from core.rpc.convert import from_struct, to_struct, to_timestamp
from core.rpc.listing import listed
from core.rpc.workflows import unheard_channels
from core.store.events import sources
from core.store.organizations import members, organizations, projects
from core.store.qualification import qualification, routings
from core.store.records import pipelines, record_schema
from core.store.transaction import Transaction
from core.store.webhooks import deliveries, endpoints, event_types
from core.store.webhooks.deliveries import Emission
from core.store.workflows import compiling, drafts, workflows
from core.store.workflows.workflows import WorkflowState
from dripstone.v1 import workflow_pb2 as pb

_STATES = {state: pb.WorkflowState.Value(f"WORKFLOW_STATE_{state.name}") for state in WorkflowState}
_FILTERED = {"state": "string"}
_ROUTES = ("step_types", "validate", "schema", "templates", "simulate")
"""Words that stand where an id stands in a path of the HTTP gateway."""


@frozen
class _Written:
    """A document as it was sent: its text, and what the text holds."""

    source: str
    document: Mapping[str, Any]

    @property
    def title(self) -> str:
        title = self.document.get("title")
        return title[:200] if isinstance(title, str) else ""


async def create_workflow(request: pb.CreateWorkflowRequest, call: Call) -> pb.Workflow:
    """Store a draft, and publish it where that is asked for."""
    written = _written(request)
    workflow_id = _chosen_id(request.workflow_id, call)
    row = await workflows.create(
        call.tx,
        workflow_id,
        title=written.title,
        source=written.source,
        document=written.document,
        author=call.caller.principal_id,
        project_id=await _project(request.project_id, call),
    )
    if row is None:
        raise AlreadyExists(kind="workflow", id=workflow_id)
    return await _publish(row, call) if request.publish else to_message(row)


async def update_workflow(request: pb.UpdateWorkflowRequest, call: Call) -> pb.Workflow:
    """Replace the draft; what is published stays as it is."""
    written = _written(request)
    row = await _get(call, request.workflow_id, request.etag)
    row = await workflows.update_draft(
        call.tx,
        row,
        title=written.title,
        source=written.source,
        document=written.document,
        author=call.caller.principal_id,
    )
    return to_message(row)


async def validate_workflow(request: pb.ValidateWorkflowRequest, call: Call) -> pb.ValidateWorkflowResponse:
    """Compile a document and answer with every problem."""
    try:
        document = _written(request).document
        async with call.parts.checking:
            compiled = await _compiled(document, call)
    except Invalid as error:
        compiled = Compiled(None, error.violations)
    return pb.ValidateWorkflowResponse(
        valid=not compiled.problems,
        problems=problem_messages(request.source, compiled.problems),
        warnings=problem_messages(request.source, await _warnings(compiled, call)),
    )


async def _warnings(compiled: Compiled, call: Call) -> list[Violation]:
    version = compiled.version
    return [] if version is None else [*advise(version), *await unheard_channels.advise(call.tx, version)]


def problem_messages(text: str, problems: Iterable[Violation]) -> list[pb.Problem]:
    """Return what is wrong with a document as the contract has it, with its places where the text is there."""
    lines = SourceLines(text)
    found = []
    for one in problems:
        line, column = lines.place(one.field, one.message) if text else (0, 0)
        place = {"line": line, "column": column}
        found.append(pb.Problem(path=one.field, reason=one.reason, message=one.message, hint=one.hint, **place))
    return found


async def publish_workflow(request: pb.PublishWorkflowRequest, call: Call) -> pb.Workflow:
    """Make the draft the next version."""
    return await _publish(await _get(call, request.workflow_id, request.etag), call)


async def get_workflow(request: pb.GetWorkflowRequest, call: Call) -> pb.Workflow:
    """Return a workflow with its draft, with one published version, or with a draft that was replaced."""
    row = await workflows.get(call.tx, request.workflow_id)
    if row is None:
        raise NotFound(kind="workflow", id=request.workflow_id)
    if request.version and request.draft_etag:
        hint = "Send version or draft_etag, or neither for the draft."
        raise invalid("draft_etag", "CONFLICT", "names a draft, and version a published version", hint)
    if request.draft_etag and request.draft_etag != _etag(row):
        return await _replaced(row, request.draft_etag, call)
    if not request.version:
        return to_message(row)
    version = await workflows.get_version(call.tx, call.caller.org_id, row.id, request.version)
    if version is None:
        raise NotFound(kind="workflow version", id=f"{row.id} version {request.version}")
    message = _message(row, version.document, version.source, version.version)
    message.publish_author = version.published_by
    message.publish_time.FromDatetime(version.created_at)
    return message


async def _replaced(row: Row[Any], etag: str, call: Call) -> pb.Workflow:
    """Return a workflow with the draft that was replaced at a version of it. Raises NotFound."""
    rev = etag.strip('"')
    draft = await drafts.get(call.tx, row.id, int(rev)) if rev.isascii() and rev.isdigit() and len(rev) < 10 else None
    if draft is None:
        raise NotFound(kind="replaced draft", id=f"{row.id} at {etag}")
    message = _message(row, draft.document, draft.source, 0)
    message.draft_author, message.draft_unpublished = draft.author, True
    message.draft_time.FromDatetime(draft.written_at)
    return message


async def list_workflows(request: pb.ListWorkflowsRequest, call: Call) -> pb.ListWorkflowsResponse:
    """Return a page of workflows, newest first, without their documents."""
    statement = workflows.listing()
    if request.project_id:
        statement = statement.where(workflows.workflows.c.project_id == request.project_id)
    table = workflows.workflows
    rows, token = await listed(call.tx, request, statement, table, _FILTERED, within=request.project_id)
    return pb.ListWorkflowsResponse(workflows=[_summary(row) for row in rows], next_page_token=token)


async def archive_workflow(request: pb.ArchiveWorkflowRequest, call: Call) -> pb.Workflow:
    """Close a workflow to new enrollments; one that is closed stays as it is. Raises WrongState for a paused one."""
    row = await _get(call, request.workflow_id)
    if row.state == WorkflowState.PAUSED:  # archived, it would go on, and nobody has said how
        raise WrongState(kind="workflow", id=row.id, state=row.state, action="archiving; resume it first")
    if row.state != WorkflowState.ARCHIVED:
        row = await workflows.archive(call.tx, row.id)
    return to_message(row)


async def move_workflow(request: pb.MoveWorkflowRequest, call: Call) -> pb.Workflow:
    """Put a workflow into a project, or take it out; what runs goes on."""
    project = await projects.get(call.tx, request.project_id, lock=True) if request.project_id else None
    if request.project_id and project is None:  # locked: it must still be there when this commits
        raise NotFound(kind="project", id=request.project_id)
    row = await workflows.get(call.tx, request.workflow_id, lock=True)
    if row is None:
        raise NotFound(kind="workflow", id=request.workflow_id)
    return to_message(await workflows.move(call.tx, row.id, request.project_id or None))


def _written(
    request: pb.CreateWorkflowRequest | pb.UpdateWorkflowRequest | pb.ValidateWorkflowRequest,
) -> _Written:
    """Return the document of a request. Raises Invalid when there is none, or two, or it cannot be read."""
    if request.source and request.HasField("document"):
        raise invalid("document", "CONFLICT", "both source and document are given", "Send one of them.")
    if request.source:
        return _Written(request.source, parse_source(request.source))
    if not request.HasField("document"):
        hint = "Send the workflow as YAML in source, or as a document."
        raise invalid("source", "REQUIRED", "there is no document", hint)
    wire = request.document
    document = from_wire(
        {
            "title": wire.title,
            "description": wire.description,
            "timezone": wire.timezone,
            "reentry": wire.reentry,
            "settings": from_struct(wire.settings),
            "triggers": [
                {"event": trigger.event, "when": trigger.when, "config": from_struct(trigger.config)}
                for trigger in wire.triggers
            ],
            "steps": [
                {"id": step.id, "kind": step.kind, "config": from_struct(step.config), "exits": dict(step.exits)}
                for step in wire.steps
            ],
        }
    )
    check_plain(document, "document")
    source = render_source(document)
    parse_source(source, "document")  # the limits of documents, whichever way they come
    return _Written(source, document)


def _chosen_id(given: str, call: Call) -> str:
    if not given:
        return ids.mint("wfl", call.now)
    if not names.is_slug(given):
        hint = "Use lower-case letters, digits, hyphens and underscores, at most 63; or leave it out."
        raise invalid("workflow_id", "BAD_ID", f"{given[:63]} cannot be an id", hint)
    if given in _ROUTES:
        raise invalid("workflow_id", "RESERVED_NAME", f"{given} is the name of a route", "Choose another id.")
    return given


async def _get(call: Call, workflow_id: str, etag: str = "") -> Row[Any]:
    row = await workflows.get(call.tx, workflow_id, lock=True)
    if row is None:
        raise NotFound(kind="workflow", id=workflow_id)
    if etag and etag != _etag(row):
        raise EtagMismatch(kind="workflow", id=row.id, current=_etag(row), given=etag)
    return row


async def _project(project_id: str, call: Call) -> str | None:
    """Return the project that a new workflow goes to, held, or None. Raises NotFound."""
    if project_id and await projects.get(call.tx, project_id, lock=True) is None:
        raise NotFound(kind="project", id=project_id)
    return project_id or None


async def _compiled(document: Mapping[str, Any], call: Call, workflow_id: str = "", number: int = 0) -> Compiled:
    return await compiling.compiled(document, await lookups(call.tx), workflow_id=workflow_id, number=number)


async def lookups(tx: Transaction) -> Lookups:
    """Return what exists outside documents, for the compiler."""
    columns = {
        "endpoint_ids": (endpoints.endpoints.c.id,),
        "workflow_ids": (workflows.workflows.c.id,),
        "model_ids": (qualification.scoring_models.c.id,),
        "member_ids": (members.members.c.id,),
        "routing_ids": (routings.routings.c.id,),
        "source_ids": (sources.sources.c.id, sources.sources.c.display_name),
    }
    known = {
        name: frozenset(value for row in await tx.all(select(*wanted)) for value in row)
        for name, wanted in columns.items()
    }
    schemas = {row.name: own_types.compiled(row.schema) for row in await event_types.newest(tx)}
    return Lookups(
        **known,
        pipelines=(await pipelines.of_organizations(tx, [tx.org_id])).get(tx.org_id, ()),
        schema=await record_schema.of(tx),
        event_schemas={name: schema for name, schema in schemas.items() if schema is not None},
    )


async def _faultless(document: Mapping[str, Any], call: Call, workflow_id: str, number: int) -> Version:
    """Return the version of a document. Raises Invalid with everything that is wrong."""
    compiled = await _compiled(document, call, workflow_id, number)
    if compiled.version is None:
        raise Invalid(*[Violation(one.field, one.reason, one.message, one.hint) for one in compiled.problems])
    return compiled.version


async def _publish(row: Row[Any], call: Call) -> pb.Workflow:
    number = row.published_version + 1
    document, source = row.draft_document, row.draft_source
    version = await _faultless(document, call, row.id, number)
    wants = await organizations.wants_gate(call.tx)
    if launch_gate.is_refused(document, wants) and "policies:admin" not in call.caller.scopes:
        why = f"the organization wants a launch gate, and publishing {launch_gate.KEY}: false takes policies:admin"
        raise PermissionDenied(principal=call.caller.display_name, why=why)
    if launch_gate.is_wanted(document, wants):
        document = launch_gate.with_gate(document)
        source = render_source(document)
        version = await _faultless(document, call, row.id, number)
    row = await workflows.publish(call.tx, row, version, call.caller.principal_id, source=source)
    data = {"workflow_id": row.id, "version": number, "title": row.title, "actor": call.caller.principal_id}
    message_id = names.derive("msg", call.now, call.caller.org_id, row.id, number, "published")
    await deliveries.emit(call.tx, [Emission(call.caller.org_id, Emit(message_id, "workflow.published", data))])
    message = _message(row, document, source, number)
    message.publish_author = call.caller.principal_id
    message.publish_time.FromDatetime(call.now)
    return message


def _etag(row: Row[Any]) -> str:
    return f'"{row.rev}"'


def _summary(row: Row[Any]) -> pb.Workflow:
    return pb.Workflow(
        id=row.id,
        title=row.title,
        state=_STATES[WorkflowState(row.state)],
        published_version=row.published_version,
        etag=_etag(row),
        create_time=to_timestamp(row.created_at),
        update_time=to_timestamp(row.updated_at),
        pause_time=to_timestamp(row.paused_at),
        pause_reason=row.pause_reason,
        project_id=row.project_id or "",
        draft_author=row.draft_author,
        draft_time=to_timestamp(row.draft_at),
        draft_unpublished=not row.published_version or row.draft_version != row.published_version,
    )


def to_message(row: Row[Any]) -> pb.Workflow:
    """Return a workflow with its draft as the contract has it."""
    return _message(row, row.draft_document, row.draft_source, 0)


def _message(row: Row[Any], document: Mapping[str, Any], source: str, version: int) -> pb.Workflow:
    message = _summary(row)
    message.version = version
    message.source = source
    wire = to_wire(document)
    message.document.CopyFrom(
        pb.WorkflowDocument(
            title=wire["title"],
            description=wire["description"],
            timezone=wire["timezone"],
            reentry=wire["reentry"],
            settings=to_struct(wire["settings"]) if wire["settings"] else None,
            triggers=[
                pb.Trigger(
                    event=trigger["event"],
                    when=trigger["when"],
                    config=to_struct(trigger["config"]) if trigger["config"] else None,
                )
                for trigger in wire["triggers"]
            ],
            steps=[
                pb.Step(id=step["id"], kind=step["kind"], config=to_struct(step["config"]), exits=step["exits"])
                for step in wire["steps"]
            ],
        )
    )
    return message
