"""The budget of messages: each counts for who enrolled the contact, and what is over waits for the next day."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select

from core.domain.control.budget import Share, day_of, reset_time
from core.domain.frozen import frozen
from core.domain.records.values import instant_text
from core.store.control import budgets
from core.store.control.budgets import Spender
from core.store.keys import these
from core.store.messages.outgoing import ClaimedMessage
from core.store.organizations.api_keys import api_keys
from core.store.organizations.members import members
from core.store.transaction import Transaction
from core.store.workflows.enrollments import enrollments

METRIC = "messages"


@frozen
class Held:
    """Why a message is not sent now, and when it is looked at again."""

    until: datetime
    reason: str


async def held(tx: Transaction, claimed: Sequence[ClaimedMessage]) -> dict[str, Held]:
    """Take messages from the budgets that they count for, in a system transaction; return those that are over, by id.

    A message counts once, before its first try.
    """
    fresh = [one for one in claimed if one.attempts == 0]
    if not fresh:
        return {}
    orgs = sorted({one.org_id for one in fresh})
    limited = await tx.all(
        select(budgets.budgets.c.org_id)
        .where(budgets.budgets.c.org_id.in_(orgs), budgets.budgets.c.metric == METRIC)
        .distinct()
    )
    found: dict[str, Held] = {}
    for org in sorted(row.org_id for row in limited):
        found |= await _of_organization(tx.within(org), [one for one in fresh if one.org_id == org])
    return found


async def _of_organization(tx: Transaction, claimed: Sequence[ClaimedMessage]) -> dict[str, Held]:
    limits = await budgets.limits(tx)
    zone = await budgets.zone_of_organization(tx)
    spenders = await _spenders(tx, claimed)
    waiting: dict[tuple[str, int], list[ClaimedMessage]] = defaultdict(list)
    for message in claimed:
        spender = spenders.get(message.enrollment_id)
        bound = budgets.binding(limits, spender, METRIC) if spender is not None else None
        if spender is not None and bound is not None:
            waiting[spender.account(bound[0]), bound[1]].append(message)
    found: dict[str, Held] = {}
    for (account, limit), some in sorted(waiting.items()):  # one order for every process
        used = await budgets.take_some(tx, account, METRIC, day_of(tx.now, zone), len(some), limit)
        share = Share(METRIC, limit, used, reset_time(tx.now, zone))
        told = (
            f"held: {account} has sent the {limit:,} messages that it may a day; until {instant_text(share.resets_at)}"
        )
        found |= {one.id: Held(share.resets_at, told) for one in some[share.left :]}
    return found


async def _spenders(tx: Transaction, claimed: Sequence[ClaimedMessage]) -> dict[str, Spender]:
    """Return who enrolled, by enrollment; triggers and the core itself have no budget."""
    e = enrollments.c
    wanted = these(enrollments, [(one.org_id, one.enrollment_id) for one in claimed])
    actors = {row.id: row.actor for row in await tx.all(select(e.id, e.actor).where(wanted))}
    k = api_keys.c
    who = sorted(set(actors.values()))
    keys = await tx.all(
        select(k.principal_id, k.principal_kind, k.agent_id).where(k.principal_id.in_(who)).order_by(k.id)
    )
    known = {row.principal_id: Spender(row.principal_id, row.principal_kind, row.agent_id) for row in keys}
    people = await tx.all(select(members.c.id).where(members.c.id.in_(who)))
    known = {row.id: Spender(row.id, "member") for row in people} | known
    return {enrollment: known[actor] for enrollment, actor in actors.items() if actor in known}
