"""What a key with limits is shown: hidden fields and types of records leave every answer here, by one walk over it.

Messages that say whose field a value is lose exactly what is hidden. Free-form values (events, traces, tasks, payloads
of executions) do not say it: they lose every entry of such a name. Texts that hold payloads, or quote values where they
explain, are emptied. Texts that a workflow's author wrote for whoever reads them (a task's, an approval's) stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableSequence
from contextlib import contextmanager
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import ListValue, Struct, Value

from core.domain.control.key_limits import KeyLimits
from core.domain.errors import DripstoneError, KeyLimited
from core.rpc.admission.named_fields import LOOKED_AT, TYPE_OF_PREFIX, prefix_of
from dripstone.v1.enrollment_pb2 import ENROLL_OUTCOME_INVALID

_SCHEMAS = frozenset("schema output_schema config_schema config settings document counts".split())
"""Free-form fields that hold no values of records."""

_PAYLOADS: Mapping[str, tuple[str, ...]] = {
    "Delivery": ("payload",),
    "Attempt": ("response",),
    "QuarantinedEvent": ("body", "message"),
    "StreamedMessage": ("payload",),
    "ImportFault": ("message",),
}
"""Texts that hold payloads, or quote them."""

_EXPLAINING: Mapping[str, tuple[str, ...]] = {
    "Enrollment": ("end_reason", "key"),
    "TraceEntry": ("reason", "effects"),
    "EntryReason": ("message",),
    "WhyNotResponse": ("why",),
    "ExplainEnrollmentResponse": ("why", "next"),
    "DeadLetter": ("reason",),
    "OutgoingMessage": ("to", "subject", "outcome"),
    "RedriveResult": ("failure",),
    "Execution": ("error",),
    "ExecutionStep": ("reason", "logs"),
    "SyncItem": ("error",),
    "DeliveryRule": ("detail",),
    "ExplainDeliveryResponse": ("summary",),
}
"""Texts that quote values where they explain, of a contact, its lead or its company, or are made of them."""

_INPUTS: Mapping[str, tuple[str, ...]] = {"TraceEntry": ("inputs",), "EntryReason": ("inputs",)}
"""Values of any of these types; hidden fields leave them by name."""

_RAW: Mapping[str, tuple[str, ...]] = {
    name: (*_PAYLOADS.get(name, ()), *_EXPLAINING.get(name, ())) for name in {**_PAYLOADS, **_EXPLAINING}
}
"""Texts that a key with hidden fields is not shown."""

_QUOTING = frozenset({"call", "plan"})
"""Subjects of approvals whose title and details are made of records, and of what requests say."""

_TELLS_NO_VALUE = frozenset("reason kind risk item_count excluded_count counts method caller fields changed".split())

_STRUCTS = frozenset({Struct.DESCRIPTOR.full_name, Value.DESCRIPTOR.full_name, ListValue.DESCRIPTOR.full_name})


def shown(message: Message, limits: KeyLimits) -> Message:
    """Return the part of an answer that a key with these limits may see.

    Raises KeyLimited when the answer itself is a record of another type than the key's own.
    """
    if (limits.hidden_fields or limits.record_types) and not _walk(message, limits):
        why = "it is limited to certain types of records, and this is none of them"
        raise KeyLimited(limit="record_types", why=why)
    return message


@contextmanager
def hidden_from_errors(limits: KeyLimits) -> Iterator[None]:
    """Take from errors what they quote of records, for keys that do not see all that may be quoted."""
    try:
        yield
    except DripstoneError as error:
        if error.quotes and not _explained_to(limits):
            raise error.unquoted() from error
        raise


def _explained_to(limits: KeyLimits) -> bool:
    """Tell whether a key may read sentences that quote any value a workflow looks at."""
    return not limits.hidden_fields and not limits.record_types  # own types are looked at, too


def _walk(message: Any, limits: KeyLimits) -> bool:
    """Take away what is hidden, in place; tell whether the message itself may stay."""
    descriptor = message.DESCRIPTOR
    keep = _KEEP.get(descriptor.name)
    if keep is not None and not keep(message, limits):
        return False
    if limits.hidden_fields:
        for name in _RAW.get(descriptor.name, ()):
            message.ClearField(name)
    elif not _explained_to(limits):
        for name in (*_EXPLAINING.get(descriptor.name, ()), *_INPUTS.get(descriptor.name, ())):
            message.ClearField(name)
    for name, repeated, free in _inner(descriptor):
        if free:
            _strip_field(message, name, repeated, limits)
        elif repeated:
            items: MutableSequence[Any] = getattr(message, name)
            for index in range(len(items) - 1, -1, -1):
                if not _walk(items[index], limits):
                    del items[index]
        elif message.HasField(name) and not _walk(getattr(message, name), limits):
            message.ClearField(name)
    return True


@cache
def _inner(descriptor: Descriptor) -> tuple[tuple[str, bool, bool], ...]:
    """Return the fields of a message that may hold something to take away: name, repeated, free-form."""
    found = []
    for field in descriptor.fields:
        inner = field.message_type
        if inner is None or inner.GetOptions().map_entry or field.name in _SCHEMAS:
            continue
        if inner.full_name in _STRUCTS:
            if descriptor.name not in _KEEP:
                found.append((field.name, field.is_repeated, True))
        elif not inner.full_name.startswith("google.") and _holds(inner, frozenset()):
            found.append((field.name, field.is_repeated, False))
    return tuple(found)


def _holds(descriptor: Descriptor, above: frozenset[str]) -> bool:
    if descriptor.name in _KEEP or descriptor.name in _RAW:
        return True
    if descriptor.full_name in above:
        return False
    above |= {descriptor.full_name}
    return any(
        field.message_type is not None
        and not field.message_type.GetOptions().map_entry
        and (
            (field.message_type.full_name in _STRUCTS and field.name not in _SCHEMAS)
            or (not field.message_type.full_name.startswith("google.") and _holds(field.message_type, above))
        )
        for field in descriptor.fields
    )


def _strip_field(message: Any, name: str, repeated: bool, limits: KeyLimits) -> None:
    if limits.hidden_fields and (repeated or message.HasField(name)):
        names = limits.hidden_names() | limits.hidden_fields
        for value in getattr(message, name) if repeated else (getattr(message, name),):
            _strip(value, names)


def _strip(value: Any, names: frozenset[str]) -> None:
    """Take entries of these names out of a free-form value, at any depth."""
    match value:
        case Struct():
            _strip_entries(value, names)
        case ListValue():
            for item in value.values:
                _strip(item, names)
        case Value():
            kind = value.WhichOneof("kind")
            if kind in ("struct_value", "list_value"):
                _strip(getattr(value, kind), names)


def _strip_entries(struct: Struct, names: frozenset[str]) -> None:
    below = frozenset(name.partition(".")[2] for name in names if "." in name)
    for key in list(struct.fields):
        tail = key.rpartition(".")[2]
        if "*" in names or key in names or key.partition(".")[2] in names or (tail in names and key.count(".") <= 2):
            del struct.fields[key]
        else:
            _strip(struct.fields[key], names | below)


def _type_of(record_id: str) -> str:
    return TYPE_OF_PREFIX.get(prefix_of(record_id), record_id if record_id in TYPE_OF_PREFIX.values() else "")


def _hides(limits: KeyLimits, record_type: str, field: str) -> bool:
    """Tell whether a field is hidden; of a record whose type is not told, whosever it is."""
    if record_type:
        return limits.hide(record_type, field)
    return field in limits.hidden_names()


def _record(record: Any, limits: KeyLimits) -> bool:
    if not limits.allow_type(record.type):
        return False
    gone: list[str] = []
    _hide_fields(record.fields, record.type, "", limits, gone)
    if any(text and text in record.title for text in gone):
        record.title = ""
    return True


def _hide_fields(fields: Struct, record_type: str, prefix: str, limits: KeyLimits, gone: list[str]) -> None:
    for name in list(fields.fields):
        value = fields.fields[name]
        if limits.hide(record_type, f"{prefix}{name}"):
            gone.append(value.string_value)
            del fields.fields[name]
        elif value.WhichOneof("kind") == "struct_value":
            _hide_fields(value.struct_value, record_type, f"{prefix}{name}.", limits, gone)


def _found(found: Any, limits: KeyLimits) -> bool:
    """Keep what was found by something that is shown: else a search would tell what is hidden."""
    record_type = found.record.type
    matched = list(found.matched_fields)
    seen = [name for name in matched if not limits.hide(record_type, name)]
    if not limits.allow_type(record_type) or (matched and not seen):
        return False
    del found.matched_fields[:]
    found.matched_fields.extend(seen)
    title = found.record.title
    _record(found.record, limits)
    if title and not found.record.title:
        found.title = ""
    return True


def _change(change: Any, limits: KeyLimits) -> bool:
    record_type = change.record_type or _type_of(change.record_id)
    return (not record_type or limits.allow_type(record_type)) and not _hides(limits, record_type, change.field)


def _of_record(change: Any, limits: KeyLimits) -> bool:
    return not _hides(limits, _type_of(change.record_id), change.field)


def _plan_item(item: Any, limits: KeyLimits) -> bool:
    record_type = _type_of(item.record_id)
    if record_type and not limits.allow_type(record_type):
        return False
    gone = [change for change in item.changes if _hides(limits, record_type, change.field)]
    if gone or limits.hidden_fields:  # a title is made of fields, and does not say of which
        item.title = ""
    for change in gone:
        item.changes.remove(change)
    return True


def _approval(approval: Any, limits: KeyLimits) -> bool:
    """Keep that somebody asks, and why: a call's request and a plan's items quote values under no field's own name."""
    if approval.subject_kind in _QUOTING:
        approval.title = ""
        for key in list(approval.details.fields):
            if key not in _TELLS_NO_VALUE:
                del approval.details.fields[key]
    elif limits.hidden_fields:
        _strip(approval.details, limits.hidden_names() | limits.hidden_fields)
    return True


