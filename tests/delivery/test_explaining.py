"""Filters tried and deliveries explained on both databases, from what is stored."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from core.domain.errors import Invalid, NotFound
from core.rpc.convert import from_struct, to_struct
from core.rpc.webhooks import explaining_deliveries as handlers
from core.store.webhooks import deliveries, endpoints
from core.store.webhooks import event_types as own_types
from dripstone.v1 import webhook_pb2 as pb
from tests.delivery.calling import Calls
from tests.delivery.conftest import ORG

pytestmark = pytest.mark.anyio
OTHER_ORG = "org_other"
URL = "https://example.com/"


@pytest.fixture
async def calls(outbox: Any, sender: Any) -> Calls:
    await outbox.organization(OTHER_ORG)
    return Calls(outbox, sender)


async def _explained(calls: Calls, endpoint_id: str, org: str = ORG, **values: Any) -> pb.ExplainDeliveryResponse:
    if "data" in values:
        values["data"] = to_struct(values["data"])
    return await calls(handlers.explain_delivery, pb.ExplainDeliveryRequest(endpoint_id=endpoint_id, **values), org)


async def _tried(calls: Calls, text: str, org: str = ORG, **values: Any) -> pb.TryFilterResponse:
    if "data" in values:
        values["data"] = to_struct(values["data"])
    return await calls(handlers.try_filter, pb.TryFilterRequest(filter=text, **values), org)


def names(answer: pb.ExplainDeliveryResponse) -> list[str]:
    return [rule.name for rule in answer.rules]


async def test_a_delivery_is_explained_with_itself_and_every_rule_in_order(calls, outbox):
    endpoint_id = await outbox.endpoint(URL)
    message_id = await outbox.emit()
    answer = await _explained(calls, endpoint_id, message_id=message_id)
    assert (answer.summary, answer.first_failing) == ("Nothing holds it back: it is sent next.", "")
    assert names(answer)[:3] == ["message", "event_type", "filter"]
    assert {"state", "verification", "retry_gate", "breaker", "rate", "slots", "order", "due"} <= set(names(answer))
    assert all(rule.passed and rule.detail.endswith(".") for rule in answer.rules)
    assert (answer.delivery.message_id, answer.delivery.state) == (message_id, pb.DELIVERY_STATE_PENDING)
    assert '"n":1' in answer.delivery.payload
    await _change(outbox, endpoint_id, state="paused")
    answer = await _explained(calls, endpoint_id, message_id=message_id)
    assert (answer.summary, answer.first_failing) == ("It waits: the endpoint is paused.", "state")


async def test_what_waits_for_another_message_of_its_contact_says_for_which(calls, outbox):
    endpoint_id = await outbox.endpoint(URL, ordering="by_contact")
    first, second = [await outbox.emit(data={"contact_id": "cnt_1"}) for _ in range(2)]
    assert (await _explained(calls, endpoint_id, message_id=first)).first_failing == ""
    answer = await _explained(calls, endpoint_id, message_id=second)
    assert answer.first_failing == "order"
    assert answer.summary == f"It waits: message {first} about the same contact comes first and is not through."


async def test_a_message_that_was_never_made_for_the_endpoint_is_explained(calls, outbox):
    unwanted = await outbox.endpoint(URL, event_types=["deal.lost"])
    filtered = await outbox.endpoint(URL, filter="event.data.n > 1")
    await outbox.endpoint(URL)
    message_id = await outbox.emit()
    outbox.clock.advance(timedelta(minutes=1))
    newer = await outbox.endpoint(URL)
    for endpoint_id, failing in ((unwanted, "event_type"), (filtered, "filter"), (newer, "age")):
        answer = await _explained(calls, endpoint_id, message_id=message_id)
        assert (answer.first_failing, answer.HasField("delivery")) == (failing, False)
        assert answer.summary.startswith("It was not delivered: ")
    await _change(outbox, unwanted, event_types=[])
    answer = await _explained(calls, unwanted, message_id=message_id)
    assert (answer.first_failing, "that changed on" in answer.summary) == ("delivery", True)


async def test_a_message_for_one_endpoint_explains_itself_to_the_others(calls, outbox):
    named, other = await outbox.endpoint(URL), await outbox.endpoint(URL)
    message_id = await outbox.emit(endpoint_id=named)
    answer = await _explained(calls, other, message_id=message_id)
    assert (answer.first_failing, "its step names one" in answer.summary) == ("delivery", True)


async def test_what_is_not_known_or_no_longer_kept_says_so(calls, outbox):
    endpoint_id = await outbox.endpoint(URL)
    for unknown in ("msg_00000000000000000000000000", "nonsense"):
        answer = await _explained(calls, endpoint_id, message_id=unknown)
        assert (answer.first_failing, names(answer)) == ("message", ["message"])
    message_id = await outbox.emit()
    async with outbox.database.write(ORG) as tx:
        await tx.run(deliveries.messages.delete())
    answer = await _explained(calls, endpoint_id, message_id=message_id)
    assert answer.first_failing == "message"
    assert answer.summary == "It was not delivered: its payload is no longer kept, so it cannot be sent any more."
    assert answer.delivery.id


@pytest.mark.parametrize(
    ("event_type", "data", "failing"),
    [
        ("deal.won", {"n": 2}, ""),
        ("deal.lost", {"n": 2}, "event_type"),
        ("deal.won", {"n": 1}, "filter"),
        ("lead.qualified", {"n": 2}, "event"),
    ],
)
async def test_an_event_that_might_be_sent_is_explained(calls, outbox, event_type, data, failing):
    endpoint_id = await outbox.endpoint(URL, event_types=["deal.won", "lead.qualified"], filter="event.data.n > 1")
    answer = await _explained(calls, endpoint_id, event_type=event_type, data=data)
    assert (answer.first_failing, names(answer)[:3]) == (failing, ["event", "event_type", "filter"])
    assert not await outbox.rows()


async def test_an_event_of_the_organizations_own_type_has_to_fit_its_schema(calls, outbox):
    endpoint_id = await outbox.endpoint(URL)
    schema = {"type": "object", "required": ["value"], "properties": {"value": {"type": "integer"}}}
    async with outbox.database.write(ORG) as tx:
        await own_types.declare(tx, "deal.won", "", schema, created_by="key_1")
    assert (await _explained(calls, endpoint_id, event_type="deal.won", data={"value": 7})).first_failing == ""
    answer = await _explained(calls, endpoint_id, event_type="deal.won", data={"value": "seven"})
    assert (answer.first_failing, "data: value: 'seven'" in answer.summary) == ("event", True), answer.summary


async def test_a_question_that_cannot_be_answered_is_refused(calls, outbox):
    endpoint_id = await outbox.endpoint(URL)
    for values, place in (
        ({}, ("message_id", "REQUIRED")),
        ({"message_id": "msg_1", "event_type": "deal.won"}, ("message_id", "CONFLICT")),
        ({"message_id": "msg_1", "data": {"n": 1}}, ("data", "CONFLICT")),
        ({"event_type": "Deal"}, ("event_type", "EVENT_TYPE_MALFORMED")),
    ):
        with pytest.raises(Invalid) as caught:
            await _explained(calls, endpoint_id, **values)
        assert [(one.field, one.reason) for one in caught.value.violations] == [place]
    with pytest.raises(NotFound):
        await _explained(calls, "ep_none", message_id="msg_1")
    with pytest.raises(NotFound):
        await _explained(calls, endpoint_id, OTHER_ORG, message_id="msg_1")


async def test_a_filter_is_tried_on_an_event(calls):
    answer = await _tried(calls, "event.data.n > 1", event_type="deal.won", data={"n": 2})
    assert (answer.matches, answer.reason) == (True, "event.data.n > 1 holds (event.data.n is 2).")
    assert from_struct(answer.inputs) == {"event.data.n": 2}
    answer = await _tried(calls, "event.data.n > 1", event_type="deal.won")
    assert (answer.matches, "cannot be told" in answer.reason) == (False, True)


async def test_a_filter_is_tried_on_the_newest_messages_of_ones_own(calls, outbox):
    await outbox.endpoint(URL)
    await outbox.endpoint(URL, OTHER_ORG)
    for number in range(60):
        outbox.clock.advance(timedelta(milliseconds=2))
        await outbox.emit(data={"n": number})
    await outbox.emit(org=OTHER_ORG, data={"n": 99})
    for count, told in ((55, (55, 10)), (500, (60, 10)), (5, (5, 5))):
        answer = await _tried(calls, "event.data.n >= 50", newest_count=count)
        assert (answer.tried_count, answer.matched_count) == told
    answer = await _tried(calls, "event.data.n == 99", OTHER_ORG, newest_count=10)
    assert (answer.tried_count, answer.matched_count) == (1, 1)


async def test_a_trial_that_makes_no_sense_is_refused_with_all_that_is_wrong(calls):
    with pytest.raises(Invalid) as caught:
        await _tried(calls, "event.dat.n > 1", newest_count=501, event_type="Deal")
    assert [one.field for one in caught.value.violations] == ["filter", "newest_count", "event_type"]
    with pytest.raises(Invalid) as caught:
        await _tried(calls, "true", data={"n": 1}, newest_count=5)
    assert [(one.field, one.reason) for one in caught.value.violations] == [("event_type", "REQUIRED")]


async def _change(outbox: Any, endpoint_id: str, **values: Any) -> None:
    outbox.clock.advance(timedelta(seconds=1))
    async with outbox.database.write(ORG) as tx:
        await endpoints.change(tx, endpoint_id, values)
