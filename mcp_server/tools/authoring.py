"""The author toolset: draft a workflow, see what is wrong with it and what it would do, propose it for publishing."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, NoReturn

import grpc
from pydantic import Field

from dripstone.v1 import workflow_pb2
from dripstone.v1.client import ApiError, Client
from mcp_server.corrections import meant, nearest
from mcp_server.refusals import Refusal, Refused
from mcp_server.schemas import placeholder
from mcp_server.tool import IdempotencyKey, IfVersion, Mode, Reason, Toolset, committing, settled
from mcp_server.tools.drafts import PROBLEMS, Draft, Proposal, difference, problems_of
from mcp_server.tools.workflows import drafted, source_part
from mcp_server.values import clip, compact, from_struct, invocation, new_key

AUTHOR = Toolset("author")

RUNNING = ("active", "awaiting_approval")
"""States of enrollments that are not over."""
SETTINGS_CHARACTERS = 5_000
"""Length of the settings of step kinds that one answer shows, one kind at least."""
NEAR_ENOUGH = 0.6
"""How alike the name of a template or a kind of step must be to one there is."""

Source = Annotated[str, Field(max_length=262_144, description="YAML or JSON document")]


@AUTHOR.tool(
    "draft-workflow",
    "Draft a workflow",
    "WorkflowService.CreateWorkflow",
    "WorkflowService.UpdateWorkflow",
    "WorkflowService.ValidateWorkflow",
    "WorkflowService.GetWorkflow",
    destructive=True,
    idempotent=True,
)
async def draft_workflow(
    client: Client,
    workflow_id: Annotated[str, Field(description="chosen by you for a new one")] = "",
    source: Source = "",
    template: Annotated[str, Field(description="or its template")] = "",
    version: Annotated[int, Field(ge=0, description="or a published version to put back")] = 0,
    kinds: Annotated[list[str], Field(max_length=5, description="show settings of these step kinds")] = [],  # noqa: B006  never changed
    if_version: IfVersion = "",
    reason: Reason = "",
    mode: Mode = "preview",
    idempotency_key: IdempotencyKey = "",
) -> Draft:
    """Build or write a new workflow (series, campaign) or, with if_version, change or add to it: problems, and a diff.

    Without a document: what step kinds and templates there are. Nothing runs until propose-workflow.
    """
    if not (source or template or version):
        return await _reference(client, kinds)
    text = source or await _text(client, workflow_id, template, version)
    preview, key = mode == "preview", committing(mode, idempotency_key)
    checked = await client.workflows.ValidateWorkflow(workflow_pb2.ValidateWorkflowRequest(source=text))
    stored = await _stored(client, workflow_id) if workflow_id else None
    # Whether a commit creates or changes is said by its arguments, not by what is there: so a repeat is the same call.
    changes = bool(if_version) or (preview and stored is not None)
    was, compared_with = await _before(client, stored)
    replaces = drafted(stored) if stored is not None and stored.source != text else ""
    held = if_version.strip('"') or (_shown_version(stored.etag) if stored is not None else "")
    try:
        written, replayed = await settled(
            _change(client, workflow_id, text, if_version, key) if changes else _create(client, workflow_id, text, key)
        )
        if not preview:
            stored, held = written, _shown_version(written.etag)
    except grpc.aio.AioRpcError as error:
        told = ApiError.of(error)
        if told.reason == "ALREADY_EXISTS":
            _needs_version(workflow_id)
        if not (preview and checked.problems and told.reason == "INVALID_ARGUMENT"):
            raise
        replayed = False  # what cannot even be read is told as the problems that it has
    workflow_id = workflow_id if preview or stored is None else stored.id
    published = stored.published_version if stored is not None else 0
    return Draft(
        mode=mode,
        replayed=replayed,
        workflow_id=workflow_id,
        creates=not changes,
        valid=checked.valid,
        problems=problems_of(checked.problems),
        problems_omitted=max(0, len(checked.problems) - PROBLEMS),
        compared_with=compared_with,
        replaces=replaces,
        diff=difference(was, text) if was else [],
        version=held,
        published_version=published,
        source=source_part(text, 1)[0] if preview and not source else "",
        idempotency_key=key,
        undo=f"draft:{workflow_id}/{_shown_version(if_version)}/{held}" if changes and not preview else "",
        way_back=invocation("draft-workflow", workflow_id=workflow_id, version=published, if_version=held)
        if published and not preview
        else "",
        next=_after_draft(workflow_id, checked.valid, held if changes else "", preview),
    )


def _create(
    client: Client, workflow_id: str, text: str, key: str
) -> grpc.aio.UnaryUnaryCall[workflow_pb2.CreateWorkflowRequest, workflow_pb2.Workflow]:
    request = workflow_pb2.CreateWorkflowRequest(
        workflow_id=workflow_id, source=text, request_id=key, validate_only=not key
    )
    return client.workflows.CreateWorkflow(request)


def _change(
    client: Client, workflow_id: str, text: str, if_version: str, key: str
) -> grpc.aio.UnaryUnaryCall[workflow_pb2.UpdateWorkflowRequest, workflow_pb2.Workflow]:
    request = workflow_pb2.UpdateWorkflowRequest(
        workflow_id=workflow_id,
        source=text,
        etag=_etag(if_version),
        request_id=key,
        validate_only=not key,
    )
    return client.workflows.UpdateWorkflow(request)


def _after_draft(workflow_id: str, valid: bool, if_version: str, preview: bool) -> str:
    if not valid:
        return "Correct the source at the named lines and preview it again."
    if not preview:
        return invocation("simulate-workflow", workflow_id=workflow_id)
    held = f'"if_version":"{if_version}",' if if_version else ""
    return f'Show the person; then the same call with "mode":"commit",{held}"idempotency_key":"{new_key("draft")}"'


async def _reference(client: Client, kinds: list[str]) -> Draft:
    """Return what documents are made of; with `kinds`, the settings of these."""
    types = (await client.workflows.ListStepTypes(workflow_pb2.ListStepTypesRequest())).step_types
    if kinds:
        known = {one.kind: one for one in types}
        if strange := [kind for kind in kinds if kind not in known]:
            near = [kind if kind in known else _near(kind, known) for kind in kinds]
            following = invocation("draft-workflow", kinds=list(dict.fromkeys(filter(None, near))))
            _unknown("kinds", "step kind", strange[0], list(known), following)
        shown: list[dict[str, Any]] = []
        for kind in kinds:
            one = {"kind": kind, "exits": list(known[kind].exits), "settings": from_struct(known[kind].config_schema)}
            if shown and len(compact([*shown, one])) > SETTINGS_CHARACTERS:
                break
            shown.append(one)
        rest = kinds[len(shown) :]
        more = invocation("draft-workflow", kinds=rest) if rest else ""
        return Draft(mode="preview", step_kinds=shown, more=more, next=_write_it())
    found = (await client.workflows.ListWorkflowTemplates(workflow_pb2.ListWorkflowTemplatesRequest())).templates
    return Draft(
        mode="preview",
        step_kinds=[{"kind": one.kind, "does": clip(one.summary, 100), "exits": list(one.exits)} for one in types],
        templates=[{"id": one.id, "title": clip(one.title, 60)} for one in found],
        next=invocation("draft-workflow", template=found[0].id) if found else _write_it(),
    )


def _write_it() -> str:
    return invocation("draft-workflow", workflow_id=placeholder("workflow_id"), source="<document>", mode="preview")


async def _text(client: Client, workflow_id: str, template: str, version: int) -> str:
    """Return the document of a template or of a published version."""
    if version:
        if not workflow_id:
            raise Refused(
                Refusal(
                    reason="INVALID_ARGUMENT",
                    message="workflow_id is required beside version.",
                    field="workflow_id",
                    next=invocation("list-workflows", state="all"),
                )
            )
        request = workflow_pb2.GetWorkflowRequest(workflow_id=workflow_id, version=version)
        return (await client.workflows.GetWorkflow(request)).source
    answer = await client.workflows.ListWorkflowTemplates(workflow_pb2.ListWorkflowTemplatesRequest())
    known = {one.id: one.source for one in answer.templates}
    if template not in known:
        following = invocation("draft-workflow", workflow_id=workflow_id, template=_near(template, known))
        _unknown("template", "template", template, list(known), following)
    return known[template]


def _near(name: str, known: Collection[str]) -> str:
    return meant(name, list(known)) or nearest(name, list(known), cutoff=NEAR_ENOUGH)


def _unknown(field: str, noun: str, name: str, known: list[str], following: str) -> NoReturn:
    near = _near(name, known)
    raise Refused(
        Refusal(
            reason="INVALID_ARGUMENT",
            message=f"There is no {noun} {name[:63]}.",
            field=field,
            hint=f"Did you mean {near}?" if near else f"Known: {', '.join(known)}.",
            next=following,
        )
    )


def _needs_version(workflow_id: str) -> NoReturn:
    raise Refused(
        Refusal(
            reason="ALREADY_EXISTS",
            message=f"The workflow {workflow_id} exists; changing it takes if_version.",
            field="if_version",
            hint="A preview without if_version shows what would change and names the version.",
            next="the same draft-workflow call with mode preview",
        )
    ) from None


async def _stored(client: Client, workflow_id: str) -> workflow_pb2.Workflow | None:
    """Return a workflow with its draft; None where there is none."""
    try:
        return await client.workflows.GetWorkflow(workflow_pb2.GetWorkflowRequest(workflow_id=workflow_id))
    except grpc.aio.AioRpcError as error:
        if ApiError.of(error).reason != "NOT_FOUND":
            raise
        return None


async def _before(client: Client, stored: workflow_pb2.Workflow | None) -> tuple[str, str]:
    """Return the text to compare with, and what it is: what would be overwritten, else the published version."""
    if stored is None:
        return "", ""
    if not stored.published_version:
        return stored.source, "the stored draft"
    if theirs := drafted(stored):
        return stored.source, f"the unpublished draft {theirs}"
    return await _published_source(client, stored), f"published version {stored.published_version}"


async def _published_source(client: Client, workflow: workflow_pb2.Workflow) -> str:
    """Return the text of a workflow's newest version; empty where there is none."""
    if not workflow.published_version:
        return ""
    request = workflow_pb2.GetWorkflowRequest(workflow_id=workflow.id, version=workflow.published_version)
    return (await client.workflows.GetWorkflow(request)).source


