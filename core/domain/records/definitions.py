"""Fields that an organization defines for itself: what a definition may say, and which values it takes.

A field named `plan` is read and written as `custom.plan`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from enum import StrEnum
from functools import lru_cache
from typing import Any

from core.domain.errors import Invalid, Violation
from core.domain.filters import Kind
from core.domain.frozen import frozen
from core.domain.nearest import did_you_mean
from core.domain.records import identity, values
from core.domain.records.values import BadValue
from core.domain.workflow import expressions
from core.domain.workflow.expressions import Environment, Expression

LONGEST = 8192
"""Characters of a text, unless the definition says less."""
MOST_CHOICES = 200
LONGEST_CHOICE = 200
MOST_SAMPLES = 5
"""Records that contradict a definition, and are named in its refusal."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_RECORD_ID = re.compile(r"[a-z]{1,8}_[0-9a-z]{1,60}")


class FieldKind(StrEnum):
    """What values a field takes."""

    STRING = "string"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    INSTANT = "instant"
    DATE = "date"
    REFERENCE = "reference"
    CHOICE = "choice"
    CHOICES = "choices"
    EMAIL = "email"
    PHONE = "phone"
    URL = "url"
    MONEY = "money"


@frozen
class Definition:
    """A field that an organization defined."""

    name: str
    kind: FieldKind
    description: str = ""
    required: bool = False
    """A new record must have it."""
    unique: bool = False
    """No two records of the type have the same value."""
    choices: tuple[str, ...] = ()
    reference_type: str = ""
    """The type of the records that a reference names, or `member`."""
    max_characters: int = 0
    """0 for the kind's own limit."""
    minimum: float | None = None
    maximum: float | None = None
    pattern: str = ""
    """RE2 expression that a text fits as a whole; empty for any."""
    archived: bool = False

    @property
    def path(self) -> str:
        """Return the path by which it is read and written."""
        return f"custom.{self.name}"

    @property
    def filter_kind(self) -> Kind:
        """Return how filters see it."""
        return _SEEN_AS.get(self.kind, "string")

    @property
    def expression_kind(self) -> expressions.Kind:
        """Return how expressions see it."""
        return _COMPUTED_AS.get(self.kind, "string")


_SEEN_AS: Mapping[FieldKind, Kind] = {
    FieldKind.INTEGER: "integer",
    FieldKind.NUMBER: "number",
    FieldKind.BOOLEAN: "boolean",
    FieldKind.INSTANT: "instant",
    FieldKind.DATE: "date",
    FieldKind.REFERENCE: "reference",
    FieldKind.CHOICES: "any",
    FieldKind.MONEY: "money",
}
_COMPUTED_AS: Mapping[FieldKind, expressions.Kind] = {
    FieldKind.INTEGER: "integer",
    FieldKind.NUMBER: "number",
    FieldKind.BOOLEAN: "boolean",
    FieldKind.INSTANT: "instant",
    FieldKind.DATE: "date",
    FieldKind.CHOICES: "list",
}
_TEXTS = frozenset({FieldKind.STRING, FieldKind.EMAIL, FieldKind.PHONE, FieldKind.URL})
_NUMBERS = frozenset({FieldKind.INTEGER, FieldKind.NUMBER})
_CHOOSING = frozenset({FieldKind.CHOICE, FieldKind.CHOICES})
_NEVER_UNIQUE = frozenset({FieldKind.BOOLEAN, FieldKind.NUMBER, FieldKind.MONEY, *_CHOOSING})


