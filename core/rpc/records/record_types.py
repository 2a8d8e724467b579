"""Handlers of RecordService for what records look like: the organization's own types and fields."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from core.domain.errors import FieldContradicted, Invalid, NotFound, TooManyDefinitions, Violation
from core.domain.nearest import did_you_mean
from core.domain.records import definitions
from core.domain.records.definitions import Definition, FieldKind
from core.domain.records.schema import MEMBER, OwnType, Schema, TypeSchema
from core.domain.records.standard import ID_PREFIXES, RECORD_TYPES, Field
from core.domain.workflow.variables import NO_RECORDS, WORDS
from core.rpc.call import Call
from core.rpc.records.records import known_type
from core.store import paging
from core.store.records import contradictions, record_schema, unique_values
from core.store.records.record_schema import MOST_FIELDS, MOST_TYPES
from dripstone.v1 import record_type_pb2 as pb

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_RESERVED = frozenset({*RECORD_TYPES, *NO_RECORDS, *WORDS, MEMBER, "record", "custom"})
"""Conditions of workflows name records by their type."""
_KINDS = {kind: pb.FieldKind.Value(f"FIELD_KIND_{kind.name}") for kind in FieldKind}
_BY_NUMBER: Mapping[int, FieldKind] = {number: kind for kind, number in _KINDS.items()}
_LIST = "record types"


async def list_record_types(request: pb.ListRecordTypesRequest, call: Call) -> pb.ListRecordTypesResponse:
    """Return a page of the types: the standard ones, then the organization's own by name."""
    schema = await record_schema.of(call.tx)
    names = list(schema.types)
    after = paging.decode_token(request.page_token, _LIST) if request.page_token else ""
    first = names.index(after) + 1 if after in names else 0
    size = paging.page_size(request.page_size)
    shown = names[first : first + size]
    more = first + size < len(names)
    return pb.ListRecordTypesResponse(
        record_types=[_message(schema.types[name]) for name in shown],
        next_page_token=paging.encode_token(shown[-1], _LIST) if more else "",
    )


async def define_record_type(request: pb.DefineRecordTypeRequest, call: Call) -> pb.RecordType:
    """Define a type of the organization's own, or change its names. Raises Invalid and TooManyDefinitions."""
    schema = await record_schema.change_alone(call.tx)
    there = schema.types.get(request.type)
    wrong = []
    if not _NAME.fullmatch(request.type):
        message = "a name has lower-case letters, digits and underscores, a letter first, at most 40"
        wrong.append(Violation("type", "BAD_TYPE_NAME", message, "Use subscription, for example."))
    elif request.type in _RESERVED or request.type in ID_PREFIXES.values():
        message = f"`{request.type}` is a word of the core's own"
        wrong.append(Violation("type", "RESERVED", message, "Choose another name."))
    title = request.title_field or "name"
    if title != "name" and not _may_name(there, title):
        known = ["name", *(one.path for one in there.live)] if there is not None else ["name"]
        hint = did_you_mean(title, known, "Define the field first, or leave it out for name.")
        wrong.append(Violation("title_field", "UNKNOWN_FIELD", f"`{title}` is no field that names a record", hint))
    if wrong:
        raise Invalid(*wrong)
    if there is None and sum(one.own for one in schema.types.values()) >= MOST_TYPES:
        raise TooManyDefinitions(limit=MOST_TYPES, what="types of records")
    plural = request.plural_name or f"{request.display_name}s"
    await record_schema.put_type(
        call.tx, OwnType(request.type, request.display_name, plural, request.description, title)
    )
    return _message((await record_schema.of(call.tx)).of(request.type))


def _may_name(of: TypeSchema | None, path: str) -> bool:
    definition = of.definition(path) if of is not None else None
    return definition is not None and definition.path == path and not definition.archived


