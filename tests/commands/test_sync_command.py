"""`dripstone sync` begins a sync, watches it to its end and tells what became of the records."""

from __future__ import annotations

import asyncio
import json

import pytest
from click.testing import CliRunner, Result

from core.commands.sync import sync
from tests.running import RunningCore
from tests.systems.fixtures import linked_to_hubspot

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_sync_is_begun_watched_and_told_as_tables_and_as_json(core: RunningCore) -> None:
    environment = {"DRIPSTONE_TARGET": core.grpc_target, "DRIPSTONE_API_KEY": core.api_key, "COLUMNS": "200"}

    async def ran(*arguments: str) -> Result:
        running = asyncio.create_task(asyncio.to_thread(CliRunner().invoke, sync, list(arguments), env=environment))
        while not running.done():
            await core.core.outward.syncer.turn()
            await asyncio.wait([running], timeout=0.02)
        return running.result()

    assert "There is no connection to a system of record." in (await ran("start")).output
    async with linked_to_hubspot(core, unique="dripstone_id") as linked:
        linked.fake.seed("contacts", [{"email": "ada@example.com"}, {"email": "bob@example.com"}])
        shown = await ran("start", "--direction", "pull", "--preview")
        assert (shown.exit_code, len(await linked.contacts())) == (0, 0)
        assert "succeeded, 2 looked at: 2 changed here, 0 there" in shown.output
        assert "Nothing was changed." in shown.output

        await linked.upsert(email="ada@example.com", first_name="Ada")
        begun = await ran("start", linked.connection.id, "--direction", "push", "--no-wait")
        sync_id = begun.output.split()[0]
        assert "is under way" in begun.output
        watched = await ran("watch", sync_id)
        assert watched.exit_code == 1
        assert "Contact already exists. Existing ID: 101" in watched.output
        assert "merge the two there, then sync again" in watched.output
        told = json.loads((await ran("watch", sync_id, "--json")).output)
        assert (told["id"], told["state"], told["failed_count"], told["direction"]) == (sync_id, "succeeded", 1, "push")
        assert [one["outcome"] for one in told["items"]] == ["failed"]

        table = (await ran("list", "CRM")).output
        assert all(part in table for part in (linked.connection.id, "hubspot", "succeeded (preview)", sync_id)), table
        whole = json.loads((await ran("list", "--json")).output)
        assert sorted(one["preview"] for one in whole["syncs"]) == [False, True]
        unknown = await ran("list", "ERP")
        assert (unknown.exit_code, f"there are {linked.connection.id} (CRM)" in unknown.output) == (1, True)
