"""Handlers of WebhookService for pull endpoints: messages handed out and acknowledged."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row

from core import ids
from core.delivery.attempt import completion
from core.delivery.record import record
from core.delivery.send_result import SendResult
from core.domain import names
from core.domain.errors import EndpointNotPull, GoingAway, Invalid, NotFound, Unauthenticated, Violation
from core.domain.webhooks import classify, receivers
from core.domain.webhooks.classify import Outcome
from core.domain.webhooks.receivers import Outgoing, Receiver
from core.domain.webhooks.states import EndpointKind, EndpointState
from core.engine.outcomes import deliveries_ended
from core.rpc.call import Call
from core.store.control import usage
from core.store.organizations import api_keys, members
from core.store.transaction import Transaction
from core.store.webhooks import endpoints, pulling
from core.store.webhooks.endpoints import Lock
from core.store.webhooks.outbox import ClaimedDelivery, Completion
from core.store.webhooks.pulling import HandedOut, Room
from dripstone.v1 import webhook_pb2 as pb

USUAL_IN_FLIGHT, MOST_IN_FLIGHT = 16, 256
MOST_BYTES, MOST_BYTES_AT_ONCE = 4 << 20, 1 << 20
"""Of payloads that one stream has out, and that it leases in one turn; a message that is larger goes alone."""

USUAL_LEASE, SHORTEST_LEASE, LONGEST_LEASE = timedelta(seconds=30), timedelta(seconds=1), timedelta(minutes=10)

_LOOKS_EVERY_SECONDS = 1.0
"""For what falls due by itself, and for a key that was revoked."""

_WAKES = ("dispatcher", "pull")
"""New messages, and acknowledgements that make room."""


async def stream_messages(request: pb.StreamMessagesRequest, call: Call) -> AsyncIterator[pb.StreamedMessage]:
    """Hand out what is due, again and again, as long as the client listens and its key is valid."""
    if wrong := list(_wrong(request)):
        raise Invalid(*wrong)
    lease = request.lease.ToTimedelta() if request.HasField("lease") else USUAL_LEASE
    consumer = _Consumer(call, request.endpoint_id, request.max_in_flight or USUAL_IN_FLIGHT, lease)
    with call.parts.streams.take(call.caller.org_id):
        async with aclosing(_handed_out(consumer)) as messages:  # type: ignore[type-var]
            async for message in messages:
                yield message


async def _handed_out(consumer: _Consumer) -> AsyncIterator[pb.StreamedMessage]:
    parts = consumer.call.parts
    wake = parts.database.wakeups.event(*_WAKES)
    unseen: dict[str, str] = {}
    try:
        while True:
            wake.clear()
            if parts.draining.is_set():
                raise GoingAway()
            messages = await parts.under_way.to_its_end(consumer.fetch(unseen))
            for message in messages:
                del unseen[message.delivery_id]  # it may reach its client from here on
                yield message
            if not messages:
                await parts.clock.wait(wake, _LOOKS_EVERY_SECONDS)
    finally:
        consumer.over = True
        for name in _WAKES:
            parts.database.wakeups.forget(name, wake)
        if unseen:
            await parts.under_way.to_its_end(consumer.give_back(unseen))


@dataclass(slots=True)
class _Consumer:
    """One stream, and what its client has and has not acknowledged."""

    call: Call
    endpoint_id: str
    most: int
    lease: timedelta
    over: bool = False
    """Nobody listens any more."""
    _held: dict[str, str] = field(default_factory=dict)
    """Delivery to lease token."""
    _sizes: dict[str, int] = field(default_factory=dict)
    """Delivery to the bytes of its payload."""

    async def fetch(self, unseen: dict[str, str]) -> list[pb.StreamedMessage]:
        """Lease what there is room for; `unseen` gets delivery and lease token of each message."""
        org, database = self.call.caller.org_id, self.call.parts.database
        async with database.read(org) as tx:
            endpoint = await self._admitted(tx)
            still = await pulling.still_held(tx, self._held)
            self._held = {id_: token for id_, token in self._held.items() if id_ in still}
            self._sizes = {id_: size for id_, size in self._sizes.items() if id_ in still}
            room = Room(min(MOST_BYTES_AT_ONCE, MOST_BYTES - sum(self._sizes.values())), first_anyway=not self._held)
            count = self.most - len(self._held)
            active = endpoint.state == EndpointState.ACTIVE
            may = active and count > 0 and room.bytes > 0 and await pulling.is_due(tx, endpoint)
        if _is_ending(endpoint, tx.now):
            async with database.write(org) as tx:
                await endpoints.renew(tx, endpoint)
        if not may:
            return []
        async with database.write(org) as tx:
            endpoint = await self._admitted(tx)
            if endpoint.state != EndpointState.ACTIVE:
                return []
            token = ids.mint("lse", tx.now)
            handed = await pulling.hand_out(tx, endpoint, limit=count, room=room, lease=self.lease, token=token)
            caller = self.call.caller
            await usage.note_call(tx, org, caller.principal_id, caller.agent_id, {"streamed": len(handed)})
            receiver = endpoints.receiver(endpoint, self.call.parts.vault)
            messages = [_streamed(one, receiver, tx) for one in handed]
        leased = {one.id: token for one in handed}
        if self.over:  # the client went while this was under way
            await self.give_back(leased)
            return []
        self._held |= leased
        self._sizes |= {one.id: len(one.payload.encode()) for one in handed}
        unseen |= leased
        return messages

    async def give_back(self, unseen: dict[str, str]) -> None:
        """Let others have at once what never left."""
        async with self.call.parts.database.write(self.call.caller.org_id) as tx:
            await pulling.give_back(tx, unseen)

    async def _admitted(self, tx: Transaction) -> Row[Any]:
        """Return the endpoint. Raises Unauthenticated once the key is revoked."""
        caller = self.call.caller
        if caller.key_id:
            valid = await api_keys.is_valid(tx, caller.key_id)
        else:  # a member with a token of the provider
            valid = caller.principal_kind != "member" or await members.get_active(tx, caller.principal_id) is not None
        if not valid:
            raise Unauthenticated()
        return await _pull_endpoint(tx, self.endpoint_id)


def _is_ending(endpoint: Row[Any], now: datetime) -> bool:
    """Tell whether a temporary endpoint has used up half of its time without a stream."""
    return endpoint.expires_at is not None and endpoint.expires_at - now < timedelta(seconds=endpoint.idle_seconds / 2)


async def ack_messages(request: pb.AckMessagesRequest, call: Call) -> pb.AckMessagesResponse:
    """Record what became of messages, as an attempt each; where the lease has ended, nothing is recorded."""
    if wrong := list(_twice(request)):
        raise Invalid(*wrong)
    endpoint = await _pull_endpoint(call.tx, request.endpoint_id, lock="use")
    said = {ack.delivery_id: ack for ack in request.acks}
    taken = await pulling.taken(call.tx, endpoint, {id_: ack.lease_token for id_, ack in said.items()})
    completions = [_completion(delivery, said[delivery.id], call.tx) for delivery in taken]
    await record(call.tx, completions, deliveries_ended(call.parts.engine))
    call.tx.wake("pull")
    known = {delivery.id for delivery in taken}
    return pb.AckMessagesResponse(
        acknowledged_count=len(known), stale_delivery_ids=[id_ for id_ in said if id_ not in known]
    )


def _completion(delivery: ClaimedDelivery, ack: pb.MessageAck, tx: Transaction) -> Completion:
    handed_out_at = names.minted_at(delivery.lease_token)
    ruling = classify.of_failure(Outcome.DELIVERED if ack.ok else Outcome.NOT_TAKEN)
    error = "" if ack.ok else ack.error or classify.MEANINGS[Outcome.NOT_TAKEN].sentence
    return completion(delivery, handed_out_at, SendResult(ruling, tx.now - handed_out_at, error=error), tx.now)


async def _pull_endpoint(tx: Transaction, endpoint_id: str, *, lock: Lock = "") -> Row[Any]:
    row = await endpoints.get(tx, endpoint_id, lock=lock)
    if row is None:
        raise NotFound(kind="endpoint", id=endpoint_id)
    if row.kind != EndpointKind.PULL:
        raise EndpointNotPull(endpoint_id=endpoint_id)
    return row


def _streamed(one: HandedOut, receiver: Receiver, tx: Transaction) -> pb.StreamedMessage:
    outgoing = Outgoing(one.message_id, one.payload, one.sequence)
    return pb.StreamedMessage(
        delivery_id=one.id,
        message_id=one.message_id,
        event_type=one.event_type,
        payload=one.payload,
        headers=receivers.headers(receiver, outgoing, tx.now),
        attempt=one.attempt,
        sequence=one.sequence,
        lease_token=one.lease_token,
    )


def _twice(request: pb.AckMessagesRequest) -> Iterator[Violation]:
    seen: set[str] = set()
    for number, ack in enumerate(request.acks):
        if ack.delivery_id in seen:
            message = f"{ack.delivery_id} is acknowledged twice in one call"
            yield Violation(f"acks[{number}].delivery_id", "DUPLICATE", message, "Say once what became of it.")
        seen.add(ack.delivery_id)


def _wrong(request: pb.StreamMessagesRequest) -> Iterator[Violation]:
    if not 0 <= request.max_in_flight <= MOST_IN_FLIGHT:
        message = f"is not from 1 to {MOST_IN_FLIGHT}"
        yield Violation("max_in_flight", "OUT_OF_RANGE", message, f"Leave it out for {USUAL_IN_FLIGHT}.")
    if request.HasField("lease") and not SHORTEST_LEASE <= request.lease.ToTimedelta() <= LONGEST_LEASE:
        yield Violation("lease", "OUT_OF_RANGE", "is not from 1 second to 10 minutes", "Leave it out for 30 seconds.")
