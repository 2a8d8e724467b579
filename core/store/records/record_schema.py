"""What organizations defined of their records, and the check of their own fields that every write path makes.

A schema is kept by a token that changes with each definition, and the token is read anew by every write that needs it:
what one process defines holds in all others from its commit on. Whoever writes own fields holds a lock that whoever
defines one waits for, so that no value slips past a definition.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Column, Integer, Table, select, update

from core import ids
from core.domain.errors import Violation
from core.domain.frozen import frozen
from core.domain.records.definitions import Definition, FieldKind
from core.domain.records.fields import fit_custom, missing_fields
from core.domain.records.schema import STANDARD, OwnType, Schema, build
from core.domain.records.standard import ID_PREFIXES
from core.store.metadata import Instant, Json, Name, dump_json, metadata, org_id
from core.store.transaction import Transaction

MOST_TYPES = 50
MOST_FIELDS = 200
"""Of one type, those out of use among them."""

record_schemas = Table(
    "record_schemas",
    metadata,
    org_id(),
    Column("version", Integer, nullable=False),
    # Another one with each change; never the same in two databases.
    Column("token", Name, nullable=False),
)

record_types = Table(
    "record_types",
    metadata,
    org_id(),
    Column("name", Name, primary_key=True),
    Column("display_name", Name, nullable=False),
    Column("plural_name", Name, nullable=False),
    Column("description", Name, nullable=False),
    Column("title_field", Name, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
)

record_fields = Table(
    "record_fields",
    metadata,
    org_id(),
    Column("record_type", Name, primary_key=True),
    Column("name", Name, primary_key=True),
    # Its place among the type's own fields.
    Column("number", Integer, nullable=False),
    Column("definition", Json, nullable=False),
    Column("updated_by", Name, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
)

_LOCKS = 0x6472_6973
"""Any number that no other advisory lock has."""
_HOLD = f"SELECT pg_advisory_xact_lock_shared({_LOCKS}, k) FROM unnest($1::int[]) AS k"  # noqa: S608 -- a number
_HOLD_ALONE = f"SELECT pg_advisory_xact_lock({_LOCKS}, $1)"
_TOKENS_POSTGRESQL = "SELECT org_id, token FROM record_schemas WHERE org_id = ANY($1::text[])"
_TOKENS_SQLITE = "SELECT org_id, token FROM record_schemas WHERE org_id IN (SELECT value FROM json_each($1))"

_MOST_KEPT = 1_000
_kept: OrderedDict[str, Schema] = OrderedDict()
"""Schemas by token, the longest unused first."""


@frozen
class Patch:
    """Fields of one record on their way into the store."""

    org_id: str
    record_type: str
    fields: Mapping[str, Any]
    """Dotted path to value; standard fields in stored form already."""
    path: str = ""
    """Where the caller wrote them, for what is wrong."""
    creates: bool = False
    demanding: bool = True
    """What a record must have is demanded; not of what events and workflows bring."""


@frozen
class Fitted:
    """A patch with its own fields as they are stored, without those that do not fit."""

    fields: Mapping[str, Any]
    violations: tuple[Violation, ...] = ()


async def of(tx: Transaction) -> Schema:
    """Return the schema of the transaction's organization."""
    return (await of_many(tx, [tx.org_id]))[tx.org_id]


async def of_many(tx: Transaction, orgs: Iterable[str]) -> dict[str, Schema]:
    """Return the schema of each of these organizations."""
    wanted = sorted(set(orgs))
    if tx.dialect == "postgresql":
        rows = await tx.fetch(_TOKENS_POSTGRESQL, wanted)
    else:
        rows = await tx.fetch(_TOKENS_SQLITE, dump_json(wanted))
    found = dict.fromkeys(wanted, STANDARD)
    for org, token in rows:
        if token not in _kept:
            _kept[token] = await _load(tx, org)
            if len(_kept) > _MOST_KEPT:
                _kept.popitem(last=False)
        _kept.move_to_end(token)
        found[org] = _kept[token]
    return found


async def fit(tx: Transaction, patches: Sequence[Patch]) -> list[Fitted]:
    """Return patches with their own fields as they are stored, and everything that is wrong with those.

    Whoever defines a field of these organizations waits until the transaction ends.
    """
    touching = [one for one in patches if _is_own(one)]
    creating = [one for one in patches if one.creates and one.demanding]
    if not touching and not creating:
        return [Fitted(one.fields) for one in patches]
    if touching:
        await _hold(tx, {one.org_id for one in touching})
    schemas = await of_many(tx, {one.org_id for one in (*touching, *creating)})
    return [_fitted(one, schemas.get(one.org_id, STANDARD)) for one in patches]