def _plan(plan: Any, limits: KeyLimits) -> bool:
    """Keep a plan without its title, which quotes who it is about or what they were chosen by."""
    plan.title = ""
    return True


def _fact(fact: Any, limits: KeyLimits) -> bool:
    """Keep that a fact counted, without its value."""
    record_type, _, field = fact.path.partition(".")
    # Events, lists and the like are the contact's.
    owner = record_type if record_type in LOOKED_AT or limits.allow_type(record_type) else "contact"
    if limits.hide(record_type, field) or not limits.allow_type(owner):
        fact.ClearField("value")
        if "would_be" in fact.DESCRIPTOR.fields_by_name:
            return False
    return True


def _enrolled(result: Any, limits: KeyLimits) -> bool:
    """Keep which rule kept a contact out, without the values it quotes; what is wrong with the input stays."""
    if result.outcome != ENROLL_OUTCOME_INVALID and not _explained_to(limits):
        result.message = ""
    return True


def _identity(conflict: Any, limits: KeyLimits) -> bool:
    if _hides(limits, "contact", conflict.kind):
        conflict.value = ""
    return True


def _suppression(suppression: Any, limits: KeyLimits) -> bool:
    if any(limits.hide("contact", name) for name in ("email", "phone")):
        suppression.address = ""
    return True


def _named(item: Any, limits: KeyLimits) -> bool:
    """Keep what is about a field that is shown, where the message does not say of which type."""
    return not _hides(limits, "", item.field)


_KEEP: Mapping[str, Callable[[Any, KeyLimits], bool]] = {
    "Record": _record,
    "FoundRecord": _found,
    "RecordChange": _change,
    "RevertConflict": _of_record,
    "PlannedChange": _of_record,
    "PlanItem": _plan_item,
    "Plan": _plan,
    "Approval": _approval,
    "PlannedFieldChange": lambda _change, _limits: True,  # judged with its item, which knows the record
    "Fact": _fact,
    "Evidence": _fact,
    "Counterfactual": _fact,
    "EnrollResult": _enrolled,
    "IdentityConflict": _identity,
    "Suppression": _suppression,
    "SyncConflict": _named,
    "DuplicateReason": _named,
}
"""Messages that say whose field their value is: each tells whether it may stay, and loses what may not."""
