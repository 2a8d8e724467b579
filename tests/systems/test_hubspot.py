"""HubSpot in step with the core: the whole story against the stand-in, and everything that goes wrong on the way."""

from __future__ import annotations

from datetime import timedelta

import pytest
from google.protobuf.duration_pb2 import Duration

from core.fakes import hubspot
from core.store.systems import connections
from dripstone.v1 import connection_pb2, organization_pb2, policy_pb2, record_pb2, system_pb2
from tests.running import RunningCore
from tests.systems.fixtures import BOTH, HUBSPOT_FIELDS, PULL, PUSH, Linked, linked_to_hubspot, mapping

pytestmark = [pytest.mark.anyio, pytest.mark.both_databases]
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""For what is not about the store."""

ADA = {"email": "ada@example.com", "firstname": "Ada", "numemployees": "12"}
SUCCEEDED, WAITING, FAILED = (
    system_pb2.SYNC_STATE_SUCCEEDED,
    system_pb2.SYNC_STATE_WAITING,
    system_pb2.SYNC_STATE_FAILED,
)


async def test_what_is_there_comes_here_and_what_changes_here_goes_there(core: RunningCore) -> None:
    async with linked_to_hubspot(core) as linked:
        linked.fake.seed("contacts", [ADA, {"email": "ben@example.com"}])
        checked = await linked.client.connections.CheckConnection(
            system_pb2.CheckConnectionRequest(connection_id=linked.connection.id)
        )
        assert (checked.ok, checked.account, list(checked.problems)) == (True, "HubSpot portal 4242", [])
        assert checked.rate_limit_left > 0

        shown = await linked.sync(PULL, preview=True)
        assert (shown.state, shown.pulled_count, await linked.contacts()) == (SUCCEEDED, 2, [])
        pulled = await linked.sync(PULL)
        assert (pulled.state, pulled.done_count, pulled.pulled_count, pulled.failed_count) == (SUCCEEDED, 2, 2, 0)
        ada = next(one for one in await linked.contacts() if one.fields["email"] == "ada@example.com")
        assert (ada.fields["first_name"], ada.fields["employees"]) == ("Ada", 12)
        assert [(ref.system, ref.id) for ref in ada.external_refs] == [("hubspot", "101")]
        changes = await linked.client.records.ListRecordChanges(record_pb2.ListRecordChangesRequest(record_id=ada.id))
        assert {one.cause for one in changes.changes} == {f"sync:{pulled.id}"}

        # What was pulled is not pushed back.
        nothing = await linked.sync(PUSH)
        assert (nothing.done_count, nothing.pushed_count) == (0, 0)
        await linked.upsert(email="ada@example.com", job_title="Founder", employees=13)
        await linked.upsert(email="new@example.com", first_name="Nia")
        pushed = await linked.sync(PUSH)
        assert (pushed.state, pushed.pushed_count, pushed.failed_count) == (SUCCEEDED, 2, 0)
        assert {item.outcome for item in await linked.items(pushed)} == {"updated_there", "created_there"}
        there = {one["email"]: one for one in linked.there("contacts")}
        assert (there["ada@example.com"]["jobtitle"], there["ada@example.com"]["numemployees"]) == ("Founder", "13")
        assert there["new@example.com"]["firstname"] == "Nia"
        assert len(there) == 3

        # And what was pushed is not taken for a change there.
        core.clock.advance(timedelta(minutes=5))
        again = await linked.sync(BOTH)
        assert (again.pulled_count, again.pushed_count, again.conflict_count, again.failed_count) == (0, 0, 0, 0)
        assert await linked.items(again) == []


async def test_when_both_sides_change_a_field_the_system_wins_and_both_values_are_told(core: RunningCore) -> None:
    rules = {"job_title": system_pb2.CONFLICT_RULE_OURS, "last_name": system_pb2.CONFLICT_RULE_NEWEST}
    async with linked_to_hubspot(core, rules=rules) as linked:
        (there,) = linked.fake.seed("contacts", [ADA])
        await linked.sync(PULL)
        core.clock.advance(timedelta(minutes=1))
        linked.fake.objects.change(
            "contacts", there, {"firstname": "Adele", "jobtitle": "CEO", "lastname": "Early", "numemployees": "20"}
        )
        core.clock.advance(timedelta(minutes=1))
        await linked.upsert(email="ada@example.com", first_name="Adriana", job_title="CTO", last_name="Late")
        both = await linked.sync(BOTH)
        assert (both.conflict_count, both.state) == (3, SUCCEEDED)
        (item,) = [one for one in await linked.items(both) if one.outcome == "updated_here"]
        told = {
            one.field: (one.our_value.string_value, one.their_value.string_value, one.winner) for one in item.conflicts
        }
        assert told == {
            "first_name": ("Adriana", "Adele", "theirs"),
            "job_title": ("CTO", "CEO", "ours"),
            "last_name": ("Late", "Early", "ours"),
        }
        (record,) = await linked.contacts()
        (other,) = linked.there("contacts")
        assert (record.fields["first_name"], record.fields["job_title"], record.fields["employees"]) == (
            "Adele",
            "CTO",
            20,
        )
        assert (other["firstname"], other["jobtitle"], other["lastname"]) == ("Adele", "CTO", "Late")
        core.clock.advance(timedelta(minutes=1))
        again = await linked.sync(BOTH)
        assert (again.pulled_count, again.pushed_count, again.conflict_count) == (0, 0, 0)


@pytest.mark.parametrize(
    "fault", ["timeout-after-commit@batch/upsert*2", "502-after-commit@batch/upsert", "502@batch/read*2"]
)
async def test_an_answer_that_never_comes_makes_no_second_record(core: RunningCore, fault: str) -> None:
    async with linked_to_hubspot(core) as linked:
        for number in range(3):
            await linked.upsert(email=f"p{number}@example.com", first_name=f"P{number}")
        linked.fake.watch.faults.add(fault)
        sync = await linked.sync(PUSH)
        assert sync.state == WAITING
        assert sync.wait_reason
        assert sync.resume_time.ToDatetime() > core.clock.now().replace(tzinfo=None)
        for _ in range(2):
            await core.pass_time(timedelta(seconds=30))
        sync = await linked.get(sync.id)
        assert (sync.state, sync.done_count, sync.failed_count) == (SUCCEEDED, 3, 0)
        assert sorted(one["email"] for one in linked.there("contacts")) == [f"p{n}@example.com" for n in range(3)]
        assert all(record.external_refs for record in await linked.contacts())
        assert (await linked.sync(PUSH)).done_count == 0


@ON_SQLITE
async def test_limits_hold_a_sync_until_they_pass(core: RunningCore) -> None:
    async with linked_to_hubspot(core) as linked:
        await linked.upsert(email="ada@example.com")
        linked.fake.ten_seconds.most = 0
        sync = await linked.sync(PUSH)
        assert (sync.state, sync.wait_reason) == (WAITING, "HubSpot's limit is reached (ten_secondly_rolling)")
        waits = sync.resume_time.ToDatetime() - core.clock.now().replace(tzinfo=None)
        assert timedelta(0) < waits <= timedelta(seconds=10)
        linked.fake.ten_seconds.most = 190
        await core.pass_time(timedelta(seconds=11))
        assert (await linked.get(sync.id)).state == SUCCEEDED


@ON_SQLITE
async def test_one_bad_record_stops_no_other_and_is_told_with_a_way_out(core: RunningCore) -> None:
    async with linked_to_hubspot(core, unique="dripstone_id") as linked:
        linked.fake.seed("contacts", [{"email": "taken@example.com"}])
        for name in ("good", "taken", "fine"):
            await linked.upsert(email=f"{name}@example.com")
        sync = await linked.sync(PUSH)
        assert (sync.state, sync.pushed_count, sync.failed_count) == (SUCCEEDED, 2, 1)
        (failed,) = [item for item in await linked.items(sync) if item.outcome == "failed"]
        assert failed.error.startswith("Contact already exists")
        assert "merge the two there" in failed.hint
        made = {one["email"]: one.get("dripstone_id", "") for one in linked.there("contacts")}
        assert made["good@example.com"].startswith("cnt_")
        again = await linked.sync(PUSH)  # it stays out of step, and is tried again
        assert (again.done_count, again.failed_count) == (1, 1)


@ON_SQLITE
async def test_a_token_that_ends_is_fetched_anew_and_one_that_is_refused_ends_the_sync(core: RunningCore) -> None:
    async with linked_to_hubspot(core) as linked:
        client_id, secret, refresh = hubspot.CLIENT
        given = system_pb2.Credentials(client_id=client_id, client_secret=secret, refresh_token=refresh)
        request = system_pb2.SetCredentialsRequest(
            connection_id=linked.connection.id, credentials=given, request_id="c1"
        )
        told = await linked.client.connections.SetCredentials(request)
        assert told.has_credentials
        assert secret not in str(told)
        linked.fake.rotates = True
        linked.fake.seed("contacts", [ADA])
        assert (await linked.sync(PULL)).state == SUCCEEDED
        core.clock.advance(timedelta(minutes=31))
        assert (await linked.sync(PULL, full=True)).state == SUCCEEDED
        linked.fake.tokens.clear()  # revoked there, though it would still last
        assert (await linked.sync(PULL, full=True)).state == SUCCEEDED
        assert sum(seen.path == "/oauth/v1/token" for seen in linked.fake.watch.seen) == 3
        assert await _two_at_once(core, linked) == 2  # each used up the refresh token that the other had read
        assert (await linked.sync(PULL, full=True)).state == SUCCEEDED
        request = system_pb2.SetCredentialsRequest(
            connection_id=linked.connection.id, credentials=system_pb2.Credentials(token="wrong")
        )
        await linked.client.connections.SetCredentials(request)
        sync = await linked.sync(PULL)
        assert sync.state == FAILED
        assert sync.error == "the system does not take the credentials. Set new ones with SetCredentials."
        async with core.core.database.write(core.organization.org_id) as tx:
            rows = await tx.fetch("SELECT body, wrapped FROM credentials")
            keys = await tx.fetch("SELECT reply FROM idempotency_keys")
        assert secret.encode() not in b"".join(bytes(cell) for row in (*rows, *keys) for cell in row if cell)


async def _two_at_once(core: RunningCore, linked: Linked) -> int:
    """Sign in twice with what was read once, as two processes do; return how many refresh tokens that took."""
    opener = core.core.parts.systems
    assert opener is not None
    before = linked.fake._granted
    async with core.core.database.read(core.organization.org_id) as tx:
        row = await connections.get(tx, linked.connection.id)
        assert row is not None
        both = [await opener.open(tx, row, core.clock.now()) for _ in range(2)]
    for system in both:
        opener.tokens.drop((core.organization.org_id, linked.connection.id))
        await system.account()
    return linked.fake._granted - before


async def test_it_pulls_by_itself_and_pushes_what_changes(core: RunningCore) -> None:
    async with linked_to_hubspot(core, pull_every=Duration(seconds=300), push_changes=True) as linked:
        linked.fake.seed("contacts", [ADA])
        await core.pass_time(timedelta(minutes=6))
        assert len(await linked.contacts()) == 1
        syncs = await linked.client.connections.ListSyncs(
            system_pb2.ListSyncsRequest(connection_id=linked.connection.id)
        )
        assert [(one.actor, one.direction) for one in syncs.syncs] == [("schedule", BOTH)]
        await core.pass_time(timedelta(minutes=1))
        await linked.upsert(email="ben@example.com")
        await core.pass_time(timedelta(minutes=1))
        assert sorted(one["email"] for one in linked.there("contacts")) == ["ada@example.com", "ben@example.com"]
        syncs = await linked.client.connections.ListSyncs(system_pb2.ListSyncsRequest())
        assert [one.direction for one in syncs.syncs] == [PUSH, BOTH]
        await core.pass_time(timedelta(minutes=1))
        assert len((await linked.client.connections.ListSyncs(system_pb2.ListSyncsRequest())).syncs) == 2
        # What a sync writes is paid for by who set the connection, also where it begins by itself.
        me = await linked.client.organization.GetCaller(organization_pb2.GetCallerRequest())
        budget = policy_pb2.Budget(principal_id=me.principal_id, metric="records", daily_limit=1)
        await linked.client.approvals.SetBudget(policy_pb2.SetBudgetRequest(budget=budget))
        linked.fake.seed("contacts", [{"email": f"new{number}@example.com"} for number in range(3)])
        for there in (3, 4):
            await core.pass_time(timedelta(minutes=6))
            (last, *_) = (await linked.client.connections.ListSyncs(system_pb2.ListSyncsRequest())).syncs
            # Of a page that is more, what there is room for.
            assert (last.state, last.pulled_count) == (system_pb2.SYNC_STATE_FAILED, 1)
            assert "No more records may be written today" in last.error
            assert len(await linked.contacts()) == there
            core.clock.advance(timedelta(days=1))


@ON_SQLITE
async def test_a_check_names_what_of_the_mapping_does_not_fit(core: RunningCore) -> None:
    async with linked_to_hubspot(core) as linked:
        fields = {**HUBSPOT_FIELDS, "city": "citty", "source": "createdate"}
        changed = connection_pb2.Connection(id=linked.connection.id)
        changed.system.CopyFrom(linked.connection.system)
        del changed.system.mappings[:]
        changed.system.mappings.append(mapping(fields, "contacts", "city"))
        await linked.client.connections.UpdateConnection(
            connection_pb2.UpdateConnectionRequest(connection=changed, update_mask={"paths": ["system"]})
        )
        checked = await linked.client.connections.CheckConnection(
            system_pb2.CheckConnectionRequest(connection_id=linked.connection.id)
        )
        assert not checked.ok
        assert [(one.path, one.reason) for one in checked.problems] == [
            ("mappings[0].unique_property", "PROPERTY_NOT_UNIQUE"),
            ("mappings[0].fields[5].property", "PROPERTY_UNKNOWN"),
            ("mappings[0].fields[6].property", "PROPERTY_READ_ONLY"),
        ]
        assert "city" in checked.problems[1].hint


@ON_SQLITE
async def test_what_was_deleted_here_does_not_come_back(core: RunningCore) -> None:
    async with linked_to_hubspot(core) as linked:
        (there,) = linked.fake.seed("contacts", [ADA])
        await linked.sync(PULL)
        (ada,) = await linked.contacts()
        await linked.client.records.DeleteRecord(record_pb2.DeleteRecordRequest(record_id=ada.id))
        core.clock.advance(timedelta(minutes=1))
        linked.fake.objects.change("contacts", there, {"firstname": "Adele"})
        core.clock.advance(timedelta(minutes=1))
        sync = await linked.sync(PULL)
        (item,) = await linked.items(sync)
        assert (item.outcome, item.error) == ("skipped", f"{ada.id} was deleted here")
        assert await linked.contacts() == []


@ON_SQLITE
async def test_more_than_a_page_comes_by_list_and_by_search(core: RunningCore) -> None:
    async with linked_to_hubspot(core) as linked:
        people = linked.fake.seed("contacts", [{"email": f"p{number}@example.com"} for number in range(120)])
        assert (await linked.sync(PULL)).pulled_count == 120
        core.clock.advance(timedelta(minutes=5))
        for number, person in enumerate(people):
            core.clock.advance(timedelta(milliseconds=number % 2))  # some of one instant
            linked.fake.objects.change("contacts", person, {"firstname": f"P{number}"})
        core.clock.advance(timedelta(minutes=5))
        sync = await linked.sync(PULL)
        assert (sync.state, sync.pulled_count, sync.failed_count) == (SUCCEEDED, 120, 0)
        assert {one.fields["first_name"] for one in await linked.contacts()} == {f"P{number}" for number in range(120)}