def problems(definition: Definition, record_types: Collection[str], path: str = "field") -> list[Violation]:
    """Return everything that is wrong with a definition; `record_types` are those that a reference may name."""
    found: list[Violation] = []

    def wrong(name: str, reason: str, message: str, hint: str = "") -> None:
        found.append(Violation(f"{path}.{name}", reason, message, hint))

    kind = definition.kind
    if not _NAME.fullmatch(definition.name):
        message = "a name has lower-case letters, digits and underscores, a letter first, at most 64"
        wrong("name", "BAD_FIELD_NAME", message, f"Use {_as_name(definition.name)}.")
    if definition.unique and kind in _NEVER_UNIQUE:
        wrong("unique", "CANNOT_BE_UNIQUE", f"a field of kind {kind} cannot be unique", "Use a text or whole numbers.")
    _check_choices(definition, wrong)
    if kind is FieldKind.REFERENCE and definition.reference_type not in {*record_types, "member"}:
        hint = did_you_mean(definition.reference_type, [*record_types, "member"], "Name a record type, or member.")
        wrong("reference_type", "UNKNOWN_RECORD_TYPE", "is no type of record", hint)
    if definition.reference_type and kind is not FieldKind.REFERENCE:
        wrong("reference_type", "DOES_NOT_APPLY", f"says nothing of a field of kind {kind}", "Leave it out.")
    _check_bounds(definition, wrong)
    if definition.pattern:
        if kind is not FieldKind.STRING:
            wrong("pattern", "DOES_NOT_APPLY", f"says nothing of a field of kind {kind}", "Leave it out.")
        else:
            try:
                _matcher(definition.pattern)
            except Invalid as bad:
                message = bad.violations[0].message if bad.violations else "is no regular expression"
                wrong("pattern", "BAD_PATTERN", message, "Write an RE2 expression, such as [A-Z]{2}[0-9]{4}.")
    return found


def _check_choices(definition: Definition, wrong: Callable[..., None]) -> None:
    choosing, choices = definition.kind in _CHOOSING, definition.choices
    if choosing and not choices:
        wrong("choices", "REQUIRED", "says which values there are", "Name at least one.")
    elif choices and not choosing:
        wrong("choices", "DOES_NOT_APPLY", f"says nothing of a field of kind {definition.kind}", "Use kind CHOICE.")
    elif len(choices) > MOST_CHOICES or len(set(choices)) < len(choices):
        wrong("choices", "BAD_CHOICES", f"has more than {MOST_CHOICES} values, or one of them twice")
    for number, choice in enumerate(choices):
        if not choice.strip() or choice != choice.strip() or len(choice) > LONGEST_CHOICE or not choice.isprintable():
            message = f"is empty, longer than {LONGEST_CHOICE} characters, or has space around it"
            wrong(f"choices[{number}]", "BAD_CHOICE", message)


def _check_bounds(definition: Definition, wrong: Callable[..., None]) -> None:
    kind, least, most = definition.kind, definition.minimum, definition.maximum
    for name, bound in (("minimum", least), ("maximum", most)):
        if bound is not None and (kind not in _NUMBERS or bound != bound or abs(bound) == float("inf")):
            wrong(name, "DOES_NOT_APPLY", f"says nothing of a field of kind {kind}", "Leave it out.")
    if least is not None and most is not None and least > most:
        wrong("maximum", "BAD_RANGE", "is smaller than the minimum", "Swap them.")
    if definition.max_characters and (kind not in _TEXTS or not 0 < definition.max_characters <= LONGEST):
        message = f"is not 1 to {LONGEST:,} characters of a text"
        wrong("max_characters", "DOES_NOT_APPLY", message, "Leave it out.")


