"""A call that the core refused, mended by what it says of it: names respelt, values kept, ids put where they go."""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dripstone.v1.client import FieldViolation
from mcp_server.corrections import CORRECTED, MENDED, tentative, told
from mcp_server.filter_corrections import in_our_words, respelt
from mcp_server.identifiers import held, is_email, misplaced, place_for, prefix_of, shown_by
from mcp_server.schemas import object_at, placeholder
from mcp_server.values import invocation

ARGUMENTS = {
    **{"request_id": "idempotency_key", "page_size": "limit", "page_token": "cursor"},
    **dict.fromkeys(("etag", "preview_etag", "kept_etag", "merged_etag"), "if_version"),
}
"""Request fields of the contract whose tool argument has another name."""

_WITHIN = {"contacts.contact_ids": "contacts", "contacts.filter": "filter", "contacts.sample_size": "sample"}
"""Fields inside a request's field that tools take apart."""

_CONTACT = ("email", "contact_id", "lead_ref")
"""By what a payload names its contact."""

_PART = re.compile(r"\[(\d+)\]|([^.\[\]]+)")
_SPAN = re.compile(r"\s*(\d+)\s*(minute|hour|day|week|month|min|m|h|d|w)[a-z]*\s*", re.IGNORECASE)
_ONE_OF_A_KIND = frozenset({"UNKNOWN_FIELD", "UNKNOWN_KEY", "BAD_FIELD_NAME", "UNKNOWN_VARIABLE"})
"""Reasons that are about a name and not about its value."""

_OUT_OF_PLACE = frozenset({"UNKNOWN_KEY", "NOT_ALLOWED", "NOT_WITH_FIELDS", "DIFFERS_FROM_PLAN"})
"""Reasons that no other value at that place would mend."""


@dataclass(frozen=True, slots=True)
class Called:
    """A call that the core refused."""

    tool: str
    arguments: Mapping[str, Any]
    """As it was sent."""
    given: Mapping[str, Any]
    """As the caller made it."""
    schema: Mapping[str, Any]

    def again(self, **changed: Any) -> str:
        """Return the same call, with some arguments changed as told; a guess among them makes it a preview."""
        arguments = tentative({**self.arguments, **changed}) if changed else self.arguments
        return told(self.tool, arguments, self.given)

    def without(self, *names: str) -> str:
        """Return the same call as a preview that lacks some arguments."""
        left = {name: value for name, value in self.arguments.items() if name not in names}
        return told(self.tool, tentative(left), self.given)

    def mended(self, violations: Iterable[FieldViolation]) -> str:
        """Return the call that does right what the core found wrong; in words where that is not so simple."""
        arguments = copy.deepcopy(dict(self.arguments))
        for violation in list(violations)[:MENDED]:
            path = _parts(argument_of(violation.field))
            if path[0] not in self.schema["properties"]:
                return self._of_a_document()
            found = _place(arguments, path)
            if found is None:
                return CORRECTED.format(self.tool)
            parent, key = found
            if instead := self._mend(parent, key, violation, path):
                return instead
        return told(self.tool, tentative(arguments), self.given)

    def _mend(self, parent: Any, key: Any, violation: FieldViolation, path: list[str | int]) -> str:
        """Mend one place; return the call that has to come first, empty where there is none."""
        value = parent[key] if isinstance(key, int) else parent.get(key)
        near = violation.nearest
        if key == "filter" and isinstance(value, str):
            better = in_our_words(value)
            better = respelt(better, near) if near else better
            parent[key] = better if better != value else placeholder("filter")
        elif near and violation.reason in _ONE_OF_A_KIND and _is_of_key(str(key), near, value):
            parent.pop(key)
            name, above = _below(path, near), str(key).rpartition(".")[0]
            parent.setdefault(f"{above}.{name}" if above and "." not in name else name, value)
        elif near:
            head, dot, _ = str(value).rpartition(".")
            parent[key] = near if "." in near else head + dot + near
        elif violation.reason in _OUT_OF_PLACE and isinstance(parent, dict):
            parent.pop(key, None)
            if key == "fields" and prefix_of(self.arguments.get("lead_id")) == "cnt":
                return invocation("update-record", record_id=self.arguments["lead_id"], fields=value, mode="preview")
        elif isinstance(key, str) and misplaced(key, value):
            return self._moved(parent, key, value, path)
        elif key == "workflow_id" and isinstance(value, str) and (slug := _slug(value)) not in ("", value):
            parent[key] = slug
        elif (
            isinstance(value, str) and (span := _SPAN.fullmatch(value)) and span[0] != f"{span[1]}{span[2][0].lower()}"
        ):
            parent[key] = f"{span[1]}{span[2][0].lower()}"
        else:
            parent[key] = placeholder(str(key))
        return ""

    def _moved(self, parent: Any, key: str, value: str, path: list[str | int]) -> str:
        """Put an e-mail address or an id under the name that takes it; without one, return the call that shows it."""
        there = place_for(value, object_at(self.schema, path[:-1]).get("properties", _CONTACT))
        if there in ("", key, "record_id"):  # any record, which is not what was asked for
            return shown_by(value) or CORRECTED.format(self.tool)
        parent.pop(key)
        parent[there] = value.strip()
        return ""

    def _of_a_document(self) -> str:
        """Return what to do where the fault is in a stored document, whose keys are no arguments."""
        if self.tool != "propose-workflow":
            return CORRECTED.format(self.tool)
        about = {"workflow_id": self.arguments.get("workflow_id", "")}
        return invocation(
            "draft-workflow", **about, source="<document with the named places corrected>", mode="preview"
        )

    def with_contact(self) -> str:
        """Return the call with a contact named in its payload: one that stands deeper in it, else a place for one."""
        payload = dict(self.arguments.get("input") or {})
        who = next((one for one in _texts(payload) if is_email(one) or prefix_of(one) == "cnt"), "")
        name = place_for(who, _CONTACT)
        return self.again(input={**({name: who.strip()} if name else placeholder("input")), **payload})

    def elsewhere(self, wanted: str) -> str:
        """Return the call in which an id that names nothing here is where it belongs; empty where it is right here."""
        for parent, key in held(copy.deepcopy(dict(self.arguments)), wanted):
            if not misplaced(key, wanted):
                continue
            free = _CONTACT if self.tool == "execute-workflow" else ()
            names = free if key not in self.schema["properties"] else self.schema["properties"]
            there = place_for(wanted, names)
            if there in ("", "record_id"):
                break
            if parent == self.arguments:
                left = {name: value for name, value in self.arguments.items() if name != key}
                return told(self.tool, tentative({**left, there: wanted.strip()}), self.given)
            inner = {**{name: value for name, value in parent.items() if name != key}, there: wanted.strip()}
            return self.again(input=inner) if parent == self.arguments.get("input") else shown_by(wanted)
        else:
            return ""
        return shown_by(wanted)


