"""Filters as models write them, in the words of SQL or of programs, put into the words that the lists understand."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any

from mcp_server.values import compact

_WORD = re.compile(r"[A-Za-z_][\w.]*")
_QUOTED = re.compile(r"""("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')""")
_REWRITTEN = (
    (re.compile(r"\s*(?:===?|\beq\b)\s*", re.IGNORECASE), " = "),
    (re.compile(r"\s*<>\s*"), " != "),
    (re.compile(r"\s*&&\s*"), " AND "),
    (re.compile(r"\s*\|\|\s*"), " OR "),
    (re.compile(r"\b(and|or|not)\b", re.IGNORECASE), lambda found: found[0].upper()),
    (re.compile(r"\s+(?:i?like|contains|has)\s+", re.IGNORECASE), ":"),
    (re.compile(r"\s+is\s+not\s+null\b", re.IGNORECASE), ":*"),
    (re.compile(r"!(?![=])\s*"), "NOT "),
)


def in_our_words(written: str) -> str:
    """Return a filter with the operators of other languages replaced; what stands in quotes stays."""
    parts = _QUOTED.split(re.sub("[“”]", '"', written))
    quoted = parts[1::2]
    plain = "\0".join(part.replace("\0", "") for part in parts[::2])
    for pattern, ours in _REWRITTEN:
        plain = pattern.sub(ours, plain)
    plain = re.sub(" {2,}", " ", _grouped(plain) if plain != "\0".join(parts[::2]) else plain).strip()
    first, *others = plain.split("\0")
    told = first
    for text, rest in zip(quoted, others, strict=True):
        told += (text[0] + text[1:-1].strip("%*") + text[-1] if told.endswith(":") else text) + rest
    return told


def _grouped(plain: str) -> str:
    """Return conditions with parentheses where others bind AND before OR, and ours OR before AND."""
    if "(" in plain or " OR " not in plain:
        return plain
    return " OR ".join(f"({one})" if " AND " in one else one for one in plain.split(" OR "))


def respelt(written: str, near: str) -> str:
    """Return a filter with the name that is most like a known one written as that one is."""
    parts = _QUOTED.split(written)
    words = {word for part in parts[::2] for word in _WORD.findall(part)} - {near, "AND", "OR", "NOT"}
    wrong = max(words, key=lambda word: difflib.SequenceMatcher(None, word.lower()[:80], near).ratio(), default="")
    if not wrong:
        return written
    for number in range(0, len(parts), 2):
        parts[number] = re.sub(rf"(?<![\w.]){re.escape(wrong)}(?![\w.])", near, parts[number])
    return "".join(parts)


def of_fields(fields: Mapping[str, Any]) -> str:
    """Return the filter that asks for each of some fields to have a value; empty where a value is no plain one."""
    if not all(isinstance(value, str | int | float | bool) for value in fields.values()):
        return ""
    return " AND ".join(f"{name} = {compact(value)}" for name, value in fields.items())
