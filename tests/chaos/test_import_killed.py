"""An import goes on where it was when its process is killed, and makes nobody twice."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from dripstone.v1 import record_pb2, transfer_pb2
from tests.chaos.server_process import ServerProcess

pytestmark = [pytest.mark.anyio, pytest.mark.kill9]

ROWS = 1_200


@pytest.mark.parametrize(
    "database_url", ["sqlite", *(["postgresql"] if "DRIPSTONE_KILLS" in os.environ else [])], indirect=True
)
async def test_a_killed_import_is_carried_on_to_its_end(database_url: str, tmp_path: Path) -> None:
    server = ServerProcess(tmp_path, database_url)
    await server.start()
    lines = [f'{{"last_name": "N{number}", "email": "n{number}@example.com"}}' for number in range(ROWS)]
    async with asyncio.timeout(60), server.client() as client:
        made = await client.records.CreateImport(
            transfer_pb2.CreateImportRequest(
                format=transfer_pb2.IMPORT_FORMAT_NDJSON,
                content="\n".join(lines).encode(),
                type="contact",
                trigger_behaviour=transfer_pb2.TRIGGER_BEHAVIOUR_NONE,
                start=True,
            )
        )
        assert made.state == transfer_pb2.IMPORT_STATE_CHECKING  # so many rows are checked after the answer
        while made.state != transfer_pb2.IMPORT_STATE_RUNNING or not made.done_count:
            made = await client.records.GetImport(transfer_pb2.GetImportRequest(import_id=made.id))
    await server.kill()
    await server.start()
    async with asyncio.timeout(60), server.client() as client:
        while made.state == transfer_pb2.IMPORT_STATE_RUNNING:
            made = await client.records.GetImport(transfer_pb2.GetImportRequest(import_id=made.id))
        assert (made.state, made.created_count, made.done_count) == (transfer_pb2.IMPORT_STATE_SUCCEEDED, ROWS, ROWS)
        found: list[str] = []
        request = record_pb2.ListRecordsRequest(type="contact", page_size=500)
        while True:
            page = await client.records.ListRecords(request)
            found += [str(record.fields["email"]) for record in page.records]
            request.page_token = page.next_page_token
            if not request.page_token:
                break
    assert sorted(found) == sorted(f"n{number}@example.com" for number in range(ROWS))
    assert await server.terminate() == 0
