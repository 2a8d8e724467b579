"""What a new master key takes: every secret is wrapped anew under it, and those that stand unsealed are sealed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Row, Table, Text, and_, cast, func, or_, select, update

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
    found = await sealed_under(tx)
    if not found:
        return found
    keys.seals_already = True
    try:
        return await sealed_under(tx, but=[key.id for key in keys.all()])
    except NoMasterKeys:
        return found


async def sealed_under(tx: Transaction, *, but: Collection[str] = ()) -> set[str]:
    """Return the ids of master keys, other than these, that something is sealed under, in a system transaction.

    Every row is looked at; of very many under other keys only some ids are told, but never none.
    """
    found = {row.key_id for row in await tx.all(select(credentials.c.key_id).distinct())} - set(but)
    for table, (names, secrets_of) in _PLACES.items():
        suspect = or_(*(_without(table.c[name], but).contains(envelope.SEALED) for name in names))
        after, here = ("", ""), set[str]()
        while not here:
            statement = select(table).where(_beyond(table, after), suspect).order_by(table.c.org_id, table.c.id)
            rows = await tx.all(statement.limit(_LOOKED_AT))
            sealed = (envelope.from_text(text) for row in rows for text in secrets_of(row))
            here = {one.key_id for one in sealed if one is not None} - set(but)
            if len(rows) < _LOOKED_AT:
                break
            after = (rows[-1].org_id, rows[-1].id)
        found |= here
    return found


async def drop_old(tx: Transaction, keys: MasterKeys) -> bool:
    """Leave only the key that seals, in a system transaction, unless something is sealed under another by now.

    Who is about to write where something is sealed is waited for, and others wait: a look alone would miss them.
    """
    if tx.dialect == "postgresql":  # SQLite has one writer at a time, and this is it
        names = ", ".join(table.name for table in (credentials, *_PLACES))
        await (await tx.driver()).execute(f"LOCK TABLE {names} IN SHARE MODE")
    if await sealed_under(tx, but=[keys.all()[0].id]):
        return False
    keys.keep_first()
    return True


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
    rows = await tx.all(
        select(table).where(_beyond(table, after)).order_by(c.org_id, c.id).limit(_AT_ONCE).with_for_update()
    )
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


def _beyond(table: Table, after: tuple[str, str]) -> ColumnElement[bool]:
    c = table.c
    return or_(c.org_id > after[0], and_(c.org_id == after[0], c.id > after[1]))


def _without(column: ColumnElement[Any], key_ids: Collection[str]) -> ColumnElement[str]:
    """Return a column as text, without the beginnings of what is sealed under these keys."""
    text: ColumnElement[str] = cast(column, Text)
    for key_id in key_ids:
        text = func.replace(text, f"{envelope.SEALED}{key_id}:", "", type_=Text)
    return text


def _of_endpoint(row: Row[Any]) -> list[str]:
    return [*(one["secret"] for one in row.secrets), row.signing_seed, *_of_auth(row)]


def _of_auth(row: Row[Any]) -> list[str]:
    auth = authentication.from_column(row.auth)
    return [] if auth is None else [authentication.secret_of(auth)]


_PLACES: Mapping[Table, tuple[Sequence[str], Callable[[Row[Any]], list[str]]]] = {
    endpoints_table: (("secrets", "auth", "signing_seed"), _of_endpoint),
    connections_table: (("auth",), _of_auth),
}
"""Where sealed texts stand: in which columns, and what of a row is secret. Who is named in `auth` is not."""
