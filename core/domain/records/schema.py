"""What records of one organization look like: the standard types with its own fields, and the types of its own.

Every write of a record passes through what is here. A standard type also takes keys below `custom` that nobody
defined; a type of the organization's own takes those alone that were.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from core.domain.filters import Kind
from core.domain.frozen import frozen
from core.domain.records.definitions import Definition
from core.domain.records.standard import ID_PREFIXES, OBJECT_FIELDS, OBJECT_PREFIX, STANDARD_TYPES, Field
from core.domain.workflow import expressions

LONGEST_TITLE = 120
MEMBER = "member"
"""What a reference names that names a person of the organization."""


@frozen
class OwnType:
    """A type of an organization's own objects."""

    name: str
    display_name: str
    plural: str
    description: str = ""
    title_field: str = "name"
    """The path of the field that names a record to people."""


@dataclass(frozen=True)
class TypeSchema:
    """One type of records in one organization."""

    name: str
    display_name: str
    plural: str
    description: str
    title_fields: tuple[str, ...]
    standard: Mapping[str, Field]
    custom: Mapping[str, Definition] = field(default_factory=dict)
    """Fields that the organization defined, by name, those out of use too."""
    own: bool = False
    """The organization defined it; it takes no other keys below `custom` than those defined."""

    @property
    def id_prefix(self) -> str:
        """Return the first part of its records' ids."""
        return ID_PREFIXES.get(self.name, OBJECT_PREFIX)

    @property
    def is_strict(self) -> bool:
        """Tell whether there is anything to check beyond the standard fields."""
        return self.own or bool(self.custom)

    def definition(self, path: str) -> Definition | None:
        """Return the definition that a path below `custom` belongs to, or None."""
        parts = path.split(".", 2)
        return self.custom.get(parts[1]) if len(parts) > 1 and parts[0] == "custom" else None

    @property
    def live(self) -> Iterator[Definition]:
        """Yield the definitions in use."""
        return (one for one in self.custom.values() if not one.archived)

    def title(self, fields: Mapping[str, Any]) -> str:
        """Return what people call a record with these fields; empty for one without a name."""
        found = [text for path in self.title_fields if (text := _text(fields, path))]
        if self.name == "contact":  # the name; without one the e-mail, and without that the phone
            named = [text for path in ("first_name", "last_name") if (text := _text(fields, path))]
            found = [" ".join(named)] if named else found[:1]
        title = " ".join(" ".join(found).split())
        return title if len(title) <= LONGEST_TITLE else f"{title[: LONGEST_TITLE - 1]}…"

    def filter_kinds(self) -> dict[str, Kind]:
        """Return what a list of its records can be filtered by."""
        kinds: dict[str, Kind] = {one.name: one.kind for one in self.standard.values()}
        kinds |= {one.path: one.filter_kind for one in self.live}
        return kinds if self.own else {**kinds, "custom.*": "any"}

    def references(self) -> dict[str, str]:
        """Return the type of records, or `member`, that each field names which names something."""
        types = {prefix: name for name, prefix in ID_PREFIXES.items()}
        found = {one.name: types.get(one.prefix, MEMBER) for one in self.standard.values() if one.prefix}
        return found | {one.path: one.reference_type for one in self.live if one.reference_type}

    @cached_property
    def found_by(self) -> tuple[str, ...]:
        """Return the paths of the fields whose words find a record."""
        paths = [one.name for one in self.standard.values() if one.found_by]
        return (*paths, *(path for path in self.title_fields if path.startswith("custom.")))


@dataclass(frozen=True)
class Schema:
    """Every type of records in one organization."""

    version: int
    """Grows with each change."""
    types: Mapping[str, TypeSchema]

    def of(self, record_type: str) -> TypeSchema:
        """Return a type; one that is not known, which another process defined just now, takes every key."""
        return self.types.get(record_type) or _unknown(record_type)

    @cached_property
    def strict(self) -> frozenset[str]:
        """Return the types with something to check beyond the standard fields."""
        return frozenset(name for name, one in self.types.items() if one.is_strict)

    @cached_property
    def unique(self) -> Mapping[str, tuple[Definition, ...]]:
        """Return the unique fields of each type that has some."""
        found = {name: tuple(one for one in of.live if one.unique) for name, of in self.types.items()}
        return {name: some for name, some in found.items() if some}

    @cached_property
    def custom_kinds(self) -> Mapping[str, Mapping[str, expressions.Kind]]:
        """Return the kinds of defined fields, by type and name, as expressions see them."""
        return {
            name: {one.name: one.expression_kind for one in of.live}
            for name, of in self.types.items()
            if of.custom or of.own
        }


def build(version: int, own: Iterable[OwnType] = (), definitions: Iterable[tuple[str, Definition]] = ()) -> Schema:
    """Return the schema of an organization with these types and `(type, definition)` of its own."""
    custom: dict[str, dict[str, Definition]] = {}
    for record_type, definition in definitions:
        custom.setdefault(record_type, {})[definition.name] = definition
    types = {
        one.name: TypeSchema(
            one.name, one.display_name, one.plural, one.description, one.title_fields, one.fields,
            custom.get(one.name, {}),
        )
        for one in STANDARD_TYPES
    }  # fmt: skip
    for mine in own:
        types[mine.name] = TypeSchema(
            mine.name, mine.display_name, mine.plural, mine.description, (mine.title_field,), OBJECT_FIELDS,
            custom.get(mine.name, {}), own=True,
        )  # fmt: skip
    return Schema(version, types)


STANDARD = build(0)
"""What an organization has that defined nothing."""


def _unknown(record_type: str) -> TypeSchema:
    return TypeSchema(record_type, record_type.capitalize(), f"{record_type}s", "", ("name",), OBJECT_FIELDS)


def _text(fields: Mapping[str, Any], path: str) -> str:
    value: Any = fields
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    if isinstance(value, str):  # as nearly all are
        return value.strip()
    return "" if value is None or isinstance(value, Mapping | list) else str(value).strip()