def _etag(version: str) -> str:
    return f'"{version}"' if version and not version.startswith('"') else version


def _shown_version(etag: str) -> str:
    return etag.strip('"')


@AUTHOR.tool(
    "propose-workflow",
    "Publish a workflow: go live",
    "WorkflowService.PublishWorkflow",
    "WorkflowService.ValidateWorkflow",
    "WorkflowService.GetWorkflow",
    "WorkflowService.GetWorkflowStatistics",
    destructive=True,
    idempotent=True,
    open_world=True,
)
async def propose_workflow(
    client: Client,
    workflow_id: str,
    if_version: IfVersion = "",
    reason: Reason = "",
    mode: Mode = "preview",
    idempotency_key: IdempotencyKey = "",
) -> Proposal:
    """Launch a draft or new version, or ask for the approval a policy wants; previews the diff and whom it concerns."""
    draft = await client.workflows.GetWorkflow(workflow_pb2.GetWorkflowRequest(workflow_id=workflow_id))
    key = committing(mode, idempotency_key)
    request = workflow_pb2.PublishWorkflowRequest(
        workflow_id=workflow_id, etag=_etag(if_version), request_id=key, validate_only=not key
    )
    if mode == "commit":
        published, replayed = await settled(client.workflows.PublishWorkflow(request))
        return Proposal(
            mode=mode,
            replayed=replayed,
            workflow_id=workflow_id,
            before=published.version - 1,
            after=published.version,
            valid=True,
            version=_shown_version(published.etag),
            idempotency_key=key,
            way_back=invocation("draft-workflow", workflow_id=workflow_id, version=published.version - 1)
            if published.version > 1
            else "",
            next=invocation("enroll", workflow_id=workflow_id, contacts=placeholder("contacts"), mode="preview"),
        )
    checked = await client.workflows.ValidateWorkflow(workflow_pb2.ValidateWorkflowRequest(source=draft.source))
    approval = await _approval_wanted(client, request) if checked.valid else ""
    was = await _published_source(client, draft)
    statistics = await client.workflows.GetWorkflowStatistics(
        workflow_pb2.GetWorkflowStatisticsRequest(workflow_id=workflow_id)
    )
    kept = {step.id for step in draft.document.steps}
    held = _shown_version(draft.etag)
    unchanged = bool(was) and was == draft.source
    return Proposal(
        mode=mode,
        workflow_id=workflow_id,
        draft=drafted(draft),
        before=draft.published_version,
        after=draft.published_version + 1,
        valid=checked.valid,
        problems=problems_of(checked.problems),
        diff=difference(was, draft.source) if was else [],
        running=sum(count for state, count in statistics.states.items() if state in RUNNING),
        steps_removed={
            step.step_id: step.standing_count for step in statistics.steps if step.step_id not in kept and was
        },
        approval=approval,
        version=held,
        next=_after_proposal(workflow_id, checked.valid, held, reason, unchanged),
    )


async def _approval_wanted(client: Client, request: workflow_pb2.PublishWorkflowRequest) -> str:
    """Try a publication without doing it; return why a person would have to agree first, empty when nobody must."""
    try:
        await client.workflows.PublishWorkflow(request)
    except grpc.aio.AioRpcError as error:
        told = ApiError.of(error)
        if told.reason != "APPROVAL_REQUIRED":
            raise
        return told.variables.get("why", "") or told.message
    return ""


def _after_proposal(workflow_id: str, valid: bool, if_version: str, reason: str, unchanged: bool) -> str:
    if not valid:
        return "draft-workflow with the source corrected at the named paths"
    if unchanged:
        return "Nothing to publish: the draft is the published version."
    return invocation(
        "propose-workflow",
        workflow_id=workflow_id,
        if_version=if_version,
        reason=reason,
        mode="commit",
        idempotency_key=new_key("propose"),
    )
