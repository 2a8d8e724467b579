"""Lists through the API: who cannot be put on one is named, each with what is the matter."""

from __future__ import annotations

import grpc
import pytest

from dripstone.v1 import record_pb2
from dripstone.v1.client import Client
from tests.running import RunningCore

pytestmark = [pytest.mark.anyio, pytest.mark.both_databases]


async def contact(client: Client, email: str) -> str:
    request = record_pb2.UpsertRecordRequest(type="contact")
    request.fields.update({"email": email})
    return (await client.records.UpsertRecord(request)).record.id


async def test_a_merged_contact_is_told_apart_from_one_there_is_not(core: RunningCore) -> None:
    async with core.client() as client, core.http() as http:
        kept, merged = [await contact(client, f"{name}@example.com") for name in ("ada", "bob")]
        merge = await client.records.MergeRecords(record_pb2.MergeRecordsRequest(kept_id=kept, merged_id=merged))
        answer = await http.post(
            "/api/v1/lists/vip/members",
            json={"add_contact_ids": [kept, merged, "cnt_nobody"], "remove_contact_ids": [merged]},
        )
        assert answer.status_code == 400
        told = [(one["field"], one["reason"], one["message"]) for one in answer.json()["error"]["details"]]
        assert told == [
            ("remove_contact_ids", "CONFLICT", f"{merged} is to be added and removed"),
            ("add_contact_ids[1]", "MERGED", f"{merged} is part of {kept} now: the two were merged."),
            ("add_contact_ids[2]", "UNKNOWN_CONTACT", "there is no contact cnt_nobody"),
            ("remove_contact_ids[0]", "MERGED", f"{merged} is part of {kept} now: the two were merged."),
        ]
        assert f"Use {kept} instead" in answer.json()["error"]["details"][1]["hint"]
        assert not (await client.records.ListLists(record_pb2.ListListsRequest())).lists
        await client.records.UndoMerge(record_pb2.UndoMergeRequest(merge_id=merge.id))
        change = record_pb2.ChangeListMembersRequest(list="vip", add_contact_ids=[kept, merged])
        assert (await client.records.ChangeListMembers(change)).added_count == 2


async def test_a_merge_into_a_contact_that_was_merged_itself_names_the_last_one(core: RunningCore) -> None:
    async with core.client() as client:
        kept, middle, merged = [await contact(client, f"{name}@example.com") for name in ("ada", "bob", "cleo")]
        for into, goes in ((middle, merged), (kept, middle)):
            await client.records.MergeRecords(record_pb2.MergeRecordsRequest(kept_id=into, merged_id=goes))
        change = record_pb2.ChangeListMembersRequest(list="vip", add_contact_ids=[merged])
        with pytest.raises(grpc.aio.AioRpcError, match=f"{merged} is part of {kept} now"):
            await client.records.ChangeListMembers(change)