def read(definition: Definition, value: Any) -> Any:
    """Return a value as the field stores it; empty text and null are None, which removes it.

    Raises BadValue.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if definition.archived:
        hint = "Leave it out; its old values stay in the history."
        raise BadValue("FIELD_ARCHIVED", "is out of use", hint)
    stored = _READERS[definition.kind](definition, value)
    if stored == "":  # there was nothing in it but space and control characters
        return None
    if isinstance(stored, str):
        _check_text(definition, stored)
    elif definition.kind in _NUMBERS:
        _check_number(definition, stored)
    return stored


def contradiction(definition: Definition, stored: Any) -> str:
    """Return why a value that is stored does not fit a definition; empty where it fits."""
    try:
        fitting = read(definition, stored)
    except BadValue as bad:
        return bad.message
    if fitting != stored or isinstance(fitting, bool) != isinstance(stored, bool):
        return f"would be written {json.dumps(fitting, ensure_ascii=False)[:60]}"
    return ""


def unique_key(stored: Any) -> str:
    """Return what two values have in common that count as the same: texts are compared without case."""
    return stored.casefold() if isinstance(stored, str) else json.dumps(stored)


def _check_text(definition: Definition, text: str) -> None:
    most = definition.max_characters or LONGEST
    if len(text) > most:
        raise BadValue("TOO_LONG", f"has {len(text)} characters, at most {most} are accepted")
    if definition.pattern and definition.kind is FieldKind.STRING and not _fits(definition.pattern, text):
        raise BadValue("PATTERN_MISMATCH", f"does not fit {definition.pattern}", definition.description)


def _check_number(definition: Definition, number: float) -> None:
    if definition.minimum is not None and number < definition.minimum:
        raise BadValue("OUT_OF_RANGE", f"is less than {definition.minimum:g}")
    if definition.maximum is not None and number > definition.maximum:
        raise BadValue("OUT_OF_RANGE", f"is more than {definition.maximum:g}")


def _choice(definition: Definition, value: Any) -> str:
    text = values.string(value)
    if text not in definition.choices:
        hint = did_you_mean(text, definition.choices, f"Use one of {', '.join(definition.choices[:20])}.")
        raise BadValue("UNKNOWN_VALUE", "is not one of its values", hint)
    return text


def _choices(definition: Definition, value: Any) -> list[str] | None:
    if not isinstance(value, list | tuple):
        raise BadValue("WRONG_TYPE", "must be a list", f"Send a list of {', '.join(definition.choices[:5])}.")
    if len(value) > len(definition.choices) * 2:
        raise BadValue("TOO_MANY_ITEMS", f"has {len(value)} items, at most {len(definition.choices)} are accepted")
    chosen = {_choice(definition, item) for item in value}
    return [choice for choice in definition.choices if choice in chosen] or None


def _reference(definition: Definition, value: Any) -> str:
    text = values.string(value)
    if not _RECORD_ID.fullmatch(text):
        raise BadValue("NOT_A_REFERENCE", f"is not the id of a {definition.reference_type}", definition.description)
    return text


def _phone(_: Definition, value: Any) -> str:
    found = identity.normalise("phone", values.phone(value))
    if found is None:
        raise BadValue("INVALID_PHONE", "is no phone number with a country code", "Send one like +44 20 7946 0000.")
    return found[1]


_READERS: Mapping[FieldKind, Callable[[Definition, Any], Any]] = {
    FieldKind.STRING: lambda _, value: values.string(value),
    FieldKind.INTEGER: lambda _, value: values.integer(value),
    FieldKind.NUMBER: lambda _, value: values.number(value),
    FieldKind.BOOLEAN: lambda _, value: values.boolean(value),
    FieldKind.INSTANT: lambda _, value: values.instant(value),
    FieldKind.DATE: lambda _, value: values.day(value),
    FieldKind.REFERENCE: _reference,
    FieldKind.CHOICE: _choice,
    FieldKind.CHOICES: _choices,
    FieldKind.EMAIL: lambda _, value: values.email(value),
    FieldKind.PHONE: _phone,
    FieldKind.URL: lambda _, value: values.url(value),
    FieldKind.MONEY: lambda _, value: values.money(value),
}


@lru_cache(maxsize=1)
def _environment() -> Environment:
    return Environment({"value": "string"})


@lru_cache(maxsize=1024)
def _matcher(pattern: str) -> Expression:
    """Return what tells whether a text fits a pattern, in time that grows with the text alone.

    Raises Invalid for one that is no RE2 expression, or that stands for too many states.
    """
    literal = json.dumps(f"^(?:{pattern})$", ensure_ascii=False)
    found = _environment().compile(f"value.matches({literal})", wants="boolean", path="pattern")
    tried = found.evaluate({"value": "probe"})
    if tried.unknown:
        raise Invalid(Violation("pattern", "BAD_PATTERN", f"is no RE2 expression: {tried.unknown[:120]}"))
    return found


def _fits(pattern: str, text: str) -> bool:
    return _matcher(pattern).evaluate({"value": text}).holds


def _as_name(text: str) -> str:
    name = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")[:60] or "plan"
    return name if name[0].isalpha() else f"f_{name}"
