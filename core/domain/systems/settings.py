"""What its owner decides about a system of record, and what is wrong with it: everything is told at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any, Literal

from core.domain.connections import call as calls
from core.domain.connections.call import Call
from core.domain.errors import Invalid, Violation
from core.domain.frozen import frozen
from core.domain.nearest import did_you_mean
from core.domain.records.fields import check_path
from core.domain.records.schema import Schema
from core.domain.systems import operations
from core.domain.systems.comparison import Direction, FieldMapping
from core.domain.systems.operations import Operation
from core.domain.webhooks import urls
from core.domain.webhooks.addresses import Destinations

SYSTEMS = ("hubspot", "salesforce", "http")
HUBSPOT_URL = "https://api.hubapi.com/"
SHORTEST_PULL_SECONDS = 60
DIRECTIONS = ("both", "pull", "push")
RULES = ("system_of_record", "ours", "newest")
Triggers = Literal["all", "new", "none"]
OUR_ID = "id"
"""The property that names a record of ours holds its id, where no mapped field is written to it."""

_AT = "connection.system"


@frozen
class TypeMapping:
    """A record type here and an object there."""

    type: str
    object: str
    unique_property: str
    fields: tuple[FieldMapping, ...]

    @property
    def properties(self) -> tuple[str, ...]:
        """Return every property that is read, the unique one too."""
        named = [mapping.property for mapping in self.fields]
        return tuple(dict.fromkeys([*named, *([self.unique_property] if self.unique_property else [])]))

    @property
    def unique_field(self) -> str:
        """Return the field here whose value names a record there; `id` for our own id."""
        return next((one.field for one in self.fields if one.property == self.unique_property), OUR_ID)

    @property
    def pushes(self) -> bool:
        """Tell whether anything travels from here to there."""
        return any(mapping.goes("push") for mapping in self.fields)

    @property
    def pulls(self) -> bool:
        """Tell whether anything travels from there to here."""
        return any(mapping.goes("pull") for mapping in self.fields)


@frozen
class SystemSettings:
    """What outside system, and how records correspond."""

    system: str
    base_url: str
    mappings: tuple[TypeMapping, ...]
    pull_seconds: int = 0
    """Pulls by itself so often; 0 for never."""
    push_changes: bool = False
    operations: tuple[Operation, ...] = ()
    triggers: Triggers = "none"
    """Which workflows start by what is pulled: `none`, those for what is `new`, or `all`."""
    deletions: str = ""
    """Which way deletions travel: `pull`, `push`, `both`; empty for no way."""
    deletion_conflict: str = "system_of_record"
    """Who wins where one side has deleted a record and the other has changed it."""

    def deletes(self, mapping: TypeMapping, direction: Direction) -> bool:
        """Tell whether deletions of a type travel this way: only where values do."""
        return self.deletions in (direction, "both") and (mapping.pulls if direction == "pull" else mapping.pushes)

    def mapping(self, record_type: str) -> TypeMapping | None:
        """Return how a type corresponds, or None."""
        return next((one for one in self.mappings if one.type == record_type), None)


def column(given: SystemSettings) -> dict[str, Any]:
    """Return settings as they are stored; credentials are kept apart, sealed."""
    return asdict(given)


def from_column(stored: Mapping[str, Any]) -> SystemSettings:
    """Return what is stored."""
    mappings = tuple(
        TypeMapping(**{**one, "fields": tuple(FieldMapping(**field) for field in one["fields"])})
        for one in stored["mappings"]
    )
    calls_ = tuple(operations.from_column(one) for one in stored["operations"])
    return SystemSettings(**{**stored, "mappings": mappings, "operations": calls_})


def check(given: SystemSettings, destinations: Destinations, schema: Schema) -> tuple[SystemSettings, list[Violation]]:
    """Return settings in normal form, and everything that is wrong with them."""
    violations: list[Violation] = []
    if given.system not in SYSTEMS:
        hint = did_you_mean(given.system, SYSTEMS, "Use hubspot, salesforce or http.")
        violations.append(Violation(f"{_AT}.system", "UNKNOWN_SYSTEM", "there is no such system", hint))
    given, found = _with_url(given, destinations)
    violations += found
    if 0 != given.pull_seconds < SHORTEST_PULL_SECONDS:
        message = "pulls at most once a minute by itself"
        violations.append(Violation(f"{_AT}.pull_every", "OUT_OF_RANGE", message, "Set 60s or more, or leave it out."))
    if not given.mappings:
        hint = 'Name at least one, such as {"type": "contact", "object": "contacts", "fields": […]}.'
        violations.append(Violation(f"{_AT}.mappings", "REQUIRED", "is required and missing", hint))
    taken: set[str] = set()
    for number, mapping in enumerate(given.mappings):
        at = f"{_AT}.mappings[{number}]"
        if mapping.type in taken:
            violations.append(Violation(f"{at}.type", "DUPLICATE", "the type is mapped twice", "Join the two."))
        taken.add(mapping.type)
        violations += _mapping_problems(given.system, mapping, at, schema)
    if given.system == "http":
        given = replace(given, operations=tuple(_normal(one) for one in given.operations))
        for number, operation in enumerate(given.operations):
            violations += operations.check(operation, taken, destinations, f"{_AT}.operations[{number}]")
        violations += _operation_gaps(given)
    elif given.operations:
        message = f"{given.system} is called in its own way"
        violations.append(Violation(f"{_AT}.operations", "NOT_APPLICABLE", message, "Leave operations out."))
    return given, violations


def _normal(given: Operation) -> Operation:
    """Return an operation with the method that is usual for it: what only asks has no body to post."""
    call = calls.normal(given.call)
    if not given.call.method:
        usual = {"list": "GET", "list_deleted": "GET", "get": "GET", "delete": "DELETE"}.get(given.name, "POST")
        call = Call(usual, call.url, call.headers, call.body, call.content_type)
    return replace(given, call=call)


def _with_url(given: SystemSettings, destinations: Destinations) -> tuple[SystemSettings, list[Violation]]:
    if given.system == "http":
        if given.base_url:
            message = "the operations have whole URLs"
            return given, [Violation(f"{_AT}.base_url", "NOT_APPLICABLE", message, "Leave it out.")]
        return given, []
    text = given.base_url or (HUBSPOT_URL if given.system == "hubspot" else "")
    if not text:
        hint = "Write the address of your organization there, such as https://acme.my.salesforce.com."
        return given, [Violation(f"{_AT}.base_url", "REQUIRED", "is required and missing", hint)]
    try:
        return replace(given, base_url=urls.parse(text, destinations, f"{_AT}.base_url").rstrip("/")), []
    except Invalid as error:
        return given, list(error.violations)


def _mapping_problems(system: str, mapping: TypeMapping, at: str, schema: Schema) -> Iterator[Violation]:
    if mapping.type not in schema.types:
        hint = did_you_mean(mapping.type, list(schema.types), "ListRecordTypes tells which there are.")
        yield Violation(f"{at}.type", "UNKNOWN_RECORD_TYPE", "is no type of record", hint)
        return
    if not mapping.object or not mapping.object.replace("_", "").replace("-", "").isalnum():
        yield Violation(f"{at}.object", "OBJECT_MALFORMED", "is no name of an object", "Such as contacts or Lead.")
    if not mapping.fields:
        yield Violation(f"{at}.fields", "REQUIRED", "no field corresponds", "Map at least one.")
    if mapping.pushes and not mapping.unique_property and system != "http":
        hint = "Name a property that is unique there: email, or one of your own that takes our id."
        yield Violation(f"{at}.unique_property", "REQUIRED", "what is pushed twice must be one record there", hint)
    if system == "salesforce":
        for number, name in enumerate(mapping.properties):
            if not name.replace("_", "").isalnum():
                yield Violation(
                    f"{at}.fields[{number}].property", "PROPERTY_MALFORMED", "is no API name", "Such as Email."
                )
    fields: set[str] = set()
    for number, one in enumerate(mapping.fields):
        where = f"{at}.fields[{number}]"
        problem = check_path(mapping.type, one.field, f"{where}.field", schema)
        if problem is not None:
            yield problem
        elif one.field in fields:
            yield Violation(f"{where}.field", "DUPLICATE", "the field is mapped twice", "Leave one of them out.")
        fields.add(one.field)
        if not one.property:
            yield Violation(f"{where}.property", "REQUIRED", "is required and missing", "Name the property there.")


def _operation_gaps(given: SystemSettings) -> Iterator[Violation]:
    named = {(one.name, one.type) for one in given.operations}
    for mapping in given.mappings:
        if mapping.pushes and ("upsert", mapping.type) not in named:
            hint = "Declare an operation upsert for it, or map its fields with direction pull."
            yield Violation(f"{_AT}.operations", "REQUIRED", f"nothing pushes a {mapping.type}", hint)
        if mapping.pulls and not mapping.pushes and ("list", mapping.type) not in named:
            hint = "Declare an operation list for it."
            yield Violation(f"{_AT}.operations", "REQUIRED", f"nothing pulls a {mapping.type}", hint)
        for way, name in (("pull", "list_deleted"), ("push", "delete")):
            if given.deletes(mapping, "pull" if way == "pull" else "push") and (name, mapping.type) not in named:
                hint = f"Declare an operation {name} for it, or let no deletions travel that way."
                yield Violation(f"{_AT}.operations", "REQUIRED", f"nothing tells of a deleted {mapping.type}", hint)


def origins(given: SystemSettings) -> frozenset[str]:
    """Return every place that credentials are sent to; where one is new, they must be set again."""
    hosts = [given.base_url] if given.base_url else [one.call.host for one in given.operations]
    return frozenset(urls.origin(host) for host in hosts)
