"""Who is who in an approval: whom its rule names, and who is behind the principals that ask and decide."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlalchemy import or_, select

from core.domain.control.approval import Approval, Electors, Party
from core.store.organizations import api_keys as api_key_rows
from core.store.organizations.api_keys import api_keys
from core.store.organizations.members import MemberState, members
from core.store.transaction import Transaction

_ADMIN = "admin"


async def parties(tx: Transaction, principal_ids: Iterable[str]) -> dict[str, Party]:
    """Return principals with those behind them, by id; one without a key stands for itself alone."""
    wanted = set(principal_ids)
    kinds: dict[str, str] = {}
    makers: dict[str, set[str]] = {}
    agents: dict[str, set[str]] = {}
    front = set(wanted)
    # To the very first: who mints keys could else mint more in a row than anybody looks back at. `kinds` ends rings.
    columns = (
        *(api_keys.c.principal_id, api_keys.c.principal_kind, api_keys.c.created_by, api_keys.c.agent_id),
        api_keys.c.known_by,
    )
    while front:
        rows = await tx.all(select(*columns).where(api_keys.c.principal_id.in_(sorted(front))))
        for row in rows:
            kinds[row.principal_id] = row.principal_kind
            # A person's own keys may be minted by an admin, who is not behind the person for that.
            if row.principal_kind != "member":
                knowing = {row.created_by, *(row.known_by or ())} - {"", row.principal_id}
                makers.setdefault(row.principal_id, set()).update(knowing)
            if row.agent_id:
                agents.setdefault(row.principal_id, set()).add(row.agent_id)
        front = {maker for one in front for maker in makers.get(one, ())} - kinds.keys()
    return {one: Party(one, kinds.get(one, "member"), _behind(one, makers, agents)) for one in wanted}


async def calling(tx: Transaction, principal_id: str, kind: str, key_id: str) -> Party:
    """Return who calls with those behind it, and behind a member those who learnt the secret of the very key, too."""
    knowing = await api_key_rows.known_by(tx, key_id)
    found = await parties(tx, {principal_id, *knowing})
    behind = found[principal_id].behind.union(knowing, *(found[one].behind for one in knowing))
    return Party(principal_id, kind, behind - {principal_id})


def _behind(one: str, makers: Mapping[str, set[str]], agents: Mapping[str, set[str]]) -> frozenset[str]:
    found: set[str] = set()
    front = {one}
    while front:
        following = {maker for who in front for maker in makers.get(who, ())} | {
            agent for who in front for agent in agents.get(who, ())
        }
        front = following - found - {one}
        found |= front
    return frozenset(found)


async def of(tx: Transaction, approval: Approval) -> Electors:
    """Return the members that an approval's rule names who are there; None where it names nobody."""
    rule, escalated = approval.rule, approval.escalated_at is not None
    if rule.is_open and not escalated:
        return None
    roles, named = set(rule.roles), set(rule.member_ids)
    if escalated:
        named |= set(rule.escalate_to)
        roles |= set() if rule.escalate_to else {_ADMIN}
    if escalated and rule.is_open:
        return None  # whoever may decide still may; the escalation only tells others
    statement = select(members.c.id).where(members.c.state == MemberState.ACTIVE)
    which = or_(members.c.role.in_(sorted(roles)), members.c.id.in_(sorted(named)))
    return frozenset(row.id for row in await tx.all(statement.where(which))) - {approval.requester_id}
