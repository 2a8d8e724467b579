"""Which deliveries are sent next: first which endpoints may get one, then which of their messages, both in turn.

What holds an endpoint back stands in its row and changes with the claim, so any number of processes keep to it
together. `delivery_readiness` tells for which endpoints something is due.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, select, update

from core.domain.webhooks import breaker, gates, throttle
from core.domain.webhooks.gates import GateReason
from core.domain.webhooks.states import Ordering, Verification
from core.store.keys import these
from core.store.metadata import from_micros, to_micros, write_json
from core.store.transaction import Transaction
from core.store.webhooks import delivery_leases, delivery_readiness
from core.store.webhooks.deliveries import deliveries
from core.store.webhooks.delivery_numbers import Due
from core.store.webhooks.delivery_turns import Ready, allot
from core.store.webhooks.endpoints import endpoints
from core.store.webhooks.outbox import LANES, ClaimedDelivery, DeliveryKey, EndpointKey, named

_UNLIMITED = 1_000_000
_AFTER_A_LOCK = timedelta(milliseconds=20)
_BEHIND = timedelta(seconds=5)
"""How long a message is set aside that waits for another of its contact; the end of that one brings it back."""

_LOOKED_THROUGH = 200
"""Messages of an ordered endpoint that one claim looks through beyond its share."""


@dataclass(slots=True)
class LeftOver:
    """What a claim could not take, although it is due, and what the claim before it could not."""

    insist: EndpointKey | None = None
    """An endpoint whose row others held at the last claim: this one waits for it, before it holds anything itself."""
    skipped: EndpointKey | None = None
    """One whose row others hold now, such as who writes new messages for it."""
    look_again_at: datetime | None = None
    """When there is more to claim although nothing happens until then."""
    gone: tuple[EndpointKey, ...] = ()
    """Endpoints that are deleted, and for which something waits still."""

    def look_again(self, at: datetime) -> None:
        """Note that there is more to claim at this instant."""
        self.look_again_at = at if self.look_again_at is None else min(at, self.look_again_at)


_DUE = "org_id, id, day, endpoint_id, sequence, place"
_DUE_SQLITE = (  # for those with the same share: there, a limit cannot come from a row
    "SELECT d.org_id, d.id, d.day, d.endpoint_id, d.sequence, d.place FROM json_each($1) w JOIN deliveries d "
    "ON d.rowid IN (SELECT rowid FROM deliveries WHERE org_id = w.value ->> 0 AND endpoint_id = w.value ->> 1 "
    "AND lane = w.value ->> 2 AND state = 'pending' AND due_at <= $2 AND day >= $4 ORDER BY due_at, place LIMIT $3)"
)
_DUE_POSTGRESQL = (
    "SELECT d.org_id, d.id, d.day, d.endpoint_id, d.sequence, d.place "  # noqa: S608 -- the text above
    "FROM unnest($1::text[], $2::text[], $4::int[], $6::int[]) AS w(org_id, endpoint_id, share, lane) "
    f"CROSS JOIN LATERAL (SELECT {_DUE} FROM deliveries "
    "WHERE org_id = w.org_id AND endpoint_id = w.endpoint_id AND lane = w.lane "
    "AND state = 'pending' AND due_at <= $3 AND day >= $5 "
    "ORDER BY due_at, place LIMIT w.share FOR UPDATE SKIP LOCKED) d"
)
_AHEAD = (
    "SELECT p.due_at FROM deliveries p WHERE p.org_id = d.org_id AND p.endpoint_id = d.endpoint_id "
    "AND p.contact_id = d.contact_id AND p.state = 'pending' AND p.contact_id <> '' AND p.place < d.place "
    "ORDER BY p.place LIMIT 1"
)
_IN_ORDER = (
    f"SELECT {', '.join(f'd.{name}' for name in _DUE.split(', '))}, "  # noqa: S608 -- the texts above
    f"d.contact_id <> '' AND EXISTS ({_AHEAD}), ({_AHEAD}) FROM deliveries d "
    "WHERE d.org_id = $1 AND d.endpoint_id = $2 AND d.lane = $6 AND d.state = 'pending' AND d.due_at <= $3 "
    "AND d.day >= $5 ORDER BY d.due_at, d.place LIMIT $4"
)
_LOCKING = " FOR UPDATE OF d SKIP LOCKED"
_IN_FLIGHT = (
    "SELECT count(*) FROM deliveries WHERE org_id = $1 AND endpoint_id = $2 AND state = 'pending' "
    "AND lane IN (0, 1, 2) AND due_at > $3 AND due_at <= $4 AND lease_token IS NOT NULL"
)


async def claim(
    tx: Transaction,
    *,
    limit: int,
    lease: timedelta,
    token: str,
    busy: Mapping[EndpointKey, int] | None = None,
    offset: int = 0,
    since_day: int = 0,
    left: LeftOver | None = None,
) -> list[ClaimedDelivery]:
    """Lease up to `limit` due deliveries of endpoints that may get one, in a system transaction.

    Organizations take turns, in each its endpoints, and everywhere first attempts, retries and replays; no endpoint
    gets more than its share, less what is `busy`. `offset` rotates who comes first when there are more than fit.
    `since_day` leaves older partitions alone.
    """
    claiming = _Claiming(tx, lease, since_day, left or LeftOver())
    ready = await claiming.ready()
    allotted = allot(ready, busy or {}, limit, offset)
    limits = await claiming.held([one for one in ready if one.limited and one.key in {key for key, _ in allotted}])
    allotted = _within(limits, allotted, {one.key for one in ready if one.limited})
    ordered = {one.key for one in ready if one.ordering == Ordering.BY_CONTACT}
    keys = await claiming.due({pair: share for pair, share in allotted.items() if pair[0] not in ordered})
    for one in ready:
        if one.key in ordered:
            keys += await claiming.in_order_from_lanes(one, {lane: allotted.get((one.key, lane), 0) for lane in LANES})
    if not keys:
        return []
    claimed = await delivery_leases.lease(tx, keys, tx.now + lease, token)
    await claiming.use_up(limits, claimed)
    return claimed


def _within(
    limits: Mapping[EndpointKey, _Limit], allotted: Mapping[tuple[EndpointKey, int], int], limited: set[EndpointKey]
) -> dict[tuple[EndpointKey, int], int]:
    """Return the shares that limits leave; what another process is claiming for right now gets nothing here."""
    left = {key: limits[key].most if key in limits else 0 for key in limited}
    found = {}
    for (key, lane), share in allotted.items():
        if key in left:
            share = min(share, left[key])
            left[key] -= share
        if share:
            found[key, lane] = share
    return found


@dataclass(slots=True)
class _Limit:
    """How many deliveries an endpoint with a limit may get now; its row is held until the claim is committed."""

    row: Row[Any]
    most: int


@dataclass(slots=True)
class _Claiming:
    """One claim under way."""

    tx: Transaction
    lease: timedelta
    since_day: int
    left: LeftOver

    async def ready(self) -> list[Ready]:
        """Return endpoints that may get something of what is due for them now; note when others may."""
        found = await delivery_readiness.look(self.tx, self.since_day)
        self.left.gone = found.gone
        for one in found.ready:
            if one.rate_until is not None and one.rate_until > self.tx.now:
                self.left.look_again(one.rate_until)
        return [one for one in found.ready if one.rate_until is None or one.rate_until <= self.tx.now]

    async def held(self, limited: Sequence[Ready]) -> dict[EndpointKey, _Limit]:
        """Hold the rows of endpoints with limits and return what these leave; rows that others hold are left out."""
        if not limited:
            return {}
        keys = [one.key for one in limited]
        statement = select(endpoints).order_by(endpoints.c.org_id, endpoints.c.id)
        if self.left.insist in keys:
            await self.tx.all(statement.where(these(endpoints, [self.left.insist])).with_for_update(key_share=True))
        rows = await self.tx.all(
            statement.where(these(endpoints, keys)).with_for_update(key_share=True, skip_locked=True)
        )
        found = {(row.org_id, row.id): _Limit(row, await self._most(row)) for row in rows}
        self.left.skipped = next((key for key in keys if key not in found), None)
        if self.left.skipped is not None:
            self.left.look_again(self.tx.now + _AFTER_A_LOCK)
        return found

    async def _most(self, row: Row[Any]) -> int:
        """Return how many attempts may begin now, by the row as it is while it is held."""
        now = self.tx.now
        if gates.first_failing(gates.rules(row, None, now)):
            return 0
        rate = throttle.effective_rate(row.rate_per_second, row.pace)
        most = throttle.allowed(rate, row.rate_until, now) if rate else _UNLIMITED
        if breaker.is_open(row.failures) or row.verification == Verification.UNVERIFIED:
            most = min(most, 1)
        if row.max_in_flight:
            until = to_micros(now + self.lease)
            ((flying,),) = await self.tx.fetch(_IN_FLIGHT, row.org_id, row.id, to_micros(now), until)
            most = min(most, max(row.max_in_flight - flying, 0))
        return most

    async def due(self, shares: Mapping[tuple[EndpointKey, int], int]) -> list[Due]:
        """Return the due deliveries that come first, in any order of contacts, held until the claim is committed."""
        if not shares:
            return []
        tx, now = self.tx, to_micros(self.tx.now)
        wanted = [(org, endpoint, share, lane) for ((org, endpoint), lane), share in shares.items()]
        if tx.dialect == "postgresql":
            orgs, ids, counts, lanes = (list(column) for column in zip(*wanted, strict=True))
            rows = await tx.fetch(_DUE_POSTGRESQL, orgs, ids, now, counts, self.since_day, lanes)
        else:
            rows = []
            for share in sorted(set(shares.values())):
                asked = write_json([(org, id_, lane) for org, id_, count, lane in wanted if count == share])
                rows += await tx.fetch(_DUE_SQLITE, asked, now, share, self.since_day)
        return [Due(*row) for row in rows]

    async def in_order_from_lanes(self, one: Ready, shares: Mapping[int, int]) -> list[Due]:
        """Return due deliveries of an endpoint in order; what a lane has no use for, the others get.

        Whatever is due in one lane may wait for what is due in another, such as for the retry of the message before.
        """
        found: list[Due] = []
        for lane in sorted(one.lanes, key=lambda lane: not shares[lane]):
            if left := sum(shares.values()) - len(found):
                found += await self.in_order(one.key, lane, left)
        return found

    async def in_order(self, key: EndpointKey, lane: int, share: int) -> list[Due]:
        """Return due deliveries of an endpoint that no earlier one of their contact is ahead of.

        Those met that have to wait are set aside until the one ahead of them is tried, so that they are not met again
        and again.
        """
        tx, now = self.tx, to_micros(self.tx.now)
        sql = _IN_ORDER + (_LOCKING if tx.dialect == "postgresql" else "")
        rows = await tx.fetch(sql, *key, now, share + _LOOKED_THROUGH, self.since_day, lane)
        free = [Due(*due) for *due, waits, _ in rows if not waits]
        waiting = [(id_, day, until) for _, id_, day, _, _, _, waits, until in rows if waits]
        if waiting:
            await self._set_aside(key[0], waiting)
            if len(free) < share and len(rows) == share + _LOOKED_THROUGH:
                self.left.look_again(tx.now)
        return free[:share]

    async def _set_aside(self, org: str, waiting: Sequence[tuple[str, int, int | None]]) -> None:
        soon = to_micros(self.tx.now + _BEHIND)
        until: dict[int, list[DeliveryKey]] = defaultdict(list)
        for id_, day, due in waiting:
            until[max(due or 0, soon)].append((org, id_, day))
        for due, keys in until.items():
            here = named(self.tx, deliveries, keys)
            await self.tx.run(update(deliveries).where(*here).values(due_at=from_micros(due)))

    async def use_up(self, limits: Mapping[EndpointKey, _Limit], claimed: Sequence[ClaimedDelivery]) -> None:
        """Write down what the claim takes of the limits."""
        now = self.tx.now
        begun: dict[EndpointKey, int] = defaultdict(int)
        for delivery in claimed:
            begun[delivery.endpoint_key] += 1
        for key, count in begun.items():
            if key not in limits:
                continue
            row, values = limits[key].row, dict[str, Any]()
            rate = throttle.effective_rate(row.rate_per_second, row.pace)
            if rate:
                values["rate_until"] = throttle.used(rate, row.rate_until, now, count)
                self.left.look_again(values["rate_until"])
            if row.verification == Verification.UNVERIFIED:
                values |= {"gate_until": now + gates.UNVERIFIED_EVERY, "gate_reason": GateReason.UNVERIFIED}
            elif breaker.is_open(row.failures):
                # Until its outcome is known, whatever becomes of the process, nobody tries another one.
                values |= {"gate_until": now + self.lease, "gate_reason": GateReason.BREAKER}
            if values:
                here = (endpoints.c.org_id == key[0], endpoints.c.id == key[1])
                await self.tx.run(update(endpoints).where(*here).values(values))
