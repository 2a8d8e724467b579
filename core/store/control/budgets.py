"""Budgets and what is used of them: taken in the transaction of the effect, so that no limit is ever passed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import BigInteger, Column, Index, Integer, Row, Table, delete, select, update

from core.domain.control.budget import UNLIMITED, Share, day_of, reset_time, told
from core.domain.errors import BudgetExhausted
from core.domain.frozen import frozen
from core.domain.records.values import instant_text
from core.domain.workflow.zones import Zone, zone_of
from core.store.control.policies import CHANGED
from core.store.metadata import Instant, Name, metadata, org_id
from core.store.metadata import day_of as utc_day_of
from core.store.organizations import organizations
from core.store.transaction import Transaction

budgets = Table(
    "budgets",
    metadata,
    org_id(),
    # A principal, an agent, or a kind of principals: `agent`, `service`, `member`.
    Column("principal_id", Name, primary_key=True),
    Column("metric", Name, primary_key=True),
    Column("daily_limit", BigInteger, nullable=False),
    Column("updated_at", Instant, nullable=False),
)

budget_use = Table(
    "budget_use",
    metadata,
    org_id(),
    Column("principal_id", Name, primary_key=True),
    Column("metric", Name, primary_key=True),
    # Days since 1970 in the organization's zone.
    Column("day", Integer, primary_key=True),
    Column("used", BigInteger, nullable=False),
    # Of what comes in parts of a unit, such as cost: millionths beside the whole units.
    Column("millionths", BigInteger, nullable=False, server_default="0"),
    Index("budget_use_day", "day"),
)

_KEPT_DAYS = 35
_MILLION = 1_000_000


@frozen
class Spender:
    """Whose budget is charged."""

    principal_id: str
    kind: str
    """`member`, `service` or `agent`."""
    agent_id: str = ""

    def plain(self) -> dict[str, str]:
        """Return it as it is kept beside what goes on after its call."""
        return {"principal_id": self.principal_id, "kind": self.kind, "agent_id": self.agent_id}

    @property
    def names(self) -> tuple[str, ...]:
        """Return under which names a budget may bind it, the closest first."""
        return tuple(name for name in (self.principal_id, self.agent_id, self.kind) if name)

    def account(self, budget: str) -> str:
        """Return under which name is counted what it uses of a budget: all keys of an agent together."""
        return (self.agent_id or self.principal_id) if budget == self.kind else budget


Limits = Mapping[tuple[str, str], int]
"""Limits by name and metric."""


def binding(limits: Limits, spender: Spender, metric: str) -> tuple[str, int] | None:
    """Return the name and limit of the budget that binds a principal; None for none."""
    return next(((name, limits[name, metric]) for name in spender.names if (name, metric) in limits), None)


async def put(tx: Transaction, principal_id: str, metric: str, daily_limit: int) -> None:
    """Set a budget; UNLIMITED takes it away."""
    tx.wake(CHANGED)
    here = (budgets.c.principal_id == principal_id, budgets.c.metric == metric)
    await tx.run(delete(budgets).where(*here))
    if daily_limit != UNLIMITED:
        row = {"principal_id": principal_id, "metric": metric, "daily_limit": daily_limit, "updated_at": tx.now}
        await tx.insert(budgets, [row])


async def lower(tx: Transaction, principal_id: str, kind: str, metric: str, daily_limit: int) -> None:
    """Set a budget as far as it is below what binds the principal already: what admins have set is never raised."""
    if daily_limit == UNLIMITED:
        return
    known = await limits(tx, (principal_id, kind))
    bound = binding(known, Spender(principal_id, kind), metric)
    await put(tx, principal_id, metric, daily_limit if bound is None else min(daily_limit, bound[1]))


async def limits(tx: Transaction, names: Sequence[str] = ()) -> dict[tuple[str, str], int]:
    """Return the organization's limits, or those under some names."""
    statement = select(budgets)
    if names:
        statement = statement.where(budgets.c.principal_id.in_(list(names)))
    return {(row.principal_id, row.metric): row.daily_limit for row in await tx.all(statement)}


async def listed(tx: Transaction, names: Sequence[str]) -> Sequence[Row[Any]]:
    """Return the budgets under some names, or all of them, by name and metric."""
    statement = select(budgets).order_by(budgets.c.principal_id, budgets.c.metric)
    return await tx.all(statement.where(budgets.c.principal_id.in_(list(names))) if names else statement)


