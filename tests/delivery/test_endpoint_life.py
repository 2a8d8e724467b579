"""An endpoint that keeps failing: warned about, turned off, tried by itself, turned on again; nothing is lost."""

from __future__ import annotations

import json
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from core.delivery.attempt import completion
from core.delivery.record import record
from core.delivery.send_result import SendResult
from core.domain.webhooks import classify, disabling
from core.store.webhooks.deliveries import FinalDelivery
from core.store.webhooks.endpoints import endpoints
from tests.conftest import START
from tests.delivery.conftest import ORG, Outbox
from tests.receiver import Held

pytestmark = pytest.mark.anyio

DAY = timedelta(days=1)


class Life:
    """One endpoint under trial, and one that is told about it."""

    def __init__(self, outbox: Outbox, receiver: Any):
        self.outbox, self.receiver = outbox, receiver
        self.id = ""

    async def begin(self, **values: Any) -> None:
        self.id = await self.outbox.endpoint(self.receiver.base + "/", event_types=["deal.won"], **values)
        news = ["endpoint.failing", "endpoint.disabled", "endpoint.recovered", "endpoint.enabled"]
        await self.outbox.endpoint(self.receiver.base + "/news", event_types=news)

    async def set(self, **values: Any) -> None:
        async with self.outbox.database.system() as tx:
            await tx.run(update(endpoints).where(endpoints.c.id == self.id).values(values))

    async def row(self) -> Any:
        return await self.outbox.endpoint_row(self.id)

    async def states(self) -> Counter[str]:
        return Counter(row.state for row in await self.outbox.rows() if row.endpoint_id == self.id)

    def news(self) -> list[tuple[str, dict[str, Any]]]:
        bodies = [json.loads(request.body) for request in self.receiver.received if request.path == "/news"]
        return [(body["type"], body["data"]) for body in bodies]


@pytest.fixture
def life(outbox, receiver):
    return Life(outbox, receiver)


