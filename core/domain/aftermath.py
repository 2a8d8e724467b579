"""What an effect leaves behind: facts that later steps of the same transition see, in a form every database keeps."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from core.domain.effects import (
    Ask,
    ChangeList,
    CreateRecord,
    CreateTask,
    Effect,
    Emit,
    EmitEvent,
    RequestApproval,
    SendMessage,
    UpdateRecord,
)
from core.domain.enrollment import Facts, RecordFacts, Sent
from core.domain.frozen import copied
from core.domain.workflow.storable import storable, storable_text


def after(facts: Facts, effect: Effect, workflow_id: str, now: datetime) -> Facts:
    """Return the facts once an effect is carried out."""
    match effect:
        case UpdateRecord(record_type="contact"):
            return copied(facts, contact=_updated(facts.contact, effect))
        case UpdateRecord(record_type="company") if facts.company is not None:
            return copied(facts, company=_updated(facts.company, effect))
        case UpdateRecord(record_type="lead") if facts.lead is not None:
            return copied(facts, lead=_updated(facts.lead, effect))
        case UpdateRecord():
            there = facts.records.items()
            now_so = {key: _updated(one, effect) if one.id == effect.record_id else one for key, one in there}
            return copied(facts, records=now_so)
        case CreateRecord(record_type="lead"):
            return copied(facts, lead=_made(effect))
        case CreateRecord(record_type="opportunity"):  # the newest, from now on
            return copied(facts, records={**facts.records, effect.record_type: _made(effect)})
        case SendMessage():
            return copied(facts, sent=(*facts.sent, Sent(effect.channel, now, workflow_id)))
        case ChangeList():
            on_it = facts.lists | {effect.list_name}
            return copied(facts, lists=on_it if effect.on else on_it - {effect.list_name})
        case _:
            return facts


def storable_effect(effect: Effect) -> Effect:
    """Return an effect that every database keeps; one poisonous row would hold up all that is written with it."""
    match effect:
        case Emit():
            return copied(effect, data=storable(effect.data))
        case UpdateRecord() | CreateRecord() | EmitEvent():
            fields = storable(effect.fields)
            return effect if fields is effect.fields else copied(effect, fields=fields)
        case RequestApproval():
            return copied(effect, title=storable_text(effect.title), details=storable(effect.details))
        case SendMessage():
            return copied(
                effect,
                to=storable_text(effect.to),
                subject=storable_text(effect.subject),
                text=storable_text(effect.text),
                html=storable_text(effect.html),
            )
        case CreateTask():
            return copied(
                effect,
                title=storable_text(effect.title),
                instructions=storable_text(effect.instructions),
                input=storable(effect.input),
            )
        case Ask():
            return copied(effect, payload=storable(effect.payload))
        case _:
            return effect


def _made(effect: CreateRecord) -> RecordFacts:
    new = RecordFacts(effect.id, effect.record_type, {})
    return _updated(new, UpdateRecord(effect.id, effect.record_type, effect.fields))


def _updated(record: RecordFacts, effect: UpdateRecord) -> RecordFacts:
    fields = dict(record.fields)
    for path, value in effect.fields.items():
        _set(fields, path, value)
    return RecordFacts(record.id, record.type, fields)


def _set(fields: dict[str, Any], path: str, value: Any) -> None:
    name, _, rest = path.partition(".")
    if rest:
        inner = fields.get(name)
        fields[name] = dict(inner) if isinstance(inner, Mapping) else {}
        _set(fields[name], rest, value)
    elif value is None:
        fields.pop(name, None)
    else:
        fields[name] = value
