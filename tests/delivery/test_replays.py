"""Replays on both databases: what they take, at which rate, and what becomes of them; time is turned by hand."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from core.delivery.replayer import Replayer
from core.domain.errors import EndpointNotActive, Invalid, NotFound, TooManyReplays, WrongState
from core.domain.webhooks.states import DeliveryState
from core.rpc.convert import to_timestamp
from core.rpc.webhooks import replays as handlers
from core.store.webhooks import deliveries, endpoints, replays
from dripstone.v1 import webhook_pb2 as pb
from tests.delivery.calling import Calls
from tests.delivery.conftest import ORG

pytestmark = pytest.mark.anyio
OTHER_ORG = "org_other"


class Replaying:
    """What a test does to replays, and sees of them."""

    def __init__(self, outbox: Any, sender: Any):
        self.outbox = outbox
        self.calls = Calls(outbox, sender)
        self.replayer = Replayer(outbox.database, outbox.clock)

    async def create(self, endpoint_id: str, **values: Any) -> pb.Replay:
        request = pb.CreateReplayRequest(endpoint_id=endpoint_id, **values)
        return await self.calls(handlers.create_replay, request)

    async def get(self, replay_id: str) -> pb.Replay:
        return await self.calls(handlers.get_replay, pb.GetReplayRequest(replay_id=replay_id))

    async def control(self, replay_id: str, action: int, **values: Any) -> pb.Replay:
        request = pb.ControlReplayRequest(replay_id=replay_id, action=action, **values)
        return await self.calls(handlers.control_replay, request)

    async def ended(self, state: DeliveryState, count: int = 1, event_type: str = "deal.won") -> list[str]:
        """Emit messages and give their deliveries a final state, as if they had been tried; return the messages."""
        made = []
        for _ in range(count):
            self.outbox.clock.advance(timedelta(milliseconds=1))
            made.append(await self.outbox.emit(event_type))
        await self._set(made, state=state, ended_at=self.outbox.clock.now(), due_at=None, attempt_count=3)
        return made

    async def _set(self, messages: list[str], **values: Any) -> None:
        table = deliveries.deliveries
        async with self.outbox.database.write(ORG) as tx:
            await tx.run(table.update().where(table.c.message_id.in_(messages)).values(values))

    async def pending(self) -> list[str]:
        return [row.message_id for row in await self.outbox.rows() if row.state == "pending"]

    async def through(self) -> int:
        """Let time pass until no replay is running, twenty seconds at most; return how many were made due."""
        made = 0
        for _ in range(40):
            made += await self.replayer.drain()
            self.outbox.clock.advance(timedelta(seconds=0.5))
            async with self.outbox.database.system() as tx:
                if not await replays.running(tx):
                    break
        return made


@pytest.fixture
async def replaying(outbox: Any, sender: Any) -> Replaying:
    await outbox.organization(OTHER_ORG)
    return Replaying(outbox, sender)


async def test_what_failed_and_what_was_skipped_arrives_again_under_its_id(replaying, outbox, receiver):
    endpoint_id = await outbox.endpoint(receiver.url)
    failed = await replaying.ended(DeliveryState.FAILED, 2)
    skipped = await replaying.ended(DeliveryState.SKIPPED)
    await replaying.ended(DeliveryState.DELIVERED)
    replay = await replaying.create(endpoint_id)
    assert (replay.state, replay.total_count, replay.done_count) == (pb.REPLAY_STATE_RUNNING, 3, 0)
    assert (list(replay.states), replay.rate_per_second, replay.actor) == (["failed", "skipped"], 10.0, "key_1")
    assert await replaying.through() == 3
    await outbox.dispatcher.drain()
    assert sorted(receiver.ids()) == sorted(failed + skipped)
    done = await replaying.get(replay.id)
    assert (done.state, done.done_count, done.HasField("complete_time")) == (pb.REPLAY_STATE_COMPLETED, 3, True)
    rows = [row for row in await outbox.rows() if row.replay_id == replay.id]
    assert [(row.state, row.attempt_count, row.attempts_before) for row in rows] == [("delivered", 4, 3)] * 3


async def test_only_counting_starts_nothing(replaying, outbox, receiver):
    endpoint_id = await outbox.endpoint(receiver.url)
    await replaying.ended(DeliveryState.FAILED, 2)
    answer = await replaying.create(endpoint_id, validate_only=True)
    assert (answer.id, answer.total_count) == ("", 2)


CHOICES = [
    ({}, "fgs"),
    ({"states": ["delivered"]}, "d"),
    ({"states": ["failed", "failed", "delivered"]}, "dfg"),
    ({"event_types": ["deal.lost"]}, "g"),
    ({"start": 2}, "gs"),
    ({"end": 3}, "fg"),
    ({"start": 2, "end": 3}, "g"),
]


@pytest.mark.parametrize(("chosen", "taken"), CHOICES)
async def test_a_replay_takes_what_it_was_asked_for(replaying, outbox, receiver, chosen, taken):
    endpoint_id = await outbox.endpoint(receiver.url)
    began, hour = outbox.clock.now(), timedelta(hours=1)
    made = {"d": await replaying.ended(DeliveryState.DELIVERED)}
    for letter, state, event_type in (
        ("f", DeliveryState.FAILED, "deal.won"),
        ("g", DeliveryState.FAILED, "deal.lost"),
        ("s", DeliveryState.SKIPPED, "deal.won"),
    ):
        outbox.clock.advance(hour)
        made[letter] = await replaying.ended(state, event_type=event_type)
    outbox.clock.advance(hour)
    waiting = await outbox.emit()
    values = {name: value for name, value in chosen.items() if name not in ("start", "end")}
    bounds = {f"{name}_time": to_timestamp(began + hour * chosen[name]) for name in ("start", "end") if name in chosen}
    replay = await replaying.create(endpoint_id, **values, **bounds)
    await replaying.through()
    expected = sorted([*(made[letter][0] for letter in taken), waiting])
    assert (replay.total_count, sorted(await replaying.pending())) == (len(taken), expected)


async def test_what_waits_or_is_being_sent_is_left_alone(replaying, outbox, receiver):
    endpoint_id = await outbox.endpoint(receiver.url)
    await outbox.emit(awaited=True)
    before = await outbox.only()
    assert (await replaying.create(endpoint_id, states=["failed", "skipped", "delivered"])).total_count == 0
    await replaying.through()
    assert await outbox.only() == before


async def test_what_failed_after_the_replay_was_asked_for_is_not_its_concern(replaying, outbox, receiver):
    endpoint_id = await outbox.endpoint(receiver.url)
    await replaying.ended(DeliveryState.FAILED)
    replay = await replaying.create(endpoint_id)
    await replaying.ended(DeliveryState.FAILED)
    await replaying.through()
    assert (await replaying.get(replay.id)).done_count == len(await replaying.pending()) == 1


async def test_what_is_no_longer_kept_is_not_counted_and_not_sent(replaying, outbox, receiver):
    endpoint_id = await outbox.endpoint(receiver.url)
    (gone, _) = await replaying.ended(DeliveryState.FAILED, 2)
    async with outbox.database.write(ORG) as tx:
        await tx.run(deliveries.messages.delete().where(deliveries.messages.c.id == gone))
    assert (await replaying.create(endpoint_id)).total_count == 1
    assert await replaying.through() == 1


async def test_an_enrollment_that_has_gone_on_is_not_told_again(replaying, outbox, receiver):
    endpoint_id = await outbox.endpoint(receiver.url)
    await outbox.emit(awaited=True)
    await outbox.dispatcher.drain()
    assert len(outbox.finals) == 1
    await replaying.create(endpoint_id, states=["delivered"])
    await replaying.through()
    await outbox.dispatcher.drain()
    assert (len(receiver.received), len(outbox.finals)) == (2, 1)


@pytest.mark.parametrize(("rate", "seconds"), [(10.0, 2), (3.0, 3), (50.0, 1), (0.5, 5)])
async def test_several_processes_together_keep_to_the_rate(replaying, outbox, receiver, rate, seconds):
    endpoint_id = await outbox.endpoint(receiver.url)
    await replaying.ended(DeliveryState.FAILED, 60)
    await replaying.create(endpoint_id, rate_per_second=rate)
    processes = [Replayer(outbox.database, outbox.clock) for _ in range(3)]
    made: list[tuple[float, int]] = []
    for step in range(seconds * 20):
        counts = await asyncio.gather(*(process.turn() for process in processes))
        made.append((step / 20, sum(counts)))
        outbox.clock.advance(timedelta(milliseconds=50))
    for start, _ in made:
        assert sum(count for at, count in made if start <= at < start + 1) <= max(rate, 1)
    least = min(60, 0.8 * rate * seconds)
    assert sum(count for _, count in made) >= least


async def test_who_was_away_does_not_catch_up_in_a_burst(replaying, outbox, receiver):
    endpoint_id = await outbox.endpoint(receiver.url)
    await replaying.ended(DeliveryState.FAILED, 60)
    await replaying.create(endpoint_id, rate_per_second=20)
    outbox.clock.advance(timedelta(hours=1))
    assert await replaying.replayer.drain() <= 20


async def test_a_replay_is_paused_resumed_and_cancelled(replaying, outbox, receiver):
    endpoint_id = await outbox.endpoint(receiver.url)
    await replaying.ended(DeliveryState.FAILED, 60)
    replay = await replaying.create(endpoint_id)
    await replaying.replayer.drain()
    paused = await replaying.control(replay.id, pb.REPLAY_ACTION_PAUSE)
    assert paused.state == pb.REPLAY_STATE_PAUSED
    assert await replaying.through() == 0
    resumed = await replaying.control(replay.id, pb.REPLAY_ACTION_RESUME, rate_per_second=1)
    assert (resumed.state, resumed.rate_per_second) == (pb.REPLAY_STATE_RUNNING, 1)
    assert 15 <= await replaying.through() <= 21
    faster = await replaying.control(replay.id, pb.REPLAY_ACTION_RESUME, rate_per_second=2)
    assert faster.rate_per_second == 2
    cancelled = await replaying.control(replay.id, pb.REPLAY_ACTION_CANCEL)
    assert (cancelled.state, cancelled.HasField("complete_time")) == (pb.REPLAY_STATE_CANCELLED, True)
    assert await replaying.through() == 0
    assert len(await replaying.pending()) == cancelled.done_count, "what it has made due stays due"


@pytest.mark.parametrize(
    ("first", "then"),
    [("PAUSE", "PAUSE"), ("", "RESUME"), ("CANCEL", "RESUME"), ("CANCEL", "CANCEL"), ("CANCEL", "PAUSE")],
)
async def test_an_action_that_the_state_does_not_allow_is_refused(replaying, outbox, receiver, first, then):
    replay = await replaying.create(await outbox.endpoint(receiver.url))
    if first:
        await replaying.control(replay.id, pb.ReplayAction.Value(f"REPLAY_ACTION_{first}"))
    with pytest.raises(WrongState):
        await replaying.control(replay.id, pb.ReplayAction.Value(f"REPLAY_ACTION_{then}"))


async def test_a_replay_waits_while_its_endpoint_is_not_active(replaying, outbox, receiver):
    endpoint_id = await outbox.endpoint(receiver.url)
    await replaying.ended(DeliveryState.FAILED, 2)
    replay = await replaying.create(endpoint_id)
    await _set_state(outbox, endpoint_id, "paused")
    assert await replaying.through() == 0
    assert (await replaying.get(replay.id)).state == pb.REPLAY_STATE_RUNNING
    await _set_state(outbox, endpoint_id, "active")
    assert await replaying.through() == 2
    assert (await replaying.get(replay.id)).state == pb.REPLAY_STATE_COMPLETED


async def test_a_replay_ends_with_its_endpoint(replaying, outbox, receiver):
    endpoint_id = await outbox.endpoint(receiver.url)
    await replaying.ended(DeliveryState.FAILED, 2)
    replay = await replaying.create(endpoint_id)
    async with outbox.database.write(ORG) as tx:
        await endpoints.remove(tx, endpoint_id)
    assert await replaying.through() == 0
    assert (await replaying.get(replay.id)).state == pb.REPLAY_STATE_CANCELLED


async def test_a_replay_that_breaks_stops_no_other(replaying, outbox, receiver, monkeypatch):
    endpoint_id = await outbox.endpoint(receiver.url)
    await replaying.ended(DeliveryState.FAILED)
    broken = await replaying.create(endpoint_id)
    async with outbox.database.write(ORG) as tx:
        await tx.run(replays.replays.update().where(replays.replays.c.id == broken.id).values(rate_per_second=0))
    sound = await replaying.create(endpoint_id)
    await replaying.through()
    assert (await replaying.get(sound.id)).state == pb.REPLAY_STATE_COMPLETED


async def test_replays_are_listed_newest_first_and_filtered(replaying, outbox, receiver):
    made = []
    for _ in range(3):
        outbox.clock.advance(timedelta(milliseconds=2))
        made.append((await replaying.create(await outbox.endpoint(receiver.url))).id)
    await replaying.control(made[0], pb.REPLAY_ACTION_CANCEL)
    first = await replaying.calls(handlers.list_replays, pb.ListReplaysRequest(page_size=2))
    rest = await replaying.calls(
        handlers.list_replays, pb.ListReplaysRequest(page_size=2, page_token=first.next_page_token)
    )
    assert [one.id for one in (*first.replays, *rest.replays)] == made[::-1]
    cancelled = await replaying.calls(handlers.list_replays, pb.ListReplaysRequest(filter="state = cancelled"))
    assert [one.id for one in cancelled.replays] == [made[0]]
    with pytest.raises(Invalid):
        await replaying.calls(handlers.list_replays, pb.ListReplaysRequest(filter="state = runing"))


async def test_bad_input_is_told_all_at_once(replaying, outbox, receiver):
    with pytest.raises(Invalid) as caught:
        await replaying.create(
            "ep_1",
            states=["failed", "pending", "deliverd"],
            event_types=["Deal.Won"],
            start_time=to_timestamp(outbox.clock.now()),
            end_time=to_timestamp(outbox.clock.now()),
            rate_per_second=2_000,
        )
    found = [(one.field, one.reason, one.hint) for one in caught.value.violations]
    assert found == [
        ("states[1]", "UNKNOWN_VALUE", "A pending delivery is sent by itself."),
        ("states[2]", "UNKNOWN_VALUE", "Did you mean delivered? Use failed, skipped, delivered."),
        ("event_types[0]", "EVENT_TYPE_MALFORMED", "List the event types to see the core's own."),
        ("end_time", "OUT_OF_RANGE", "Leave it out for everything up to now."),
        ("rate_per_second", "OUT_OF_RANGE", "Leave it out for 10."),
    ]


async def test_what_cannot_be_replayed_is_refused_with_a_way_out(replaying, outbox, receiver, monkeypatch):
    with pytest.raises(NotFound):
        await replaying.create("ep_none")
    with pytest.raises(EndpointNotActive):
        await replaying.create(await outbox.endpoint(receiver.url, state="paused"))
    monkeypatch.setattr(handlers, "MAX_OPEN", 1)
    endpoint_id = await outbox.endpoint(receiver.url)
    replay = await replaying.create(endpoint_id)
    with pytest.raises(TooManyReplays):
        await replaying.create(endpoint_id)
    await replaying.control(replay.id, pb.REPLAY_ACTION_CANCEL)
    await replaying.create(endpoint_id)


async def test_another_organization_sees_no_replay(replaying, outbox, receiver):
    replay = await replaying.create(await outbox.endpoint(receiver.url))
    for handler, request in (
        (handlers.get_replay, pb.GetReplayRequest(replay_id=replay.id)),
        (handlers.control_replay, pb.ControlReplayRequest(replay_id=replay.id, action=pb.REPLAY_ACTION_CANCEL)),
        (handlers.create_replay, pb.CreateReplayRequest(endpoint_id=replay.endpoint_id)),
    ):
        with pytest.raises(NotFound):
            await replaying.calls(handler, request, OTHER_ORG)
    assert not (await replaying.calls(handlers.list_replays, pb.ListReplaysRequest(), OTHER_ORG)).replays


async def _set_state(outbox: Any, endpoint_id: str, state: str) -> None:
    async with outbox.database.write(ORG) as tx:
        await endpoints.change(tx, endpoint_id, {"state": state})
