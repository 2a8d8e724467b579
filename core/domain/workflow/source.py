"""The text of a workflow, YAML or JSON, read into plain data and written back.

YAML is read by its 1.2 rules, which authors expect: `no` and `12:30` stay text, only `true` and `false` are booleans.
Aliases, tags and repeated keys are refused: none is needed here, and each can hide what a document really says.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import yaml

from core.domain.errors import Invalid, Violation, invalid

LARGEST = 262_144
"""In bytes."""
DEEPEST = 20
MOST_NODES = 20_000
_MANY_OPENERS = 500
_LARGEST_EXACT = 2**53 - 1

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INTEGER = re.compile(r"[-+]?[0-9]{1,18}\Z")
_NUMBER = re.compile(r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+)(?:[eE][-+]?[0-9]{1,3})?\Z")
_WORDS = {"": None, "~": None, "null": None, "true": True, "false": False}
_TAG = "tag:yaml.org,2002:"


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """Quotes every text that the reader here would take for something else, and writes what stands twice out twice."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Dumper.add_implicit_resolver(_TAG + "int", _INTEGER, list("-+0123456789"))
_Dumper.add_implicit_resolver(_TAG + "float", _NUMBER, list("-+.0123456789"))
_PLAIN_TAGS = frozenset(
    _TAG + name for name in ("map", "seq", "str", "null", "bool", "int", "float", "timestamp", "merge", "value")
)


def parse(text: str, field: str = "source") -> dict[str, Any]:
    """Return the document that a text holds.

    Raises Invalid, with the line, when it holds none.
    """
    if len(text.encode(errors="surrogatepass")) > LARGEST:
        raise invalid(field, "SOURCE_TOO_LARGE", f"the document has more than {LARGEST:,} bytes", "Split the workflow.")
    if not text.strip():
        raise invalid(field, "SOURCE_EMPTY", "the document is empty", "Send the workflow as YAML or JSON.")
    document = _json(text, field) if text.lstrip().startswith("{") else None
    if document is None:
        document = _yaml(text, field)
    check_plain(document, field)
    if not isinstance(document, dict):
        hint = "Begin with keys such as `title:` and `steps:`."
        raise invalid(field, "SOURCE_NOT_A_MAP", "the document is not a map of keys to values", hint)
    return document


def render(document: Mapping[str, Any]) -> str:
    """Return a document as YAML."""
    text: str = yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
    return text


def _json(text: str, field: str) -> Any:
    """Return what JSON text holds, or None when it is not JSON and may be YAML in braces."""

    def no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seen = dict(pairs)
        if len(seen) < len(pairs):
            repeated = Counter(key for key, _ in pairs).most_common(1)[0][0]
            raise invalid(field, "DUPLICATE_KEY", f"the key {repeated} stands twice in one map", "Keep one of them.")
        return seen

    try:
        return json.loads(text, object_pairs_hook=no_repeats, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return None


def check_plain(value: Any, field: str, depth: int = 0) -> None:
    """Refuse what no database keeps: NUL, halves of surrogate pairs, infinity, bottomless nesting. Raises Invalid."""
    if depth > DEEPEST:
        raise _too_deep(field)
    match value:
        case str():
            if "\0" in value or (not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value)):
                raise invalid(field, "SOURCE_SYNTAX", "a text has characters that are none", "Remove them.")
        case float() if not math.isfinite(value):
            raise invalid(field, "SOURCE_SYNTAX", "a number is too large", "Write it as text.")
        case int() | float() if _is_inexact(value):
            raise invalid(field, *_inexact(value))
        case dict():
            for key, item in value.items():
                check_plain(key, field, depth + 1)
                check_plain(item, field, depth + 1)
        case list():
            for item in value:
                check_plain(item, field, depth + 1)