def argument_of(path: str) -> str:
    """Return the path of a request's field as the tool's arguments call it."""
    for within, argument in _WITHIN.items():
        if path.startswith(within):
            return argument + path.removeprefix(within)
    head, dot, rest = path.partition(".")
    return ARGUMENTS.get(head, head) + dot + rest


def _parts(path: str) -> list[str | int]:
    return [int(number) if number else name for number, name in _PART.findall(path)] or [path]


def _place(arguments: dict[str, Any], path: list[str | int]) -> tuple[Any, Any] | None:
    """Return what holds the value at a path, and under which key; None where the path leads nowhere.

    Keys may hold dots: `fields.custom.plan` is also the key `custom.plan` of `fields`.
    """
    parent: Any = arguments
    for depth, part in enumerate(path):
        if isinstance(part, int):
            if not isinstance(parent, list) or part >= len(parent):
                return None
        elif not isinstance(parent, dict):
            return None
        elif (whole := ".".join(map(str, path[depth:]))) in parent and depth < len(path) - 1:
            return parent, whole
        if depth == len(path) - 1:
            return parent, part
        if isinstance(part, str) and part not in parent:
            return None
        parent = parent[part]
    return None


def _is_of_key(key: str, near: str, value: Any) -> bool:
    """Tell whether a proposed name is one for a key, and not for the value that stands there."""
    if not isinstance(value, str):
        return True

    def alike(text: str) -> float:
        return difflib.SequenceMatcher(None, text[:80].lower(), near.lower()).ratio()

    return alike(key) >= alike(value)


def _below(path: list[str | int], near: str) -> str:
    """Return a proposed path as the last key of the one that it stands for."""
    inner = [str(part) for part in path[:-1]]
    while inner:
        if near.startswith(f"{inner[-1]}."):
            return near.removeprefix(f"{inner[-1]}.")
        inner.pop()
    return near


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9_]+", "-", text.lower()).strip("-_")[:63]


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)
