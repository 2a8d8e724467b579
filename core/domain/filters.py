"""Filters of lists: the documented part of AIP-160, parsed against the fields that the list has.

    tier = "A" AND score >= 70
    (state = active OR state = awaiting_approval) AND NOT key:"trial"
    custom.plan:*

Comparisons are `= != < <= > >=` and `:`, which asks for part of a text or an item of a list; `field:*` asks whether
there is a value at all. As AIP-160 says, OR binds tighter than AND. A field without a value fits no comparison
except `!=`. Strings stand in double or single quotes; one word may stand without.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Literal

from core.domain.errors import DripstoneError, invalid
from core.domain.frozen import frozen
from core.domain.nearest import did_you_mean
from core.domain.records.values import BadValue, money

Kind = Literal["string", "integer", "number", "boolean", "instant", "date", "reference", "money", "any"]
Operator = Literal["=", "!=", "<", "<=", ">", ">=", ":"]
Scalar = str | int | float | bool | datetime

LONGEST = 1000
DEEPEST = 10
MOST_TERMS = 50
_LARGEST = 2**63 - 1


@frozen
class Comparison:
    """One field compared with one value."""

    field: str
    operator: Operator
    value: Scalar
    kind: Kind


@frozen
class Present:
    """Asks whether a field has a value."""

    field: str
    kind: Kind


@frozen
class Not:
    """Holds when the other does not."""

    inner: Expression


@frozen
class And:
    """Holds when all do."""

    items: tuple[Expression, ...]


@frozen
class Or:
    """Holds when one does."""

    items: tuple[Expression, ...]


Expression = Comparison | Present | Not | And | Or

_TOKEN = re.compile(
    r"""\s*(?:(?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(?P<operator><=|>=|!=|[=<>:])|(?P<paren>[()])"""
    r"""|(?P<star>\*)|(?P<word>[^\s"'()=<>!:*]+))""",
    re.DOTALL,
)
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?")
_PATH = re.compile(r"\w+(\.[A-Za-z][A-Za-z0-9_]*)+", re.ASCII)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_COMPARISONS = (
    "Compare by = != < <= > >=, by : for a part of a text, by field:* for any value; join by AND, OR, NOT in capitals."
)


@frozen
class _Token:
    kind: str
    text: str
    at: int


def parse(text: str, fields: Mapping[str, Kind]) -> Expression | None:
    """Return the expression of a filter, None for an empty one.

    `fields` names what the list can be filtered by; a name that ends in `.*` stands for every path below it.
    Raises Invalid with the position and the way out.
    """
    if not text.strip():
        return None
    if len(text) > LONGEST:
        raise _bad("FILTER_TOO_LONG", f"has {len(text)} characters, at most {LONGEST} are accepted")
    parser = _Parser(_tokens(text), fields)
    expression = parser.conjunction(1)
    parser.expect_end()
    return expression


def to_text(expression: Expression) -> str:
    """Return a filter that parses to this expression."""
    match expression:
        case Present(field):
            return f"{field}:*"
        case Comparison(field, operator, value):
            return f"{field}{operator}{_literal(value)}" if operator == ":" else f"{field} {operator} {_literal(value)}"
        case Not(inner):
            return f"NOT {_grouped(inner)}"
        case And(items):
            return " AND ".join(_grouped(item) if isinstance(item, And) else to_text(item) for item in items)
        case Or(items):
            return " OR ".join(_grouped(item) for item in items)


def _grouped(expression: Expression) -> str:
    plain = isinstance(expression, Comparison | Present | Not)
    return to_text(expression) if plain else f"({to_text(expression)})"


def _literal(value: Scalar) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case datetime():
            return f'"{value.isoformat()}"'
        case str():
            return json.dumps(value, ensure_ascii=False)
        case _:
            return repr(value)


def _tokens(text: str) -> list[_Token]:
    tokens, position = [], 0
    while text[position:].strip():
        match = _TOKEN.match(text, position)
        if match is None:
            start = position + len(text[position:]) - len(text[position:].lstrip())
            hint = "Close the quotes." if text[start] in "\"'" else _COMPARISONS
            raise _bad("FILTER_SYNTAX", f"cannot be read at character {start + 1}: {text[start : start + 20]!r}", hint)
        kind = str(match.lastgroup)
        tokens.append(_Token(kind, match.group(kind), match.start(kind)))
        position = match.end()
    return tokens


class _Parser:
    """Reads tokens from left to right, one function a rule of the grammar."""

    def __init__(self, tokens: list[_Token], fields: Mapping[str, Kind]):
        self._tokens = tokens
        self._next = 0
        self._fields = fields
        self._terms = 0

    def conjunction(self, depth: int) -> Expression:
        items = [self._disjunction(depth)]
        while self._take("word", "AND"):
            items.append(self._disjunction(depth))
        return items[0] if len(items) == 1 else And(tuple(items))

    def _disjunction(self, depth: int) -> Expression:
        items = [self._term(depth)]
        while self._take("word", "OR"):
            items.append(self._term(depth))
        return items[0] if len(items) == 1 else Or(tuple(items))

    def _term(self, depth: int) -> Expression:
        if depth > DEEPEST:
            raise _bad("FILTER_TOO_DEEP", f"is nested deeper than {DEEPEST} levels")
        if self._take("word", "NOT"):
            return Not(self._term(depth + 1))
        if self._take("paren", "("):
            inner = self.conjunction(depth + 1)
            if not self._take("paren", ")"):
                raise _bad("FILTER_SYNTAX", "lacks a closing parenthesis", "Close it.")
            return inner
        return self._comparison()

    def _comparison(self) -> Expression:
        self._terms += 1
        if self._terms > MOST_TERMS:
            raise _bad("FILTER_TOO_LARGE", f"has more than {MOST_TERMS} comparisons")
        name = self._pop("word", "a field")
        operator = self._pop("operator", f"a comparison after `{name.text}`")
        kind = self._kind_of(name.text)
        if operator.text == ":" and self._take("star", "*"):
            return Present(name.text, kind)
        value = self._value(name.text, kind)
        if operator.text == ":" and kind not in ("string", "reference", "any"):
            raise _bad("FILTER_OPERATOR", f"`{name.text}` is no text or list", f"Use `{name.text} = …` instead of `:`.")
        if operator.text == ":" and value == "":
            raise _bad("FILTER_VALUE", f"asks for an empty part of `{name.text}`", f"Use {name.text}:* for any value.")
        if kind == "money" and operator.text not in ("=", "!="):
            hint = f'Use {name.text} = "1200.50 EUR", or {name.text}:* for any amount.'
            raise _bad("FILTER_OPERATOR", f"`{name.text}` has a currency and cannot be ordered", hint)
        if isinstance(value, bool) and operator.text not in ("=", "!=", ":"):
            raise _bad("FILTER_OPERATOR", f"`{name.text} {operator.text}` cannot order true and false", "Use = or !=.")
        return Comparison(name.text, operator.text, value, kind)  # type: ignore[arg-type]  # the lexer knows them all

    def _value(self, name: str, kind: Kind) -> Scalar:
        token = self._peek()
        if token is None or token.kind not in ("string", "word") or self._is_keyword(token):
            raise _bad("FILTER_SYNTAX", f"lacks a value for `{name}`", f'Write {name} = "value". {_COMPARISONS}')
        self._next += 1
        if token.kind == "string":
            text = _ESCAPE.sub(lambda match: _unescaped(match.group(1)), token.text[1:-1])
            return _typed(name, text, kind, quoted=True)
        return _typed(name, token.text, kind, quoted=False)

    def _kind_of(self, name: str) -> Kind:
        if name in self._fields:
            return self._fields[name]
        for known, kind in self._fields.items():
            if known.endswith(".*") and name.startswith(known[:-1]) and _PATH.fullmatch(name):
                return kind
        hint = did_you_mean(name, self._fields) or f"Filter by {', '.join(sorted(self._fields))}."
        raise _bad("UNKNOWN_FILTER_FIELD", f"names `{name[:80]}`, by which this list cannot be filtered", hint)

    def _peek(self) -> _Token | None:
        return self._tokens[self._next] if self._next < len(self._tokens) else None

    def _take(self, kind: str, text: str) -> bool:
        token = self._peek()
        if token is None or token.kind != kind or token.text != text:
            return False
        self._next += 1
        return True

    def _pop(self, kind: str, expected: str) -> _Token:
        token = self._peek()
        if token is None:
            raise _bad("FILTER_SYNTAX", f"ends where {expected} was expected", _COMPARISONS)
        if token.kind != kind or self._is_keyword(token):
            message = f"has `{token.text[:40]}` at character {token.at + 1}, not {expected}"
            raise _bad("FILTER_SYNTAX", message, _COMPARISONS)
        self._next += 1
        return token

    def _is_keyword(self, token: _Token) -> bool:
        return token.kind == "word" and token.text in ("AND", "OR", "NOT")

    def expect_end(self) -> None:
        token = self._peek()
        if token is not None:
            message = f"goes on with `{token.text[:40]}` at character {token.at + 1}"
            raise _bad("FILTER_SYNTAX", message, _COMPARISONS)


def _unescaped(character: str) -> str:
    return {"n": "\n", "t": "\t"}.get(character, character)


def _typed(name: str, text: str, kind: Kind, *, quoted: bool) -> Scalar:
    if any(character < " " and character not in "\n\t" for character in text):
        raise _bad("FILTER_VALUE", f"has a control character in the value of `{name}`")
    match kind:
        case "any" if not quoted:
            if text in ("true", "false"):
                return text == "true"
            return _number(name, text) if _NUMBER.fullmatch(text) else text
        case "integer" | "number":
            return _number(name, text)
        case "boolean":
            if text not in ("true", "false"):
                raise _bad("FILTER_VALUE", f"compares `{name}` with {text[:40]!r}", "Use true or false.")
            return text == "true"
        case "instant":
            return _instant(name, text)
        case "date":
            return _date(name, text)
        case "money":
            return _money(name, text)
        case _:
            return text


def _number(name: str, text: str) -> int | float:
    if not _NUMBER.fullmatch(text):
        raise _bad("FILTER_VALUE", f"compares the number `{name}` with {text[:40]!r}", "Use a number.")
    value = int(text) if text.lstrip("+-").isdigit() else float(text)
    if abs(value) > _LARGEST:
        raise _bad("FILTER_VALUE", f"has too large a number for `{name}`")
    return value


def _instant(name: str, text: str) -> datetime:
    try:
        instant = datetime.fromisoformat(text)
        return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
    except (ValueError, OverflowError):
        hint = 'Use one like "2026-03-02T09:00:00Z", in quotes.'
        raise _bad("FILTER_VALUE", f"compares the instant `{name}` with {text[:40]!r}", hint) from None


def _date(name: str, text: str) -> str:
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise _bad("FILTER_VALUE", f"compares the date `{name}` with {text[:40]!r}", "Use 2026-03-02.") from None


def _money(name: str, text: str) -> str:
    try:
        return money(text)
    except BadValue:
        raise _bad("FILTER_VALUE", f"compares the amount `{name}` with {text[:40]!r}", "Use 1200.50 EUR.") from None


def _bad(reason: str, message: str, hint: str = "") -> DripstoneError:
    return invalid("filter", reason, message, hint)
