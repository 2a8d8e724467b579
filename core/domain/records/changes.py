"""Field-level changes of a record: found, applied, and undone to see the record as it was."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

from core.domain.frozen import frozen

_PLAIN = frozenset({str, int, float, bool})


@frozen
class Change:
    """One field before and after; None stands for no value."""

    field: str
    """Dotted path, such as `tier` or `custom.plan`."""
    old: Any
    new: Any


def value_at(fields: Mapping[str, Any], path: str) -> Any:
    """Return the value at a dotted path, or None."""
    value: Any = fields
    for name in path.split("."):
        if not isinstance(value, Mapping) or name not in value:
            return None
        value = value[name]
    return value


def diff(before: Mapping[str, Any], patch: Mapping[str, Any]) -> tuple[Change, ...]:
    """Return what a patch of dotted paths would change, in its order; a value that is there already is no change."""
    return patched(before, patch)[1]


def patched(before: Mapping[str, Any], patch: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[Change, ...]]:
    """Return the fields after a patch of dotted paths, and what it changed; `before` stays as it is."""
    fields = dict(before)  # what is inside is never changed in place: `_put` copies the objects on its way
    changes: list[Change] = []
    for path, new in patch.items():
        for change in _steps(fields, path, new):
            _put(fields, change.field, change.new)
            changes.append(change)
    return fields, tuple(changes)


def apply(fields: Mapping[str, Any], changes: Iterable[Change]) -> dict[str, Any]:
    """Return the fields after these changes, oldest first."""
    after = dict(fields)
    for change in changes:
        _put(after, change.field, change.new)
    return after


def as_of(fields: Mapping[str, Any], newer: Iterable[Change]) -> dict[str, Any]:
    """Return the fields as they were before these changes, newest first."""
    before = dict(fields)
    for change in newer:
        _put(before, change.field, change.old)
    return before


def _steps(fields: Mapping[str, Any], path: str, new: Any) -> Iterable[Change]:
    if "." not in path:
        old = fields.get(path)
        if not same(old, new):
            yield Change(path, old, new)
        return
    names = path.split(".")
    for depth in range(1, len(names)):
        above = ".".join(names[:depth])
        value = value_at(fields, above)
        if value is not None and not isinstance(value, Mapping):
            if new is None:
                return
            # A plain value gives way to an object: a change of its own, so that undoing brings it back.
            yield Change(above, value, None)
            break
    old = value_at(fields, path)
    if not same(old, new):
        yield Change(path, old, new)


def same(old: Any, new: Any) -> bool:
    """Tell whether two values are the same in JSON."""
    # 1, 1.0 and True are equal in Python and three different things in JSON.
    return bool(old == new) and isinstance(old, bool) == isinstance(new, bool)


def _put(fields: dict[str, Any], path: str, value: Any) -> None:
    """Set or remove what is at a path; an object that is left empty goes too."""
    name, _, rest = path.partition(".")
    if rest:
        inner = fields.get(name)
        inner = dict(inner) if isinstance(inner, Mapping) else {}
        _put(inner, rest, value)
        value = inner or None
    if value is None:
        fields.pop(name, None)
    else:
        fields[name] = value if type(value) in _PLAIN else copy.deepcopy(value)
