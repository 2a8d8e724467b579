"""The kinds of own fields that a publication was checked with: kept with it, so that it always means the same.

What is defined later changes nothing of what is published: `contact.custom.renewal < now` compares instants for as
long as the version runs, and a text that nobody had defined stays a text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from core.domain.workflow.expressions import Kind
from core.domain.workflow.variables import Custom, own_types

OwnKinds = frozenset[tuple[str, Kind]]
"""Each with its whole name, such as `contact.custom.seats`; a type of the organization's own has one of its own too."""

NONE: OwnKinds = frozenset()
_BETWEEN, _ITSELF = ".custom.", ".custom"


def of(custom: Custom) -> OwnKinds:
    """Return the kinds of the fields that are defined."""
    fields = frozenset(
        (f"{record_type}{_BETWEEN}{name}", kind)
        for record_type, kinds in custom.items()
        for name, kind in kinds.items()
    )
    types: OwnKinds = frozenset((f"{record_type}{_ITSELF}", "map") for record_type in own_types(custom))
    return fields | types


def mentioned(own: OwnKinds, names: Iterable[str], types: Iterable[str] = ()) -> OwnKinds:
    """Return those that are among the names of variables, and these types."""
    among = frozenset((*names, *(f"{record_type}{_ITSELF}" for record_type in types)))
    return frozenset(one for one in own if one[0] in among)


def as_custom(own: OwnKinds) -> Custom:
    """Return them by type of record and name."""
    custom: dict[str, dict[str, Kind]] = {}
    for path, kind in own:
        record_type, _, name = path.partition(_BETWEEN)
        if name:
            custom.setdefault(record_type, {})[name] = kind
        else:
            custom.setdefault(path.removesuffix(_ITSELF), {})
    return custom


def values(own: OwnKinds, known: Mapping[str, Any]) -> dict[str, Any]:
    """Return what each holds, out of the maps that hold them all, such as `contact.custom`."""
    found = {}
    for path, _ in own:
        record_type, _, name = path.partition(_BETWEEN)
        within = known.get(f"{record_type}.custom")
        found[path] = within.get(name) if isinstance(within, Mapping) else None
    return found


def as_json(own: OwnKinds) -> dict[str, str]:
    """Return them as they are stored."""
    return dict(sorted(own))


def from_json(stored: Mapping[str, Any]) -> OwnKinds:
    """Return stored ones."""
    return frozenset((path, kind) for path, kind in stored.items())
