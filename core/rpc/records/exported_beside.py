"""What an export has beside the fields of records: what was defined, and of contacts their lists and their consent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select

from core.domain.records.schema import Schema, TypeSchema
from core.domain.records.values import instant_text
from core.rpc.call import Call
from core.store.messages.consent import consents
from core.store.records import pipelines, record_schema
from core.store.records.lists import list_members
from core.store.transaction import Transaction


async def definitions(tx: Transaction, call: Call, schema: Schema, types: Sequence[str]) -> dict[str, Any]:
    """Return own types, own fields and pipelines of these types, each as the call that defines it takes it."""
    shown = [schema.of(name) for name in types]
    found: dict[str, Any] = {"record_types": [_type(one, call) for one in shown if one.own or one.custom]}
    if pipelines.OPPORTUNITY in types:
        rows = await tx.all(pipelines.listing().order_by(pipelines.pipelines.c.created_at, pipelines.pipelines.c.id))
        of_rows = [pipelines.to_domain(row) for row in rows]
        found["pipelines"] = [
            {"id": one.id, "display_name": one.display_name, "stages": [stage.to_json() for stage in one.stages]}
            for one in of_rows
        ]
    return found


def _type(of: TypeSchema, call: Call) -> dict[str, Any]:
    fields = [
        {"name": one.name, **record_schema.to_json(one)}
        for one in of.live
        if not call.caller.limits.hide(of.name, one.path)
    ]
    told: dict[str, Any] = {"type": of.name, "fields": fields}
    if of.own:
        names = {"display_name": of.display_name, "plural_name": of.plural, "description": of.description}
        told |= {**names, "title_field": of.title_fields[0]}
    return told


async def of_contacts(tx: Transaction, contact_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return, by contact, the lists it is on and what it said it may be sent; nothing for one without either."""
    found: dict[str, dict[str, Any]] = {}
    m, c = list_members.c, consents.c
    on = select(m.contact_id, m.list_name).where(m.contact_id.in_(contact_ids)).order_by(m.contact_id, m.list_name)
    for row in await tx.all(on):
        found.setdefault(row.contact_id, {}).setdefault("lists", []).append(row.list_name)
    said = select(consents).where(c.contact_id.in_(contact_ids)).order_by(c.contact_id, c.channel, c.purpose)
    for row in await tx.all(said):
        answer = {"channel": row.channel, "purpose": row.purpose, "granted": row.granted}
        about = {"actor": row.actor, "reason": row.reason, "update_time": instant_text(row.updated_at)}
        found.setdefault(row.contact_id, {}).setdefault("consents", []).append({**answer, **about})
    return found
