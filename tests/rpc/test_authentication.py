"""What is remembered of keys: every process hears of a change, and what was read before it is not remembered after."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from core import provisioning
from core.clock import ManualClock
from core.domain.control.scopes import role_scopes
from core.domain.errors import Unauthenticated
from core.rpc.admission.authentication import Authenticator
from core.store.database import Database
from core.store.organizations import api_keys, members

pytestmark = pytest.mark.anyio


async def _keys(database: Database) -> tuple[str, str, str]:
    """Return an organization, a member of it, and the member's key."""
    organization = await provisioning.create_organization(database, "Acme")
    async with database.write(organization.org_id) as tx:
        row = {"id": "mem_ada", "email": "ada@example.com", "display_name": "Ada", "role": "editor"}
        await tx.insert(members.members, [{**row, "created_at": tx.now}])
    key = await provisioning.mint_key(database, organization.org_id, "Ada", "member", "mem_ada", role_scopes("editor"))
    return organization.org_id, "mem_ada", f"Bearer {key}"


async def test_another_process_forgets_at_once(postgresql_database: Database, clock: ManualClock) -> None:
    here = postgresql_database
    there = await Database.open(here.url.render_as_string(hide_password=False), clock)
    org, member, key = await _keys(here)
    elsewhere = Authenticator(there, clock)
    heard = there.wakeups.event(api_keys.CHANGED)
    assert (await elsewhere.caller(key)).scopes == role_scopes("editor")
    for _ in range(50):  # its side connection may still be on its way
        async with here.write(org) as tx:
            await members.change(tx, member, role="viewer")
            tx.wake(api_keys.CHANGED)
        try:
            await asyncio.wait_for(heard.wait(), 0.2)
            break
        except TimeoutError:
            continue
    assert (await elsewhere.caller(key)).scopes == role_scopes("viewer")
    await there.close()


async def test_without_a_signal_a_change_counts_within_30_seconds(database: Database, clock: ManualClock) -> None:
    org, _, key = await _keys(database)
    authenticator = Authenticator(database, clock)
    await authenticator.caller(key)
    async with database.write(org) as tx:
        await api_keys.revoke_of_principal(tx, "mem_ada")
        tx.wakes.clear()
    await authenticator.caller(key)
    clock.advance(timedelta(seconds=30))
    with pytest.raises(Unauthenticated):
        await authenticator.caller(key)


async def test_what_was_read_before_a_change_is_not_remembered_after_it(
    postgresql_database: Database, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = postgresql_database
    org, _, key = await _keys(database)
    authenticator = Authenticator(database, clock)
    found = api_keys.find

    async def slow(tx: object, secret: str) -> object:
        row = await found(tx, secret)  # type: ignore[arg-type]
        async with database.write(org) as other:
            await api_keys.revoke_of_principal(other, "mem_ada")
        return row

    monkeypatch.setattr(api_keys, "find", slow)
    await authenticator.caller(key)
    monkeypatch.undo()
    with pytest.raises(Unauthenticated):
        await authenticator.caller(key)