def touches_own(patch: Mapping[str, Any]) -> bool:
    """Tell whether a patch of dotted paths sets anything below `custom`."""
    return any(path.startswith("custom") for path in patch)


def _is_own(patch: Patch) -> bool:
    return patch.record_type not in ID_PREFIXES or touches_own(patch.fields)


def _fitted(patch: Patch, schema: Schema) -> Fitted:
    if patch.record_type not in schema.strict:
        return Fitted(patch.fields)
    cleared = patch.demanding and not patch.creates
    fields, wrong = fit_custom(patch.record_type, patch.fields, patch.path, schema, cleared=cleared)
    if patch.creates and patch.demanding:
        given = {one.field for one in wrong}
        missing = missing_fields(patch.record_type, fields, patch.path, schema)
        wrong += [one for one in missing if ".custom." in f".{one.field}" and one.field not in given]
    return Fitted(fields, tuple(wrong))


async def _hold(tx: Transaction, orgs: Iterable[str]) -> None:
    if tx.dialect == "postgresql":  # on SQLite there is one writer
        await tx.fetch(_HOLD, sorted({_key(org) for org in orgs}))


async def change_alone(tx: Transaction) -> Schema:
    """Wait until nobody writes own fields of the organization, keep others from it, and return what there is."""
    if tx.dialect == "postgresql":
        await tx.fetch(_HOLD_ALONE, _key(tx.org_id))
    return await of(tx)


def _key(org: str) -> int:
    return int.from_bytes(hashlib.sha256(org.encode()).digest()[:4], signed=True)


async def _load(tx: Transaction, org: str) -> Schema:
    schemas, types, fields = record_schemas, record_types, record_fields
    (row,) = await tx.all(select(schemas.c.version).where(schemas.c.org_id == org))
    own = await tx.all(select(types).where(types.c.org_id == org).order_by(types.c.name))
    defined = await tx.all(
        select(fields).where(fields.c.org_id == org).order_by(fields.c.record_type, fields.c.number, fields.c.name)
    )
    return build(
        row.version,
        [OwnType(one.name, one.display_name, one.plural_name, one.description, one.title_field) for one in own],
        [(one.record_type, from_json(one.name, one.definition)) for one in defined],
    )


async def put_type(tx: Transaction, own: OwnType) -> None:
    """Write a type of the organization's own, or its new names."""
    values = {
        "display_name": own.display_name,
        "plural_name": own.plural,
        "description": own.description,
        "title_field": own.title_field,
        "updated_at": tx.now,
    }
    changed = await tx.run(update(record_types).where(record_types.c.name == own.name).values(values))
    if not changed:
        await tx.insert(record_types, [{"name": own.name, "created_at": tx.now, **values}])
    await _changed(tx)


async def put_field(tx: Transaction, record_type: str, definition: Definition, number: int, *, by: str) -> None:
    """Write a definition, or what became of it."""
    values = {"definition": to_json(definition), "updated_by": by, "updated_at": tx.now}
    c = record_fields.c
    which = (c.record_type == record_type, c.name == definition.name)
    if not await tx.run(update(record_fields).where(*which).values(values)):
        row = {"record_type": record_type, "name": definition.name, "number": number, "created_at": tx.now}
        await tx.insert(record_fields, [{**row, **values}])
    await _changed(tx)


async def _changed(tx: Transaction) -> None:
    token = ids.mint("sch", tx.now)
    c = record_schemas.c
    if not await tx.run(update(record_schemas).values(version=c.version + 1, token=token)):
        await tx.insert(record_schemas, [{"version": 1, "token": token}])


def to_json(definition: Definition) -> dict[str, Any]:
    """Return a definition as it is stored, without what it does not say."""
    said = {
        name: getattr(definition, name) for name in Definition.__dataclass_fields__ if name not in ("name", "choices")
    }
    said = {name: value for name, value in said.items() if value not in ("", None, False) or name == "kind"}
    if not definition.max_characters:
        said.pop("max_characters", None)
    return {
        **said,
        "kind": str(definition.kind),
        **({"choices": list(definition.choices)} if definition.choices else {}),
    }


def from_json(name: str, said: Mapping[str, Any]) -> Definition:
    """Return a stored definition."""
    rest = {key: value for key, value in said.items() if key not in ("kind", "choices")}
    return Definition(name, FieldKind(said["kind"]), choices=tuple(said.get("choices", ())), **rest)
