"""The shapes of settings that name people, lists, channels and other parts of the organization."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from core.domain import names
from core.domain.frozen import frozen
from core.domain.nearest import did_you_mean
from core.domain.steps.shapes import Scope, Text, wrong_type
from core.domain.workflow import templates
from core.domain.workflow.templates import Template

WORD = r"[a-z][a-z0-9_]{0,39}"
"""What channels and purposes are called."""
LIST_NAME = r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?"
"""What lists are called."""

LONGEST_ID = 63
MOST_LISTS = 20
MOST_OWNERS = 50
LARGEST_WEIGHT = 100

Method = Literal["round_robin", "weighted", "sticky"]
METHODS: tuple[Method, ...] = ("round_robin", "weighted", "sticky")


@frozen
class Word:
    """One word in lower case, such as a channel."""

    hint: str = "Write a word in lower case, with letters, digits and underscores."

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        return {"type": "string", "pattern": f"^{WORD}$"}

    def read(self, raw: Any, scope: Scope, path: str) -> str:
        """Return the word, or report what is wrong."""
        if not isinstance(raw, str):
            wrong_type(raw, "text", self, scope, path)
            return ""
        if not re.fullmatch(WORD, raw):
            scope.add(path, "BAD_NAME", f"{raw[:40]!r} is not a word in lower case", self.hint)
        return raw


@frozen
class HtmlText:
    """HTML that may have Liquid in it; what values bring along is escaped."""

    hint: str = "Write HTML; {{ contact.first_name }} puts a value in, escaped."

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        return {"type": "string", "minLength": 1, "maxLength": templates.LONGEST_TEXT, "format": "liquid"}

    def read(self, raw: Any, scope: Scope, path: str) -> Template | None:
        """Return the template, or report what is wrong."""
        text = Text(templates.LONGEST_TEXT).read(raw, scope, path)
        template, problems = templates.check(text, scope.environment.variables, path, escape="html")
        scope.problems.extend(problems)
        return template


@frozen
class Reference:
    """The id of something that the organization has."""

    noun: Literal["workflow", "model", "member", "routing"]
    hint: str

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        return {"type": "string", "minLength": 1, "maxLength": LONGEST_ID}

    def read(self, raw: Any, scope: Scope, path: str) -> str:
        """Return the id, or report what is wrong."""
        text = Text(LONGEST_ID).read(raw, scope, path)
        known: frozenset[str] | None = getattr(scope.lookups, f"{self.noun}_ids")
        if text and known is not None and text not in known:
            what = "scoring model" if self.noun == "model" else self.noun
            hint = did_you_mean(text, known) or self.hint
            scope.add(path, f"UNKNOWN_{self.noun.upper()}", f"there is no {what} {text}", hint)
        return text


WORKFLOW = Reference("workflow", "Write the id of a workflow; list the workflows to see what there is.")
MODEL = Reference("model", "Write the id of a scoring model; list the models to see what there is.")
MEMBER = Reference("member", "Write the id of a member, such as mem_….")
ROUTING = Reference("routing", "Write the id of a routing; list the routings to see what there is.")


@frozen
class ListNames:
    """Names of lists."""

    hint: str = "Write names such as [customers, beta-testers]: lower-case letters, digits, hyphens and underscores."

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        item = {"type": "string", "pattern": f"^{LIST_NAME}$"}
        return {"type": "array", "minItems": 1, "maxItems": MOST_LISTS, "uniqueItems": True, "items": item}

    def read(self, raw: Any, scope: Scope, path: str) -> tuple[str, ...]:
        """Return the names, or report what is wrong."""
        if not isinstance(raw, list):
            wrong_type(raw, "a list of names", self, scope, path)
            return ()
        if not 1 <= len(raw) <= MOST_LISTS:
            scope.add(path, "WRONG_COUNT", f"there are {len(raw)} names; 1 to {MOST_LISTS} are allowed", self.hint)
        found: list[str] = []
        for index, name in enumerate(raw[:MOST_LISTS]):
            place = f"{path}[{index}]"
            if not isinstance(name, str):
                wrong_type(name, "text", self, scope, place)
            elif not names.is_slug(name):
                scope.add(place, "BAD_NAME", f"{name[:63]!r} cannot name a list", _as_slug(name) or self.hint)
            elif name in found:
                scope.add(place, "DUPLICATE_NAME", f"{name} is named twice", "Name it once.")
            else:
                found.append(name)
        return tuple(found)


def _as_slug(text: str) -> str:
    slug = re.sub(r"[^a-z0-9_-]+", "-", text.lower()).strip("-_")[:63].strip("-_")
    return f"Use {slug}." if slug else ""


@frozen
class Owner:
    """A member who may be chosen, and how large their share is."""

    member: str
    weight: int = 1


@frozen
class Owners:
    """Members to choose among: ids, or ids with a weight."""

    hint: str = "Write [mem_1, mem_2], or [{member: mem_1, weight: 3}, mem_2] for unequal shares."

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        weighted = {
            "type": "object",
            "properties": {
                "member": {**MEMBER.schema(), "description": "Id of the member."},
                "weight": {
                    "type": "integer",
                    "minimum": 1,
                    "maximum": LARGEST_WEIGHT,
                    "description": "How large their share is beside the others'; 1 by default.",
                },
            },
            "required": ["member"],
            "additionalProperties": False,
        }
        item = {"anyOf": [MEMBER.schema(), weighted]}
        return {"type": "array", "minItems": 1, "maxItems": MOST_OWNERS, "items": item}

    def read(self, raw: Any, scope: Scope, path: str) -> tuple[Owner, ...]:
        """Return the members, or report what is wrong."""
        if not isinstance(raw, list):
            wrong_type(raw, "a list of members", self, scope, path)
            return ()
        if not 1 <= len(raw) <= MOST_OWNERS:
            scope.add(path, "WRONG_COUNT", f"there are {len(raw)} members; 1 to {MOST_OWNERS} are allowed", self.hint)
        found: dict[str, Owner] = {}
        for index, item in enumerate(raw[:MOST_OWNERS]):
            owner = self._owner(item, scope, f"{path}[{index}]")
            if owner.member in found:
                scope.add(f"{path}[{index}]", "DUPLICATE_NAME", f"{owner.member} is named twice", "Give it a weight.")
            found[owner.member] = owner
        return tuple(found.values())

    def _owner(self, raw: Any, scope: Scope, path: str) -> Owner:
        if not isinstance(raw, Mapping):
            return Owner(MEMBER.read(raw, scope, path))
        for key in raw:
            if key not in ("member", "weight"):
                hint = did_you_mean(str(key), ("member", "weight")) or self.hint
                scope.add(f"{path}.{key}", "UNKNOWN_KEY", f"an owner has no {key}", hint)
        weight = raw.get("weight", 1)
        if type(weight) is not int or not 1 <= weight <= LARGEST_WEIGHT:
            message = f"this must be a whole number from 1 to {LARGEST_WEIGHT}"
            scope.add(f"{path}.weight", "OUT_OF_RANGE", message, self.hint)
            weight = 1
        if raw.get("member") is None:
            scope.add(f"{path}.member", "MISSING_KEY", "an owner needs member", self.hint)
            return Owner("", weight)
        return Owner(MEMBER.read(raw["member"], scope, f"{path}.member"), weight)