async def charge(tx: Transaction, spender: Spender, spent: Mapping[str, int]) -> None:
    """Take what was done from the budgets that bind a principal, in the transaction that did it.

    Raises BudgetExhausted with what would be allowed; the transaction must then be rolled back.
    """
    known = await limits(tx, spender.names)
    zone = await zone_of_organization(tx) if known else None
    for metric in sorted(spent):
        bound = binding(known, spender, metric)
        if bound is not None and zone is not None and spent[metric] > 0:
            await _take(tx, spender, bound, metric, spent[metric], zone)


async def _take(
    tx: Transaction, spender: Spender, bound: tuple[str, int], metric: str, amount: int, zone: Zone
) -> None:
    name, limit = bound
    account, day = spender.account(name), day_of(tx.now, zone)
    await _open(tx, account, metric, day)
    enough = budget_use.c.used + amount <= limit
    taking = update(budget_use).where(*_is(account, metric, day), enough).values(used=budget_use.c.used + amount)
    if not await tx.run(taking):
        share = Share(metric, limit, await used(tx, account, metric, day), reset_time(tx.now, zone))
        raise exhausted(share, amount, name if name == spender.kind else account)


async def take_some(tx: Transaction, account: str, metric: str, day: int, wanted: int, limit: int) -> int:
    """Take as much as is left of what is wanted; return what was used before."""
    await _open(tx, account, metric, day)
    row = await tx.first(select(budget_use.c.used).where(*_is(account, metric, day)).with_for_update())
    before = 0 if row is None else int(row.used)
    granted = max(0, min(wanted, limit - before))
    if granted:
        await tx.run(update(budget_use).where(*_is(account, metric, day)).values(used=before + granted))
    return before


def exhausted(share: Share, wanted: int, whose: str) -> BudgetExhausted:
    """Return the refusal for who wants more than is left."""
    return BudgetExhausted(
        told=told(share, wanted),
        metric=share.metric,
        limit=share.limit,
        used=share.used,
        left=share.left,
        wanted=wanted,
        whose=f"each {whose}" if whose in ("agent", "service", "member") else whose,
        reset_time=instant_text(share.resets_at),
    )


async def note(tx: Transaction, spender: Spender, metric: str, amount: float) -> None:
    """Count what was done already, whatever the limit: nothing can be taken back of it.

    Parts of a unit add up, to the millionth, however many are noted at once.
    """
    bound = binding(await limits(tx, spender.names), spender, metric)
    if bound is None or amount <= 0:
        return
    account, day = spender.account(bound[0]), day_of(tx.now, await zone_of_organization(tx))
    await _open(tx, account, metric, day)
    parts = budget_use.c.millionths + round(amount * _MILLION)
    more = {"used": budget_use.c.used + parts // _MILLION, "millionths": parts % _MILLION}
    await tx.run(update(budget_use).where(*_is(account, metric, day)).values(more))


async def require(tx: Transaction, spender: Spender, metric: str) -> None:
    """Check that something is left of a budget, without taking it. Raises BudgetExhausted."""
    bound = binding(await limits(tx, spender.names), spender, metric)
    if bound is None:
        return
    zone = await zone_of_organization(tx)
    account = spender.account(bound[0])
    share = Share(metric, bound[1], await used(tx, account, metric, day_of(tx.now, zone)), reset_time(tx.now, zone))
    if not share.left:
        raise exhausted(share, 1, account)


async def used(tx: Transaction, account: str, metric: str, day: int) -> int:
    """Return what is used under a name on a day."""
    row = await tx.first(select(budget_use.c.used).where(*_is(account, metric, day)))
    return 0 if row is None else int(row.used)


async def zone_of_organization(tx: Transaction) -> Zone:
    """Return the zone whose days count."""
    return zone_of("", "", (await organizations.get(tx)).timezone)


async def forget_old(tx: Transaction) -> int:
    """Drop what was used long ago, in a system transaction; return how many rows."""
    return await tx.run(delete(budget_use).where(budget_use.c.day < utc_day_of(tx.now) - _KEPT_DAYS))


async def _open(tx: Transaction, account: str, metric: str, day: int) -> None:
    row = {"principal_id": account, "metric": metric, "day": day, "used": 0}
    await tx.insert(budget_use, [row], on_conflict="ignore")


def _is(account: str, metric: str, day: int) -> tuple[Any, Any, Any]:
    return budget_use.c.principal_id == account, budget_use.c.metric == metric, budget_use.c.day == day
