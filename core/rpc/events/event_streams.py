"""Handler of EventService that takes events as they come."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing

from core.rpc.admission import audit_trail, permission
from core.rpc.call import Call
from core.rpc.client_stream import ClientStream
from core.rpc.events import ingesting
from core.rpc.writing import written
from core.store.control import usage
from core.store.transaction import Transaction
from dripstone.v1 import event_pb2 as pb

_NAME = "EventService.StreamEvents"
_INDEXES = 2**31
"""After so many events their numbers begin anew."""


async def stream_events(sent: ClientStream, call: Call) -> AsyncIterator[pb.IngestResult]:
    """Take what is there in one transaction, answer once that is committed, and so on.

    Who sends again what was not answered loses nothing and, where events carry a `message_id`, doubles nothing.
    """
    before = 0
    async with aclosing(sent.batches()) as batches:  # type: ignore[type-var]
        async for batch in batches:
            # A batch whose client has gone is committed all the same: cancelled, it would take its connection along.
            for result in await call.parts.under_way.to_its_end(_take(batch, call)):
                result.index = (before + result.index) % _INDEXES
                yield result
            before += len(batch)


async def _take(batch: Sequence[pb.StreamEventsRequest], call: Call) -> list[pb.IngestResult]:
    events = [request.event for request in batch]
    actor, org_id = call.caller.principal_id, call.caller.org_id

    async def taken(tx: Transaction) -> list[pb.IngestResult]:
        # As one call with these events, so that policies see what it does and how many there are.
        await permission.admit_batch(_NAME, pb.IngestEventsRequest(events=events), call, tx)
        results = await ingesting.take(tx, events, actor=actor)
        await permission.charge(call.within(tx))
        await usage.note_call(tx, org_id, actor, call.caller.agent_id, {"writes": 1, **tx.spent})
        summary = f"stream events ({len(events)} events)"
        await audit_trail.note(tx, call, method=_NAME, subject_id="", summary=summary)
        return results

    return await written(call.parts.database, org_id, taken)