async def define_field(request: pb.DefineFieldRequest, call: Call) -> pb.FieldDefinition:
    """Define a field, or change it. Raises Invalid, FieldContradicted and TooManyDefinitions."""
    schema = await record_schema.change_alone(call.tx)
    of = schema.of(known_type(schema, request.type))
    definition = _read(request.field, schema)
    before = of.custom.get(definition.name)
    if before is None and len(of.custom) >= MOST_FIELDS:
        raise TooManyDefinitions(limit=MOST_FIELDS, what=f"fields of {of.plural.lower()}")
    found = await contradictions.look(call.tx, of, definition)
    if found.count:
        raise FieldContradicted(
            count=f"{found.count:,}", record_type=of.name, field=definition.path, samples="; ".join(found.samples)
        )
    await contradictions.settle_unique(call.tx, of, definition, before)
    number = len(of.custom) + 1
    await record_schema.put_field(call.tx, of.name, definition, number, by=call.caller.principal_id)
    return _own(definition)


async def archive_field(request: pb.ArchiveFieldRequest, call: Call) -> pb.FieldDefinition:
    """Take a field out of use; its values stay. Raises NotFound."""
    schema = await record_schema.change_alone(call.tx)
    of = schema.of(known_type(schema, request.type))
    there = of.custom.get(request.name)
    if there is None:
        raise NotFound(kind="field", id=f"{of.name}.custom.{request.name}")
    archived = replace(there, archived=True)
    if not there.archived:
        await unique_values.forget_field(call.tx, of.name, there.name)
        await record_schema.put_field(call.tx, of.name, archived, 0, by=call.caller.principal_id)
    return _own(archived)


def _read(field: pb.FieldDefinition, schema: Schema) -> Definition:
    """Return the definition that a message makes. Raises Invalid with everything that is wrong with it."""
    kind = _BY_NUMBER.get(field.kind)
    if kind is None:
        hint = f"Use one of {', '.join(one.name for one in FieldKind)}."
        raise Invalid(Violation("field.kind", "UNKNOWN_VALUE", "does not say what values the field takes", hint))
    definition = Definition(
        name=field.name,
        kind=kind,
        description=field.description,
        required=field.required,
        unique=field.unique,
        choices=tuple(field.choices),
        reference_type=field.reference_type,
        max_characters=field.max_characters,
        minimum=field.minimum if field.HasField("minimum") else None,
        maximum=field.maximum if field.HasField("maximum") else None,
        pattern=field.pattern,
    )
    if wrong := definitions.problems(definition, schema.types):
        raise Invalid(*wrong)
    return definition


def _message(of: TypeSchema) -> pb.RecordType:
    return pb.RecordType(
        type=of.name,
        display_name=of.display_name,
        plural_name=of.plural,
        description=of.description,
        custom=of.own,
        id_prefix=of.id_prefix,
        title_field=of.title_fields[0],
        fields=[*(_standard(one, of) for one in of.standard.values()), *(_own(one) for one in of.custom.values())],
    )


def _standard(field: Field, of: TypeSchema) -> pb.FieldDefinition:
    kind = FieldKind.CHOICE if field.choices else FieldKind(field.kind)
    text = kind is FieldKind.STRING
    return pb.FieldDefinition(
        name=field.name,
        kind=_KINDS[_NAMED.get(field.name, kind) if text else kind],
        description=field.description,
        required=field.required,
        choices=field.choices,
        reference_type=of.references().get(field.name, ""),
        max_characters=field.max_length if text else 0,
        unique=of.name == "contact" and field.name == "email",
        read_only=not field.writable,
    )


_NAMED = {"email": FieldKind.EMAIL}
"""Standard texts of a form of their own; a phone stays as it was written."""


def _own(definition: Definition) -> pb.FieldDefinition:
    about: dict[str, Any] = {
        name: getattr(definition, name)
        for name in ("name", "description", "required", "unique", "choices", "reference_type", "max_characters")
    }
    bounds = {name: getattr(definition, name) for name in ("minimum", "maximum")}
    about |= {name: bound for name, bound in bounds.items() if bound is not None}
    return pb.FieldDefinition(
        kind=_KINDS[definition.kind], pattern=definition.pattern, custom=True, archived=definition.archived, **about
    )
