"""Deletions travel the way that the connection says; what the other side has changed meanwhile is decided by a rule."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from dripstone.v1 import record_pb2, system_pb2
from tests.running import RunningCore
from tests.systems.fixtures import BOTH, PULL, PUSH, Linked, linked_to_hubspot, linked_to_salesforce

pytestmark = pytest.mark.anyio
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


async def deleted(linked: Linked, *emails: str) -> None:
    """Delete contacts here."""
    for one in await linked.contacts():
        if one.fields["email"] in [f"{name}@example.com" for name in emails]:
            await linked.client.records.DeleteRecord(record_pb2.DeleteRecordRequest(record_id=one.id))


async def here(linked: Linked) -> list[str]:
    """Return who is here."""
    return sorted(one.fields["email"].partition("@")[0] for one in await linked.contacts())


def there(linked: Linked, name: str = "contacts", email: str = "email") -> list[str]:
    """Return who is there."""
    return sorted(one[email].partition("@")[0] for one in linked.there(name))


async def outcomes(linked: Linked, sync: system_pb2.Sync) -> list[tuple[str, str]]:
    """Return what became of records, and why."""
    return sorted((one.outcome, one.error) for one in await linked.items(sync))


@pytest.mark.both_databases
async def test_what_is_deleted_on_one_side_is_deleted_on_the_other(core: RunningCore) -> None:
    async with linked_to_hubspot(core, deletions=BOTH) as linked:
        people = [{"email": f"{name}@example.com"} for name in ("ann", "ben", "cid", "dan", "eve")]
        ids = dict(zip(("ann", "ben", "cid", "dan", "eve"), linked.fake.seed("contacts", people), strict=True))
        await linked.sync(BOTH)
        core.clock.advance(timedelta(minutes=5))
        linked.fake.objects.archive("contacts", ids["ann"])
        linked.fake.objects.archive("contacts", ids["eve"])
        linked.fake.objects.change("contacts", ids["cid"], {"firstname": "Cid"})
        linked.fake.objects.archive("contacts", ids["dan"])
        await deleted(linked, "ben", "cid", "eve")
        await linked.upsert(email="dan@example.com", first_name="Dan")  # changed here: the system of record wins

        shown = await linked.sync(BOTH, preview=True)
        assert ("deleted_there", "") in await outcomes(linked, shown)
        assert (shown.preview, shown.pulled_count) == (True, 2)
        assert (await here(linked), there(linked)) == (["ann", "dan"], ["ben", "cid"])
        sync = await linked.sync(BOTH)
        assert (sync.state, sync.failed_count) == (system_pb2.SYNC_STATE_SUCCEEDED, 0)
        assert await outcomes(linked, sync) == [
            ("conflict", "it was deleted here and changed there"),
            ("deleted_here", ""),
            ("deleted_here", ""),
            ("deleted_there", ""),
        ]
        assert (await here(linked), there(linked)) == ([], ["cid"])
        core.clock.advance(timedelta(minutes=5))
        again = await linked.sync(BOTH)  # nothing travels in a circle; what stays changed there is told
        assert [outcome for outcome, _ in await outcomes(linked, again)] == ["skipped"]

        linked.fake.objects.restore("contacts", ids["ann"])
        core.clock.advance(timedelta(minutes=5))
        await linked.sync(BOTH)
        assert (await here(linked), there(linked)) == (["ann"], ["ann", "cid"])


@ON_SQLITE
@pytest.mark.parametrize(
    ("rule", "kept_here", "kept_there"),
    [
        (system_pb2.CONFLICT_RULE_SYSTEM_OF_RECORD, [], ["ben"]),
        (system_pb2.CONFLICT_RULE_OURS, ["ann"], []),
        (system_pb2.CONFLICT_RULE_NEWEST, ["ann"], []),  # both were done here, a minute later
    ],
)
async def test_a_rule_decides_where_the_other_side_has_changed_the_record(
    core: RunningCore, rule: Any, kept_here: list[str], kept_there: list[str]
) -> None:
    async with linked_to_hubspot(core, deletions=BOTH, deletion_conflict=rule) as linked:
        ann, ben = linked.fake.seed("contacts", [{"email": "ann@example.com"}, {"email": "ben@example.com"}])
        await linked.sync(BOTH)
        core.clock.advance(timedelta(minutes=5))
        linked.fake.objects.archive("contacts", ann)
        linked.fake.objects.change("contacts", ben, {"firstname": "Ben"})
        core.clock.advance(timedelta(minutes=1))
        await linked.upsert(email="ann@example.com", first_name="Ann")
        await deleted(linked, "ben")
        await linked.sync(BOTH)
        assert (await here(linked), there(linked)) == (kept_here, kept_there)


@ON_SQLITE
async def test_deletions_stay_where_they_are_unless_the_connection_says_otherwise(core: RunningCore) -> None:
    async with linked_to_hubspot(core) as linked:
        ann, _ = linked.fake.seed("contacts", [{"email": "ann@example.com"}, {"email": "ben@example.com"}])
        await linked.sync(BOTH)
        linked.fake.objects.archive("contacts", ann)
        await deleted(linked, "ben")
        sync = await linked.sync(BOTH, full=True)
        assert await outcomes(linked, sync) == []
        assert (await here(linked), there(linked)) == (["ann"], ["ben"])


@ON_SQLITE
async def test_the_recycle_bin_of_salesforce_and_deletions_here_meet(core: RunningCore) -> None:
    async with linked_to_salesforce(core, deletions=BOTH) as linked:
        made = [{"LastName": name, "Company": "Acme", "Email": f"{name}@example.com"} for name in ("ann", "ben", "cid")]
        ann, ben, _ = linked.fake.seed("Lead", made)
        await linked.sync(BOTH)
        core.clock.advance(timedelta(minutes=5))
        linked.fake.objects.delete("Lead", ann)
        linked.fake.objects.delete("Lead", ben)
        await deleted(linked, "ben", "cid")
        pulled = await linked.sync(PULL)
        assert (pulled.pulled_count, await here(linked)) == (1, [])
        pushed = await linked.sync(PUSH)
        assert (pushed.pushed_count, pushed.failed_count, there(linked, "Lead", "Email")) == (1, 0, [])
        (gone,) = [one for one in await linked.items(pulled) if one.outcome == "deleted_here"]
        await linked.client.records.RestoreRecord(record_pb2.RestoreRecordRequest(record_id=gone.record_id))
        asked = record_pb2.ListRecordChangesRequest(record_id=gone.record_id)
        changes = (await linked.client.records.ListRecordChanges(asked)).changes
        assert f"sync:{pulled.id}" in {one.cause for one in changes}
        await linked.sync(PUSH)
        assert there(linked, "Lead", "Email") == ["ann"]  # restored here, it is made anew there
