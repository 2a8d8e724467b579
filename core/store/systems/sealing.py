"""What a new master key takes: every secret is wrapped anew under it, and those that stand unsealed are sealed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Row, Table, and_, or_, select, update

from core import ids
from core.domain.frozen import frozen
from core.domain.systems import envelope
from core.domain.systems.envelope import MasterKey
from core.domain.webhooks import authentication
from core.store.systems import connections
from core.store.systems.connections import connections as connections_table
from core.store.systems.credentials import credentials
from core.store.systems.master_keys import MasterKeys, NoMasterKeys
from core.store.systems.vault import Vault
from core.store.transaction import Transaction
from core.store.webhooks import endpoints
from core.store.webhooks.endpoints import endpoints as endpoints_table

_AT_ONCE = 500
_LOOKED_AT = 100

Renew = Callable[[str, str], str]
"""Makes a stored secret that belongs somewhere into what is stored from now on."""


@frozen
class Renewed:
    """How far all rows have been gone through."""

    after: tuple[str, str]
    """Organization and id of the last one; empty at the end."""
    count: int
    """Rows that were changed."""


async def missing_keys(tx: Transaction, keys: MasterKeys) -> set[str]:
    """Return the master keys that something is sealed under and that are not here, in a system transaction.

    Where there is no key at all none is made from then on.
    """
    found = {row.key_id for row in await tx.all(select(credentials.c.key_id).distinct())}
    for row in await tx.all(select(endpoints_table.c.secrets).limit(_LOOKED_AT)):
        found |= {sealed.key_id for one in row.secrets if (sealed := envelope.from_text(one["secret"])) is not None}
    if not found:
        return found
    keys.seals_already = True
    try:
        return found - {key.id for key in keys.all()}
    except NoMasterKeys:
        return found


async def renew_endpoints(tx: Transaction, vault: Vault, after: tuple[str, str]) -> Renewed:
    """Wrap the secrets of some endpoints anew, in a system transaction. Raises CannotOpen."""
    return await _renew(tx, endpoints_table, after, _renewer(vault), _endpoint)


async def renew_connections(tx: Transaction, vault: Vault, after: tuple[str, str]) -> Renewed:
    """Wrap the secrets of some connections anew, in a system transaction. Raises CannotOpen."""
    return await _renew(tx, connections_table, after, _renewer(vault), _connection)


async def _renew(
    tx: Transaction,
    table: Table,
    after: tuple[str, str],
    renew: Renew,
    columns_of: Callable[[Row[Any], Renew], dict[str, Any]],
) -> Renewed:
    c = table.c
    beyond = or_(c.org_id > after[0], and_(c.org_id == after[0], c.id > after[1]))
    rows = await tx.all(select(table).where(beyond).order_by(c.org_id, c.id).limit(_AT_ONCE).with_for_update())
    count = 0
    for row in rows:
        columns = columns_of(row, renew)
        if columns != {name: getattr(row, name) for name in columns}:
            await tx.run(update(table).where(c.org_id == row.org_id, c.id == row.id).values(columns))
            count += 1
    return Renewed((rows[-1].org_id, rows[-1].id) if len(rows) == _AT_ONCE else ("", ""), count)


def _renewer(vault: Vault) -> Renew:
    assert vault.keys is not None
    keys: Sequence[MasterKey] = vault.keys.all()

    def renew(stored: str, about: str) -> str:
        sealed = envelope.from_text(stored)
        if sealed is None:
            return vault.seal(stored, about)
        if sealed.key_id == keys[0].id:
            return stored
        return envelope.to_text(envelope.rewrap(keys, sealed, about, ids.new_secret_bytes))

    return renew


def _endpoint(row: Row[Any], renew: Renew) -> dict[str, Any]:
    at = {name: endpoints.about(row.org_id, row.id, name) for name in ("secrets", "auth", "signing_seed")}
    return {
        "secrets": [{**one, "secret": renew(one["secret"], at["secrets"])} for one in row.secrets],
        "auth": _auth(row, renew, at["auth"]),
        "signing_seed": renew(row.signing_seed, at["signing_seed"]) if row.signing_seed else "",
    }


def _connection(row: Row[Any], renew: Renew) -> dict[str, Any]:
    return {"auth": _auth(row, renew, connections.about(row.org_id, row.id))}


def _auth(row: Row[Any], renew: Renew, about: str) -> dict[str, str]:
    auth = authentication.from_column(row.auth)
    if auth is not None:
        auth = authentication.with_secret(auth, renew(authentication.secret_of(auth), about))
    return authentication.column(auth)
