"""Workflows from draft to archive, and the versions that the engine runs, on both databases."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from core.clock import ManualClock
from core.domain.errors import AlreadyExists, EtagMismatch, Invalid, NotFound
from core.domain.records.definitions import Definition, FieldKind
from core.rpc.call import Call, Caller
from core.rpc.convert import to_struct
from core.rpc.workflows import workflow_reference
from core.rpc.workflows import workflows as service
from core.store.database import Database
from core.store.metadata import metadata
from core.store.records import record_schema
from core.store.transaction import Transaction
from core.store.webhooks import endpoints
from core.store.workflows import drafts, hearing
from core.store.workflows.workflows import VersionCache
from dripstone.v1 import workflow_pb2 as pb

pytestmark = [pytest.mark.anyio, pytest.mark.one_database]

SOURCE = """
title: Nurture   # the comment stays
triggers:
  - {event: form.submitted, when: event.fields.plan == "pro"}
  - {event: form.submitted, when: event.fields.plan == "team"}
  - {event: trial.started}
steps:
  - {id: pause, kind: wait, for: 2d}
  - {id: set, kind: update, set: {employees: 3, custom.ratio: 1.5, custom.big: 9007199254740991}}
"""


def _call(tx: Transaction, org_id: str = "org_1") -> Call:
    caller = Caller(org_id, "key_1", "service", "Tests", frozenset())
    parts: Any = SimpleNamespace(checking=asyncio.Semaphore(1))
    return Call(caller=caller, now=tx.now, parts=parts, request_id="r1", metadata={}, _tx=tx)


async def _write(database: Database, handler: Any, request: Any, org_id: str = "org_1") -> Any:
    async with database.write(org_id) as tx:
        return await handler(request, _call(tx, org_id))


async def _create(database: Database, workflow_id: str = "nurture", source: str = SOURCE, **more: Any) -> pb.Workflow:
    request = pb.CreateWorkflowRequest(workflow_id=workflow_id, source=source, **more)
    created: pb.Workflow = await _write(database, service.create_workflow, request)
    return created


async def _update(database: Database, source: str) -> pb.Workflow:
    request = pb.UpdateWorkflowRequest(workflow_id="nurture", source=source)
    updated: pb.Workflow = await _write(database, service.update_workflow, request)
    return updated


async def test_a_draft_is_kept_as_it_was_written(database: Database) -> None:
    created = await _create(database)
    assert (created.id, created.title, created.source) == ("nurture", "Nurture", SOURCE)
    assert (created.state, created.version, created.published_version) == (pb.WORKFLOW_STATE_DRAFT, 0, 0)
    assert [(step.id, step.kind) for step in created.document.steps] == [("pause", "wait"), ("set", "update")]
    read = await _write(database, service.get_workflow, pb.GetWorkflowRequest(workflow_id="nurture"))
    assert read == created


async def test_a_document_comes_back_as_yaml(database: Database) -> None:
    document = pb.WorkflowDocument(
        title="From the wire",
        steps=[
            pb.Step(id="pause", kind="wait", config=to_struct({"for": "2d"}), exits={"next": "say"}),
            pb.Step(id="say", kind="log", config=to_struct({"message": "x"})),
        ],
    )
    request = pb.CreateWorkflowRequest(document=document, publish=True)
    created = await _write(database, service.create_workflow, request)
    assert created.id.startswith("wfl_")
    assert created.source == (
        "title: From the wire\nsteps:\n- id: pause\n  kind: wait\n  for: 2d\n  next: say\n"
        "- id: say\n  kind: log\n  message: x\n"
    )
    assert created.document == document
    assert (created.version, created.state) == (1, pb.WORKFLOW_STATE_ACTIVE)


async def test_a_version_keeps_the_kinds_of_own_fields_it_was_published_with(database: Database) -> None:
    ends = Definition("ends", FieldKind.DATE)
    async with database.write("org_1") as tx:
        await record_schema.put_field(tx, "contact", ends, 1, by="key_1")
    source = "title: T\nsteps:\n  - {id: only, kind: filter, when: contact.custom.ends < now}\n"
    with pytest.raises(Invalid) as refused:
        await _create(database, source=source.replace("now", '"2026"'), publish=True)
    assert [(one.field, one.reason) for one in refused.value.violations] == [("steps[0].when", "EXPRESSION_TYPE")]
    await _create(database, source=source, publish=True)
    async with database.write("org_1") as tx:
        await record_schema.put_field(tx, "contact", replace(ends, archived=True), 1, by="key_1")
    async with database.read("org_1") as tx:
        version = await VersionCache().load(tx, "org_1", "nurture", 1)
    step: Any = version.steps["only"].step
    assert step.when.evaluate({"contact.custom.ends": "2026-03-01", "now": datetime(2026, 4, 1, tzinfo=UTC)}).holds


async def test_publishing_makes_versions_that_never_change(database: Database) -> None:
    await _create(database, publish=True)
    changed = SOURCE.replace("2d", "3d").replace("Nurture", "Slower")
    update = pb.UpdateWorkflowRequest(workflow_id="nurture", source=changed)
    draft = await _write(database, service.update_workflow, update)
    assert (draft.published_version, draft.version, draft.state) == (1, 0, pb.WORKFLOW_STATE_ACTIVE)
    published = await _write(database, service.publish_workflow, pb.PublishWorkflowRequest(workflow_id="nurture"))
    assert (published.published_version, published.version, published.title) == (2, 2, "Slower")
    for number, text in ((1, "2d"), (2, "3d")):
        get = pb.GetWorkflowRequest(workflow_id="nurture", version=number)
        version = await _write(database, service.get_workflow, get)
        assert version.document.steps[0].config["for"] == text
        assert version.version == number


async def test_publishing_a_draft_with_problems_fails_with_all_of_them(database: Database) -> None:
    source = "steps:\n  - {id: a, kind: wiat}\n  - {id: b, kind: webhook, event_type: x.y, endpoint: ep_none}\n"
    await _create(database, source=source)
    with pytest.raises(Invalid) as caught:
        await _write(database, service.publish_workflow, pb.PublishWorkflowRequest(workflow_id="nurture"))
    assert [(found.field, found.reason) for found in caught.value.violations] == [
        ("steps[0].kind", "UNKNOWN_KIND"),
        ("steps[1].endpoint", "UNKNOWN_ENDPOINT"),
    ]
    with pytest.raises(Invalid):
        await _create(database, workflow_id="other", source=source, publish=True)
    with pytest.raises(NotFound):
        await _write(database, service.get_workflow, pb.GetWorkflowRequest(workflow_id="other"))


async def test_validating_says_everything_and_stores_nothing(database: Database) -> None:
    async with database.read("org_1") as tx:
        call = _call(tx)
        answer = await service.validate_workflow(pb.ValidateWorkflowRequest(source="steps: [{id: a}]"), call)
        assert (answer.valid, [(one.path, one.reason, one.line, one.column) for one in answer.problems]) == (
            False,
            [("steps[0].kind", "MISSING_KEY", 1, 9)],
        )
        answer = await service.validate_workflow(pb.ValidateWorkflowRequest(source="a: [1"), call)
        assert [(one.path, one.reason, one.line) for one in answer.problems] == [("source", "SOURCE_SYNTAX", 2)]
        document = pb.WorkflowDocument(steps=[pb.Step(id="a", kind="log")])  # without a text there are no lines
        answer = await service.validate_workflow(pb.ValidateWorkflowRequest(document=document), call)
        assert [(one.path, one.line) for one in answer.problems] == [("steps[0].message", 0)]
        answer = await service.validate_workflow(pb.ValidateWorkflowRequest(source=SOURCE), call)
        assert answer == pb.ValidateWorkflowResponse(valid=True)
        step = "{id: ab, kind: split, ways: {a: 1, b: 1}, exits: {a: end, b: end}}"
        split = f"goals: [{{name: won, event: won}}]\nsteps: [{step}]"
        answer = await service.validate_workflow(pb.ValidateWorkflowRequest(source=split), call)
        assert (answer.valid, [(one.path, one.reason, one.line) for one in answer.warnings]) == (
            True,
            [("steps[0]", "NO_RESULT", 2)],
        )


@pytest.mark.parametrize(
    ("request_", "field", "reason"),
    [
        (pb.CreateWorkflowRequest(), "source", "REQUIRED"),
        (pb.CreateWorkflowRequest(source="a: 1", document=pb.WorkflowDocument()), "document", "CONFLICT"),
        (pb.CreateWorkflowRequest(source="a: 1", workflow_id="Not An Id"), "workflow_id", "BAD_ID"),
        (pb.CreateWorkflowRequest(source="a: 1", workflow_id="step_types"), "workflow_id", "RESERVED_NAME"),
        (
            pb.CreateWorkflowRequest(document=pb.WorkflowDocument(title="a\0b")),
            "document",
            "SOURCE_SYNTAX",
        ),
        (
            pb.CreateWorkflowRequest(
                document=pb.WorkflowDocument(steps=[pb.Step(id="a", kind="log", config=to_struct({"x": float("inf")}))])
            ),
            "document",
            "SOURCE_SYNTAX",
        ),
    ],
)
async def test_a_request_that_makes_no_sense_is_refused(
    database: Database, request_: pb.CreateWorkflowRequest, field: str, reason: str
) -> None:
    with pytest.raises(Invalid) as caught:
        await _write(database, service.create_workflow, request_)
    assert (caught.value.violations[0].field, caught.value.violations[0].reason) == (field, reason)


async def test_an_id_is_taken_once_in_each_organization(database: Database) -> None:
    await _create(database)
    with pytest.raises(AlreadyExists):
        await _create(database)
    request = pb.CreateWorkflowRequest(workflow_id="nurture", source=SOURCE)
    assert (await _write(database, service.create_workflow, request, "org_2")).id == "nurture"


async def test_a_change_for_another_etag_is_refused(database: Database) -> None:
    created = await _create(database)
    update = pb.UpdateWorkflowRequest(workflow_id="nurture", source=SOURCE, etag=created.etag)
    updated = await _write(database, service.update_workflow, update)
    assert updated.etag != created.etag
    with pytest.raises(EtagMismatch):
        await _write(database, service.update_workflow, update)
    publish = pb.PublishWorkflowRequest(workflow_id="nurture", etag=created.etag)
    with pytest.raises(EtagMismatch):
        await _write(database, service.publish_workflow, publish)


async def test_a_replaced_draft_says_whose_it_was_and_can_be_had_back(database: Database, clock: ManualClock) -> None:
    created = await _create(database, publish=True)
    assert (created.draft_author, created.draft_unpublished) == ("key_1", False)
    assert (created.publish_author, created.publish_time) == ("key_1", created.create_time)
    clock.advance(timedelta(hours=1))
    texts = [SOURCE.replace("2d", f"{days}d") for days in range(3, 6 + drafts.KEPT)]
    etags = [(await _update(database, text)).etag for text in texts]
    (listed,) = (await _write(database, service.list_workflows, pb.ListWorkflowsRequest())).workflows
    assert (listed.draft_unpublished, listed.draft_time.ToDatetime(UTC)) == (True, clock.now())
    asked = pb.GetWorkflowRequest(workflow_id="nurture", draft_etag=etags[-2])
    replaced = await _write(database, service.get_workflow, asked)
    assert (replaced.publish_author, replaced.HasField("publish_time")) == ("", False)
    first = await _write(database, service.get_workflow, pb.GetWorkflowRequest(workflow_id="nurture", version=1))
    assert (first.publish_author, first.publish_time) == ("key_1", created.create_time)
    assert (replaced.source, replaced.draft_author, replaced.version) == (texts[-2], "key_1", 0)
    for etag in (etags[0], '"99"', "1e9"):
        with pytest.raises(NotFound):
            await _write(database, service.get_workflow, pb.GetWorkflowRequest(workflow_id="nurture", draft_etag=etag))
    both = pb.GetWorkflowRequest(workflow_id="nurture", draft_etag=etags[-1], version=1)
    with pytest.raises(Invalid):
        await _write(database, service.get_workflow, both)
    clock.advance(timedelta(hours=1))
    same = await _update(database, texts[-1])
    assert same.draft_time == listed.draft_time, "written again, it is as old as it was"
    assert not (await _update(database, SOURCE)).draft_unpublished, "it is what is published"


async def test_the_list_has_no_documents_and_can_be_filtered_by_state(database: Database, clock: ManualClock) -> None:
    await _create(database, workflow_id="a")
    await _create(database, workflow_id="b", publish=True)
    await _create(database, workflow_id="c", publish=True)
    await _write(database, service.archive_workflow, pb.ArchiveWorkflowRequest(workflow_id="c"))

    async def listed(**request: Any) -> tuple[list[str], str]:
        async with database.read("org_1") as tx:
            answer = await service.list_workflows(pb.ListWorkflowsRequest(**request), _call(tx))
        assert not any(one.HasField("document") or one.source for one in answer.workflows)
        return [one.id for one in answer.workflows], answer.next_page_token

    assert await listed() == (["c", "b", "a"], "")
    assert await listed(filter='state = "active"') == (["b"], "")
    assert await listed(filter='state = "draft" OR state = "archived"') == (["c", "a"], "")
    first, token = await listed(page_size=2)
    assert first == ["c", "b"]
    assert await listed(page_size=2, page_token=token) == (["a"], "")


async def test_only_the_newest_version_of_an_active_workflow_is_triggered(database: Database) -> None:
    await _create(database, publish=True)
    await _create(database, workflow_id="draft")
    other = pb.CreateWorkflowRequest(workflow_id="other", source=SOURCE, publish=True)
    await _write(database, service.create_workflow, other, "org_2")
    asked = {("org_1", "form.submitted"), ("org_1", "trial.started"), ("org_2", "trial.started"), ("org_3", "x")}

    async def triggered() -> dict[tuple[str, str], list[tuple[str, int]]]:
        async with database.system() as tx:
            found = await hearing.of_events(tx, asked, {org for org, _ in asked})
        return {key: [(row.workflow_id, row.version) for row in rows] for key, rows in found.listeners.items()}

    assert await triggered() == {
        ("org_1", "form.submitted"): [("nurture", 1)],
        ("org_1", "trial.started"): [("nurture", 1)],
        ("org_2", "trial.started"): [("other", 1)],
    }
    source = SOURCE.replace("  - {event: trial.started}\n", "")
    await _write(database, service.update_workflow, pb.UpdateWorkflowRequest(workflow_id="nurture", source=source))
    await _write(database, service.publish_workflow, pb.PublishWorkflowRequest(workflow_id="nurture"))
    assert await triggered() == {
        ("org_1", "form.submitted"): [("nurture", 2)],
        ("org_2", "trial.started"): [("other", 1)],
    }
    archived = await _write(database, service.archive_workflow, pb.ArchiveWorkflowRequest(workflow_id="nurture"))
    assert archived.state == pb.WORKFLOW_STATE_ARCHIVED
    assert await triggered() == {("org_2", "trial.started"): [("other", 1)]}


async def test_a_version_is_loaded_for_callers_and_for_loops(database: Database) -> None:
    await _create(database, publish=True)
    versions = VersionCache(size=1)
    async with database.read("org_1") as tx:
        version = await versions.load(tx, "org_1", "nurture", 1)
    assert (version.workflow_id, version.number, version.entry) == ("nurture", 1, "pause")
    async with database.system() as tx:
        assert await versions.load(tx, "org_1", "nurture", 1) is version
        with pytest.raises(NotFound):
            await versions.load(tx, "org_2", "nurture", 1)


@pytest.mark.both_databases
async def test_two_publications_at_once_make_two_versions(database: Database) -> None:
    await _create(database)
    publish = pb.PublishWorkflowRequest(workflow_id="nurture")
    both = await asyncio.gather(*[_write(database, service.publish_workflow, publish) for _ in range(2)])
    assert sorted(one.version for one in both) == [1, 2]


async def test_publishing_tells_the_endpoints(database: Database) -> None:
    async with database.write("org_1") as tx:
        await endpoints.create(
            tx, "ep_1", url="https://x.test/", description="", event_types=[], retry_preset="standard", secret="whsec_x"
        )
    await _create(database, publish=True)
    table = metadata.tables["messages"]
    async with database.read("org_1") as tx:
        (message,) = await tx.all(table.select())
    assert message.event_type == "workflow.published"


async def test_every_step_kind_is_listed_with_its_schema(database: Database) -> None:
    async with database.read("org_1") as tx:
        answer = await workflow_reference.list_step_types(pb.ListStepTypesRequest(), _call(tx))
    kinds = {one.kind: one for one in answer.step_types}
    assert list(kinds["branch"].exits) == ["*", "else"]
    assert kinds["wait"].waits
    assert list(kinds["exit"].exits) == []
    assert list(kinds["log"].config_schema["required"]) == ["message"]
