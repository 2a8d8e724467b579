"""What narrows a key beyond its scopes: methods, types of records, fields, workflows and projects.

An empty list narrows nothing. A field is written `contact.tier` or `lead.custom.plan`; `contact.*` stands for all of a
type, and `contact.custom` for everything below it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import fields
from typing import Any

from core.domain.errors import Violation
from core.domain.frozen import frozen
from core.domain.nearest import did_you_mean

_FIELD = re.compile(r"([a-z][a-z0-9_]{0,39})\.(\*|[A-Za-z][A-Za-z0-9_]{0,63}(?:\.[A-Za-z][A-Za-z0-9_]{0,63}){0,3})")
_SHOWN = 100


@frozen
class KeyLimits:
    """The lists that narrow a key; names are those of the contract."""

    methods: frozenset[str] = frozenset()
    """As `RecordService.UpdateRecord`."""
    record_types: frozenset[str] = frozenset()
    writable_fields: frozenset[str] = frozenset()
    hidden_fields: frozenset[str] = frozenset()
    workflow_ids: frozenset[str] = frozenset()
    project_ids: frozenset[str] = frozenset()

    @property
    def narrow_fields(self) -> bool:
        """Tell whether it matters which fields a call names."""
        return bool(self.writable_fields or self.hidden_fields)

    @property
    def narrow_workflows(self) -> bool:
        """Tell whether it matters which workflow a call is about."""
        return bool(self.workflow_ids or self.project_ids)

    def allow_method(self, name: str) -> bool:
        """Tell whether a method may be called."""
        return not self.methods or name in self.methods

    def allow_type(self, record_type: str) -> bool:
        """Tell whether records of a type may be seen and changed."""
        return not self.record_types or record_type in self.record_types

    def allow_workflow(self, workflow_id: str, project_id: str | None) -> bool:
        """Tell whether a workflow may be enrolled in, executed, paused or changed."""
        named = not self.workflow_ids or workflow_id in self.workflow_ids
        return named and (not self.project_ids or project_id in self.project_ids)

    def hide(self, record_type: str, path: str) -> bool:
        """Tell whether a field is not shown: it is hidden itself, or lies below one that is."""
        return bool(self.hidden_fields) and _covered(self.hidden_fields, f"{record_type}.{path}")

    def allow_writing(self, record_type: str, path: str) -> bool:
        """Tell whether a field may be written: what is hidden, or holds something hidden, may not."""
        full = f"{record_type}.{path}"
        if self.hidden_fields and (
            _covered(self.hidden_fields, full) or any(name.startswith(f"{full}.") for name in self.hidden_fields)
        ):
            return False
        return not self.writable_fields or _covered(self.writable_fields, full)

    def hidden_names(self) -> frozenset[str]:
        """Return the hidden fields without their types, for values that do not say whose they are."""
        return frozenset(name.partition(".")[2] for name in self.hidden_fields)


UNLIMITED = KeyLimits()
LISTS = tuple(field.name for field in fields(KeyLimits))


def _covered(patterns: Collection[str], full: str) -> bool:
    """Tell whether a field, or something that it lies below, is among these."""
    if full in patterns:
        return True
    parts = full.split(".")
    return f"{parts[0]}.*" in patterns or any(".".join(parts[:end]) in patterns for end in range(2, len(parts)))


def from_json(stored: Mapping[str, Any] | None) -> KeyLimits:
    """Return limits as they were stored."""
    if not stored:
        return UNLIMITED
    return KeyLimits(**{name: frozenset(stored.get(name, ())) for name in LISTS})


def to_json(limits: KeyLimits) -> dict[str, list[str]]:
    """Return limits as they are stored: lists that narrow something, sorted."""
    return {name: sorted(found) for name in LISTS if (found := getattr(limits, name))}


def check(
    limits: Mapping[str, Iterable[str]], methods: Collection[str], record_types: Collection[str], prefix: str = "limits"
) -> list[Violation]:
    """Return what is wrong with the names in limits, as they were sent."""
    return [
        *_unknown(limits["methods"], methods, f"{prefix}.methods", "method"),
        *_unknown(limits["record_types"], record_types, f"{prefix}.record_types", "type of record"),
        *_bad_fields(limits["writable_fields"], record_types, f"{prefix}.writable_fields"),
        *_bad_fields(limits["hidden_fields"], record_types, f"{prefix}.hidden_fields"),
    ]


def _unknown(names: Iterable[str], known: Collection[str], path: str, what: str) -> Iterator[Violation]:
    for index, name in enumerate(names):
        if name not in known:
            hint = did_you_mean(name[:_SHOWN], known)
            yield Violation(f"{path}[{index}]", "UNKNOWN_NAME", f"there is no {what} `{name[:_SHOWN]}`", hint)


def _bad_fields(names: Iterable[str], record_types: Collection[str], path: str) -> Iterator[Violation]:
    for index, name in enumerate(names):
        match = _FIELD.fullmatch(name)
        if match is None:
            message, hint = f"`{name[:_SHOWN]}` names no field", "Write contact.tier, lead.custom.plan or contact.*."
            yield Violation(f"{path}[{index}]", "BAD_FIELD", message, hint)
        elif match[1] not in record_types:
            hint = did_you_mean(match[1], record_types)
            yield Violation(f"{path}[{index}]", "UNKNOWN_NAME", f"there is no type of record `{match[1]}`", hint)


def beyond(wanted: KeyLimits, own: KeyLimits, prefix: str = "limits") -> list[Violation]:
    """Return how a key would be wider than the one that grants it."""
    found = []
    for name in ("methods", "record_types", "workflow_ids", "project_ids"):
        held: frozenset[str] = getattr(own, name)
        asked: frozenset[str] = getattr(wanted, name)
        if held and (not asked or asked - held):
            found.append(_wider(f"{prefix}.{name}", sorted(asked - held), held))
    held = own.writable_fields
    more = sorted(one for one in wanted.writable_fields if not _covered(held, one))
    if held and (more or not wanted.writable_fields):
        found.append(_wider(f"{prefix}.writable_fields", more, held))
    shown = sorted(one for one in own.hidden_fields if not _covered(wanted.hidden_fields, one))
    if shown:
        message = f"your own key does not see {', '.join(shown[:5])}, so the new one must not either"
        found.append(Violation(f"{prefix}.hidden_fields", "BEYOND_YOUR_KEY", message, f"Add {', '.join(shown[:20])}."))
    return found


def _wider(path: str, more: list[str], held: frozenset[str]) -> Violation:
    what = f"{', '.join(more[:5])} is more than your own key may" if more else "your own key is limited here"
    return Violation(path, "BEYOND_YOUR_KEY", what, f"Name some of {', '.join(sorted(held)[:20])}.")