def _yaml(text: str, field: str) -> Any:
    try:
        _check_depth(text, field)
        loader = _Loader(text)
        try:
            root = loader.get_single_node()
        finally:
            loader.dispose()
    except (yaml.YAMLError, UnicodeError, RecursionError) as error:
        raise _syntax(error, field) from None
    return _Reader(field).read(root, 0)


def _check_depth(text: str, field: str) -> None:
    """Refuse bottomless nesting before nodes are made: that is done by recursion in C, and would end the process.

    Nesting by indentation alone takes a square of its depth in blanks, so it needs no look.
    """
    if sum(text.count(opener) for opener in "[{-?") < _MANY_OPENERS:
        return
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > DEEPEST + 1:
                raise _too_deep(field)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


class _Reader:
    """Turns YAML nodes into plain data; a node met twice is an alias."""

    def __init__(self, field: str):
        self._field = field
        self._seen: set[int] = set()

    def read(self, node: Any, depth: int) -> Any:
        if node is None:
            return None
        if id(node) in self._seen:
            raise self._problem(node, "ALIAS_REFUSED", "anchors and aliases are not read here", "Write it out.")
        self._seen.add(id(node))
        if len(self._seen) > MOST_NODES:
            raise self._problem(node, "SOURCE_TOO_LARGE", f"more than {MOST_NODES:,} values", "Split the workflow.")
        if depth > DEEPEST:
            raise _too_deep(self._field)
        if node.tag not in _PLAIN_TAGS:
            raise self._problem(node, "TAG_REFUSED", f"the tag {node.tag[:40]} is not read here", "Remove the tag.")
        if isinstance(node, yaml.MappingNode):
            return self._map(node, depth)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item, depth + 1) for item in node.value]
        value = _scalar(node)
        if _is_inexact(value):
            raise self._problem(node, *_inexact(node.value))
        return value

    def _map(self, node: yaml.MappingNode, depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, item in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self._problem(key, "KEY_NOT_TEXT", "a key must be text", "Quote {{ … }} where it is a value.")
            self._seen.add(id(key))
            if key.value in result:
                raise self._problem(key, "DUPLICATE_KEY", f"the key {key.value} stands twice", "Keep one of them.")
            result[key.value] = self.read(item, depth + 1)
        return result

    def _problem(self, node: Any, reason: str, message: str, hint: str) -> Invalid:
        return invalid(self._field, reason, f"line {node.start_mark.line + 1}: {message}", hint)


def _scalar(node: Any) -> Any:
    text: str = node.value
    if node.style:  # quoted, or a block of lines
        return text
    if text.lower() in _WORDS and text in (text.lower(), text.capitalize(), text.upper()):
        return _WORDS[text.lower()]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) else text


def _is_inexact(value: Any) -> bool:
    """Tell whether a whole number is so large that JSON, and with it the contract, may carry another one."""
    if isinstance(value, float):
        return value.is_integer() and abs(value) > _LARGEST_EXACT
    return isinstance(value, int) and abs(value) > _LARGEST_EXACT


def _inexact(value: Any) -> tuple[str, str, str]:
    message = f"{str(value)[:40]} is too large for a number that stays the same everywhere"
    return "NUMBER_INEXACT", message, f"Write it as text, in quotes; numbers go up to {_LARGEST_EXACT:,}."


def _too_deep(field: str) -> Invalid:
    return invalid(field, "SOURCE_TOO_DEEP", f"the document is nested deeper than {DEEPEST} levels", "Flatten it.")


def _syntax(error: Exception, field: str) -> Invalid:
    mark = getattr(error, "problem_mark", None)
    said = getattr(error, "problem", None) or "it cannot be read"
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
    hint = "Quote texts that contain `: `, ` #`, or begin with {, [, &, * or @."
    if "flow" in str(getattr(error, "context", "")):
        hint = "Inside { } and [ ], quote a value with , : [ ] { or } in it; or write one key a line, without braces."
    return Invalid(Violation(field, "SOURCE_SYNTAX", f"{place}this is not YAML: {said}", hint))
