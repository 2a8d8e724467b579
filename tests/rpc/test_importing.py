"""Imports: looked at first, carried out in slices, never doubled, and triggers fire as was said."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from grpc.aio import AioRpcError
from sqlalchemy import select, update

from core.domain.control.budget import KINDS
from core.store.control import budgets
from core.store.records import imports
from dripstone.v1 import enrollment_pb2, record_pb2, transfer_pb2, workflow_pb2
from dripstone.v1.client import Client
from tests.running import RunningCore

pytestmark = [pytest.mark.anyio, pytest.mark.both_databases]

HEARING = """
title: Hearing
triggers:
  - record: contact
steps:
  - {id: wait, kind: wait, for: 9d}
"""


def _request(content: str, **more: Any) -> transfer_pb2.CreateImportRequest:
    given = {
        "format": transfer_pb2.IMPORT_FORMAT_CSV,
        "type": "contact",
        "trigger_behaviour": transfer_pb2.TRIGGER_BEHAVIOUR_NONE,
    }
    return transfer_pb2.CreateImportRequest(content=content.encode(), **{**given, **more})


async def _get(client: Client, import_id: str) -> transfer_pb2.Import:
    return await client.records.GetImport(transfer_pb2.GetImportRequest(import_id=import_id))


async def _contacts(client: Client) -> list[dict[str, Any]]:
    listed = await client.records.ListRecords(record_pb2.ListRecordsRequest(type="contact", page_size=500))
    return sorted(({**one.fields} for one in listed.records), key=lambda fields: str(fields.get("email")))


async def test_every_row_is_told_before_anything_is_done_and_all_of_it_can_be_taken_back(core: RunningCore) -> None:
    async with core.client() as client:
        known = record_pb2.UpsertRecordRequest(type="contact")
        known.fields.update({"email": "known@example.com", "city": "Rome"})
        await client.records.UpsertRecord(known)
        known.fields.update({"email": "same@example.com"})
        await client.records.UpsertRecord(known)
        table = (
            "E-mail,First Name,City,Plan\r\n"
            "new@example.com,=cmd(),Oslo,pro\r\n"
            "known@example.com,Kim,Rome,\r\n"
            "same@example.com,,Rome,\r\n"
            "no mail,X,Y,\r\n"
            "NEW@example.com,Twice,,\r\n"
        )
        request = _request(table, columns=[transfer_pb2.ImportColumn(column="Plan", field="custom.plan")])
        made = await client.records.CreateImport(request)
        assert made.state == transfer_pb2.IMPORT_STATE_CHECKED
        counts = (made.row_count, made.created_count, made.updated_count, made.unchanged_count, made.bad_count)
        assert counts == (5, 1, 1, 1, 2)
        rows = (await client.records.ListImportRows(transfer_pb2.ListImportRowsRequest(import_id=made.id))).rows
        assert [row.outcome for row in rows] == ["create", "update", "unchanged", "bad", "duplicate_in_file"]
        assert (rows[3].faults[0].column, rows[3].faults[0].reason) == ("E-mail", "INVALID_EMAIL")
        assert len(await _contacts(client)) == 2
        with pytest.raises(AioRpcError, match="2 rows that cannot be taken"):
            await client.records.StartImport(transfer_pb2.StartImportRequest(import_id=made.id))
        request.skip_bad_rows = request.start = True
        made = await client.records.CreateImport(request)
        await core.settle()
        done = await _get(client, made.id)
        assert done.state == transfer_pb2.IMPORT_STATE_SUCCEEDED
        assert (done.created_count, done.updated_count, done.unchanged_count, done.bad_count) == (1, 1, 1, 2)
        people = await _contacts(client)
        assert [one["email"] for one in people] == ["known@example.com", "new@example.com", "same@example.com"]
        assert people[0]["first_name"] == "Kim"
        assert people[1]["first_name"] == "=cmd()"
        assert people[1]["custom"]["plan"] == "pro"
        await client.records.RevertChanges(record_pb2.RevertChangesRequest(cause=f"import:{made.id}"))
        left = await _contacts(client)
        assert [one["email"] for one in left] == ["known@example.com", "same@example.com"]
        assert "first_name" not in left[0]


@pytest.mark.parametrize(
    ("behaviour", "enrolled"),
    [
        (transfer_pb2.TRIGGER_BEHAVIOUR_NONE, 0),
        (transfer_pb2.TRIGGER_BEHAVIOUR_NEW, 1),
        (transfer_pb2.TRIGGER_BEHAVIOUR_ALL, 2),
    ],
)
async def test_workflows_start_as_was_said(core: RunningCore, behaviour: int, enrolled: int) -> None:
    async with core.client() as client:
        known = record_pb2.UpsertRecordRequest(type="contact")
        known.fields.update({"email": "known@example.com"})
        await client.records.UpsertRecord(known)
        await client.workflows.CreateWorkflow(
            workflow_pb2.CreateWorkflowRequest(workflow_id="hearing", source=HEARING, publish=True)
        )
        content = "email,city\nknown@example.com,Rome\nnew@example.com,Oslo\n"
        await client.records.CreateImport(_request(content, trigger_behaviour=behaviour, start=True))
        await core.settle()
        found = await client.enrollments.ListEnrollments(enrollment_pb2.ListEnrollmentsRequest(workflow_id="hearing"))
        assert len(found.enrollments) == enrolled


async def test_an_import_that_is_broken_off_goes_on_where_it_was_and_doubles_nothing(
    core: RunningCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [json.dumps({"email": f"n{number}@example.com", "last_name": f"N{number}"}) for number in range(210)]
    async with core.client() as client:
        request = _request("\n".join(lines), format=transfer_pb2.IMPORT_FORMAT_NDJSON, start=True)
        made = await client.records.CreateImport(request)
        await core.core.outward.importer.turn()
        note, broken = imports.note, []

        async def breaks(*args: Any, **values: Any) -> None:
            if not broken:
                broken.append(True)
                raise ConnectionResetError  # as if the process had died before the commit
            await note(*args, **values)

        monkeypatch.setattr(imports, "note", breaks)
        with pytest.raises(ConnectionResetError):
            await core.core.outward.importer.turn()
        assert (await _get(client, made.id)).done_count == 200
        await core.settle()
        done = await _get(client, made.id)
        assert (done.state, done.created_count) == (transfer_pb2.IMPORT_STATE_SUCCEEDED, 210)
        assert len(await _contacts(client)) == 210
        cancelled = await client.records.CreateImport(request)
        cancelled = await client.records.CancelImport(transfer_pb2.CancelImportRequest(import_id=cancelled.id))
        assert cancelled.state == transfer_pb2.IMPORT_STATE_CANCELLED
        looked_at = await client.records.CreateImport(_request("email,Employer\nx@example.com,Acme"))
        core.clock.advance(timedelta(days=8))
        await core.core.outward.scheduler.turn()
        async with core.core.database.read(core.organization.org_id) as tx:
            for one in (made, looked_at):
                assert {row.said for row in await imports.slice_of(tx, one.id, 0, 500)} == {None}
        assert (await _get(client, looked_at.id)).state == transfer_pb2.IMPORT_STATE_CANCELLED


async def test_a_budget_smaller_than_a_slice_lets_in_what_it_has_room_for_day_by_day(core: RunningCore) -> None:
    async with core.core.database.write(core.organization.org_id) as tx:
        for kind in KINDS:
            await budgets.put(tx, kind, "records", 2)
    async with core.client() as client:
        content = "email\na@example.com\nb@example.com\nc@example.com\n"
        made = await client.records.CreateImport(_request(content, start=True))
        async with core.core.database.write(core.organization.org_id) as tx:  # as by a key of a deployed agent
            await tx.run(update(imports.imports).values(actor_kind="agent", agent_id="quick"))
        await core.settle()
        async with core.core.database.read(core.organization.org_id) as tx:  # all keys of an agent share its budget
            assert [row.principal_id for row in await tx.all(select(budgets.budget_use))] == ["quick"]
        stopped = await _get(client, made.id)
        assert (stopped.state, stopped.created_count) == (transfer_pb2.IMPORT_STATE_FAILED, 2)
        assert "No more records may be written today" in stopped.error
        core.clock.advance(timedelta(days=1))
        await client.records.StartImport(transfer_pb2.StartImportRequest(import_id=made.id))
        await core.settle()
        done = await _get(client, made.id)
        assert (done.state, done.created_count, done.bad_count) == (transfer_pb2.IMPORT_STATE_SUCCEEDED, 3, 0)


async def test_a_file_over_http_is_taken_as_it_is_and_wrong_columns_are_named(core: RunningCore) -> None:
    async with core.http() as http:
        where = "/api/v1/crm/import/file?format=csv&type=contact&trigger_behaviour=none"
        answer = await http.post(where, content=b"email;frist_name\na@x.de;Ada\n", headers={"Content-Type": "text/csv"})
        assert answer.status_code == 400
        (told,) = answer.json()["error"]["details"]
        assert (told["field"], told["reason"]) == ("columns.frist_name", "UNKNOWN_COLUMN")
        answer = await http.post(where, content=b"email;first_name\na@x.de;Ada\n")
        assert answer.json()["created_count"] == 1


async def test_what_must_be_said_is_asked_for(core: RunningCore) -> None:
    async with core.client() as client:
        with pytest.raises(AioRpcError) as refused:
            await client.records.CreateImport(_request("email\na@x.de", type="", match_by="shoe", trigger_behaviour=7))
        assert refused.value.code().name == "INVALID_ARGUMENT"


async def test_rows_are_matched_by_a_unique_field_of_the_organization(core: RunningCore) -> None:
    async with core.client() as client, core.http() as http:
        field = {"field": {"name": "number", "kind": "string", "unique": True}}
        assert (await http.post("/api/v1/crm/record_types/contact/fields", json=field)).status_code < 300
        known = record_pb2.UpsertRecordRequest(type="contact")
        known.fields.update({"email": "known@example.com", "custom": {"number": "C-1"}})
        person = (await client.records.UpsertRecord(known)).record
        request = _request(
            "Number,City,E-mail\nC-1,Rome,\nC-2,Oslo,new@example.com\n",
            match_by="custom.number",
            columns=[transfer_pb2.ImportColumn(column="Number", field="custom.number")],
            start=True,
        )
        made = await client.records.CreateImport(request)
        await core.settle()
        done = await _get(client, made.id)
        assert done.state == transfer_pb2.IMPORT_STATE_SUCCEEDED
        assert (done.updated_count, done.created_count, done.bad_count) == (1, 1, 0)
        kept = await client.records.GetRecord(record_pb2.GetRecordRequest(record_id=person.id))
        assert kept.fields["city"] == "Rome"