async def test_a_receiver_that_is_dead_for_days_is_warned_about_turned_off_and_everything_is_kept(life, outbox):
    life.receiver.answers["/"] = 500
    await life.begin()
    messages = []
    await outbox.dispatcher.drain()
    while (await life.row()).state == "active":
        messages.append(await outbox.emit(awaited=True))
        await outbox.later(hours=6)
        assert outbox.clock.now() < START + 6 * DAY
    row = await life.row()
    assert row.failing_since + disabling.FAILING_FOR <= outbox.clock.now()
    assert (row.disabled_reason, row.failures >= disabling.FAILURES) == ("failing", True)
    kinds = [(kind, data.get("progress_percent", 0) // 10 * 10) for kind, data in life.news()]
    assert kinds == [
        ("endpoint.failing", 50),
        ("endpoint.failing", 70),
        ("endpoint.failing", 90),
        ("endpoint.disabled", 0),
    ]
    told = life.news()[-1][1]
    since = row.failing_since.isoformat()
    assert (told["endpoint_id"], told["reason"], told["failing_since"]) == (life.id, "failing", since)
    states = await life.states()
    assert states.keys() <= {"failed", "skipped"}
    assert states["skipped"] == told["skipped"]
    assert sorted(final.message_id for final in outbox.finals) == sorted(messages), "whoever waits is told"
    assert row.probe_at == outbox.clock.now() + disabling.FIRST_PROBE


@pytest.mark.parametrize(("failures", "ago", "state"), [(18, 6 * DAY, "active"), (500, 4 * DAY, "active"),
                                                       (19, 5 * DAY, "disabled")])  # fmt: skip
async def test_neither_time_nor_count_alone_turns_an_endpoint_off(life, outbox, failures, ago, state):
    life.receiver.answers["/"] = 500
    await life.begin()
    await life.set(failures=failures, failing_since=START - ago)
    await outbox.emit()
    await outbox.dispatcher.drain()
    assert (await life.row()).state == state


async def test_what_waits_for_an_endpoint_that_is_turned_off_is_skipped_and_who_awaits_it_hears_of_it(life, outbox):
    await life.begin()
    held = life.receiver.answers["/"] = Held(status=410)
    messages = [await outbox.emit(awaited=True) for _ in range(3)]
    await life.set(max_in_flight=1)
    await outbox.dispatcher.turn()
    await held.arrived.wait()
    held.release.set()
    await outbox.dispatcher.drain()
    assert await life.states() == {"failed": 1, "skipped": 2}
    outcomes = Counter((final.outcome, final.delivered) for final in outbox.finals)
    assert outcomes == {("gone", False): 1, ("endpoint_disabled", False): 2}
    assert sorted(final.message_id for final in outbox.finals) == sorted(messages)
    (news,) = [data for kind, data in life.news() if kind == "endpoint.disabled"]
    assert (news["reason"], news["skipped"]) == ("gone", 2)
    assert (await life.row()).probe_at is None, "who says that it is gone is not tried by itself"


async def test_an_attempt_under_way_while_its_endpoint_is_turned_off_keeps_its_outcome(life, outbox):
    await life.begin()
    held = life.receiver.answers["/"] = Held(status=500)
    await outbox.emit()
    await outbox.dispatcher.turn()
    await held.arrived.wait()
    await life.set(state="disabled", disabled_reason="failing")
    held.release.set()
    await outbox.dispatcher.drain()
    (row,) = [row for row in await outbox.rows() if row.endpoint_id == life.id]
    assert (row.state, row.last_outcome, row.attempt_count) == ("skipped", "http_status", 1)


async def test_what_slipped_in_for_a_disabled_endpoint_is_skipped_all_the_same(life, outbox):
    await life.begin()
    message = await outbox.emit(awaited=True)
    await life.set(state="disabled", disabled_reason="failing")
    await outbox.later(seconds=6)
    assert await life.states() == {"skipped": 1}
    assert outbox.finals == [FinalDelivery(ORG, "enr_1", message, False, "endpoint_disabled", 0)]


async def test_a_disabled_endpoint_is_tried_at_growing_intervals_and_enabled_when_it_answers(life, outbox):
    await life.begin()
    await life.set(state="disabled", disabled_reason="failing", failures=25, failing_since=START - 5 * DAY,
                   probe_at=START + timedelta(hours=1))  # fmt: skip
    life.receiver.answers["/"] = 503
    tried = []
    for _ in range(16):
        before = len(life.receiver.ids())
        await outbox.later(hours=1)
        tried.append(len(life.receiver.ids()) - before)
    assert tried == [1, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0]
    life.receiver.answers["/"] = 204
    await outbox.later(hours=16)
    row = await life.row()
    assert (row.state, row.disabled_reason, row.failures, row.failing_since, row.probe_at) == (
        "active", "", 0, None, None,
    )  # fmt: skip
    assert [kind for kind, _ in life.news()] == ["endpoint.enabled"]
    last = life.receiver.received[-2].json()
    assert (last["type"], last["data"]["endpoint_id"]) == ("endpoint.test", life.id)
    assert len(set(life.receiver.ids())) == len(life.receiver.ids()), "each probe has an id of its own"
    assert await life.states() == {}, "no delivery is behind a probe"
    await outbox.emit()
    await outbox.dispatcher.drain()
    assert await life.states() == {"delivered": 1}


@pytest.mark.parametrize("reason", ["gone", "receiver_asked"])
async def test_who_asked_to_be_turned_off_is_left_alone(life, outbox, reason):
    life.receiver.answers["/"] = 410 if reason == "gone" else (500, {"webhook-delivery": "disable"})
    await life.begin()
    await outbox.emit()
    await outbox.dispatcher.drain()
    assert (await life.row()).disabled_reason == reason
    await outbox.later(days=30)
    assert len(life.receiver.ids()) == 1


async def test_a_probe_that_is_told_that_the_receiver_is_gone_is_the_last(life, outbox):
    await life.begin()
    await life.set(state="disabled", disabled_reason="failing", probe_at=START)
    life.receiver.answers["/"] = 410
    await outbox.dispatcher.drain()
    row = await life.row()
    assert (row.state, row.disabled_reason, row.probe_at) == ("disabled", "gone", None)


async def test_who_answers_again_after_a_warning_is_said_to_have_recovered(life, outbox):
    await life.begin()
    since = START - 3 * DAY
    await life.set(failures=30, failing_since=since, warned_percent=50)
    await outbox.emit()
    await outbox.dispatcher.drain()
    assert (await life.row()).warned_percent == 0
    ((kind, data),) = life.news()
    assert (kind, data["failing_since"], data["failures"]) == ("endpoint.recovered", since.isoformat(), 30)


async def test_two_dispatchers_send_one_probe(life, outbox, sender):
    from core.delivery.dispatcher import Dispatcher

    await life.begin()
    await life.set(state="disabled", disabled_reason="failing", probe_at=START)
    life.receiver.answers["/"] = 500
    other = Dispatcher(outbox.database, sender, outbox.clock)
    await outbox.dispatcher.drain()
    await other.drain()
    assert len(life.receiver.ids()) == 1
    await other.stop(0)


async def test_an_answer_to_what_was_sent_before_a_failure_ends_the_row_of_failures(life, outbox):
    await life.begin()
    for _ in range(disabling.FAILURES):
        await outbox.emit()
    claimed = await outbox.dispatcher._claim(disabling.FAILURES)
    refused, taken = classify.of_response(500, {}), classify.of_response(204, {})
    for number, delivery in enumerate(claimed):  # all of them claimed while the endpoint had not failed yet
        result = SendResult(refused if number % 2 == 0 else taken, timedelta(0))
        now = outbox.clock.now()
        async with outbox.database.system() as tx:
            await record(tx, [completion(delivery, now, result, now)], _nobody)
        assert (await life.row()).failures == (1 if number % 2 == 0 else 0)
    assert len(claimed) > 1


async def _nobody(_tx: Any, _finals: list[FinalDelivery]) -> None:
    return
