"""Handlers of WebhookService for replays: durable jobs that send deliveries again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Row, select

from core import ids
from core.domain.errors import EndpointNotActive, Invalid, NotFound, TooManyReplays, Violation, WrongState
from core.domain.nearest import did_you_mean
from core.domain.webhooks import event_types
from core.domain.webhooks.states import DeliveryState, EndpointState
from core.rpc.admission import reach
from core.rpc.admission.reach import Reach
from core.rpc.call import Call
from core.rpc.convert import from_timestamp, to_timestamp
from core.rpc.listing import listed
from core.store.organizations import organizations
from core.store.webhooks import endpoints, replays
from core.store.webhooks.replays import Choice, ReplayState
from dripstone.v1 import webhook_pb2 as pb

MAX_OPEN = 20
"""Replays of one organization that are running or paused."""

USUAL_RATE = 10.0
FASTEST, SLOWEST = 1_000.0, 0.01

_USUAL_STATES = (DeliveryState.FAILED.value, DeliveryState.SKIPPED.value)
_TAKEN = (*_USUAL_STATES, DeliveryState.DELIVERED.value)
_NOT_TAKEN = {
    DeliveryState.PENDING.value: "A pending delivery is sent by itself.",
    DeliveryState.DROPPED.value: "The endpoint of a dropped delivery is gone.",
}
_STATES = {state: pb.ReplayState.Value(f"REPLAY_STATE_{state.name}") for state in ReplayState}
_FILTERED = {name: "string" for name in ("endpoint_id", "state")}
_ACTIONS = {pb.REPLAY_ACTION_PAUSE: "pause", pb.REPLAY_ACTION_RESUME: "resume", pb.REPLAY_ACTION_CANCEL: "cancel"}
_LEADS_TO = {
    ("pause", ReplayState.RUNNING): ReplayState.PAUSED,
    ("resume", ReplayState.PAUSED): ReplayState.RUNNING,
    ("cancel", ReplayState.RUNNING): ReplayState.CANCELLED,
    ("cancel", ReplayState.PAUSED): ReplayState.CANCELLED,
}
"""What an action makes of a state; what is not here is refused."""


async def create_replay(request: pb.CreateReplayRequest, call: Call) -> pb.Replay:
    """Start sending deliveries again, or tell how many those are."""
    if wrong := tuple(_wrong(request)):
        raise Invalid(*wrong)
    endpoint = await endpoints.get(call.tx, request.endpoint_id)
    if endpoint is None:
        raise NotFound(kind="endpoint", id=request.endpoint_id)
    if endpoint.state != EndpointState.ACTIVE:
        raise EndpointNotActive(endpoint_id=endpoint.id, state=endpoint.state)
    await organizations.hold(call.tx)  # who starts another one meanwhile counts this one
    if await replays.count_open(call.tx) >= MAX_OPEN:
        raise TooManyReplays(limit=MAX_OPEN)
    choice = _choice(request, call)
    row = await replays.create(
        call.tx,
        ids.mint("rpl", call.tx.now),
        choice,
        rate=request.rate_per_second or USUAL_RATE,
        total=await replays.count(call.tx, choice),
        actor=call.caller.principal_id,
    )
    message = _message(row)
    if request.validate_only:
        message.ClearField("id")  # there will be none of this id
    return message


async def get_replay(request: pb.GetReplayRequest, call: Call) -> pb.Replay:
    """Return one replay."""
    return _message(await _get(call, request.replay_id))


async def list_replays(request: pb.ListReplaysRequest, call: Call) -> pb.ListReplaysResponse:
    """Return a page of replays, newest first."""
    rows, token = await listed(call.tx, request, select(replays.replays), replays.replays, _FILTERED)
    return pb.ListReplaysResponse(replays=[_message(row) for row in rows], next_page_token=token)


async def control_replay(request: pb.ControlReplayRequest, call: Call) -> pb.Replay:
    """Pause, resume or cancel a replay. Raises WrongState where its state does not allow that."""
    if wrong := tuple(_wrong_rate(request.rate_per_second)):
        raise Invalid(*wrong)
    row = await _get(call, request.replay_id, lock=True)
    action, state = _ACTIONS[request.action], ReplayState(row.state)
    following = _LEADS_TO.get((action, state))
    if following is None and (action, state) == ("resume", ReplayState.RUNNING) and request.rate_per_second:
        following = state  # goes on at another rate
    if following is None:
        raise WrongState(kind="replay", id=row.id, state=state.value, action=action)
    rate = request.rate_per_second or row.rate_per_second
    return _message(await replays.steer(call.tx, row.id, following, rate))


def _choice(request: pb.CreateReplayRequest, call: Call) -> Choice:
    return Choice(
        endpoint_id=request.endpoint_id,
        states=tuple(dict.fromkeys(request.states)) or _USUAL_STATES,
        event_types=tuple(dict.fromkeys(request.event_types)),
        start_at=from_timestamp(request.start_time) if request.HasField("start_time") else None,
        end_at=from_timestamp(request.end_time) if request.HasField("end_time") else None,
        asked_at=call.tx.now,
    )


async def _reach(call: Call, request: pb.CreateReplayRequest) -> Reach:
    """Count the deliveries that would be sent again; more may fail until an approval of it is used."""
    return Reach(await replays.count(call.tx, _choice(request, call)))


reach.register("WebhookService.CreateReplay", _reach)


async def _get(call: Call, replay_id: str, *, lock: bool = False) -> Row[Any]:
    row = await replays.get(call.tx, replay_id, lock=lock)
    if row is None:
        raise NotFound(kind="replay", id=replay_id)
    return row


def _wrong(request: pb.CreateReplayRequest) -> Iterator[Violation]:
    for number, state in enumerate(request.states):
        if state not in _TAKEN:
            hint = _NOT_TAKEN.get(state) or did_you_mean(state, _TAKEN, f"Use {', '.join(_TAKEN)}.")
            message = f"deliveries that are {state!r} are not replayed"
            yield Violation(f"states[{number}]", "UNKNOWN_VALUE", message, hint)
    for number, name in enumerate(request.event_types):
        if not event_types.is_event_type_name(name):
            message = f"{name!r} is not the name of an event type: lower case, with dots, such as deal.won"
            hint = did_you_mean(name, event_types.CATALOGUE) or "List the event types to see the core's own."
            yield Violation(f"event_types[{number}]", "EVENT_TYPE_MALFORMED", message, hint)
    if request.HasField("start_time") and request.HasField("end_time"):
        start, end = (from_timestamp(one) for one in (request.start_time, request.end_time))
        if end <= start:
            message = "is not after start_time, so there is nothing in between"
            yield Violation("end_time", "OUT_OF_RANGE", message, "Leave it out for everything up to now.")
    yield from _wrong_rate(request.rate_per_second)


def _wrong_rate(rate: float) -> Iterator[Violation]:
    if rate and not SLOWEST <= rate <= FASTEST:
        message = f"a rate is from {SLOWEST} to {FASTEST:,.0f} deliveries a second"
        yield Violation("rate_per_second", "OUT_OF_RANGE", message, f"Leave it out for {USUAL_RATE:.0f}.")


def _message(row: Row[Any]) -> pb.Replay:
    return pb.Replay(
        id=row.id,
        endpoint_id=row.endpoint_id,
        states=row.states,
        event_types=row.event_types,
        start_time=to_timestamp(row.start_at),
        end_time=to_timestamp(row.end_at),
        rate_per_second=row.rate_per_second,
        state=_STATES[ReplayState(row.state)],
        total_count=row.total_count,
        done_count=row.done_count,
        actor=row.actor,
        create_time=to_timestamp(row.created_at),
        complete_time=to_timestamp(row.completed_at),
    )
