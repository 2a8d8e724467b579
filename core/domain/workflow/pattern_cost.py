"""How much work a regular expression is: the engine's matcher is linear in the text, but also in the pattern.

`(.{1,30}){1,30}` is fifteen characters that stand for nine hundred; written small, it is costly all the same.
"""

from __future__ import annotations

import re

MOST_STATES = 1_000
"""States a pattern may stand for; a usual one has ten to fifty."""

_BOUNDED = re.compile(r"\{(\d{1,6})(,(\d{0,6}))?\}")
_CLASS = re.compile(r"\[\^?\]?(?:\\.|\[:\^?\w+:\]|[^\]\\])*\]?", re.DOTALL)
_UNICODE = re.compile(r"\\[pP](?:\{[^}]*\}|.)?", re.DOTALL)


def states(pattern: str) -> int:
    """Return about how many states the matcher makes of a pattern; never too few by much."""
    groups: list[int] = []
    total = last = at = 0
    while at < len(pattern):
        if bounded := _BOUNDED.match(pattern, at):
            low, high = int(bounded.group(1)), int(bounded.group(3) or 0)
            total += last * (max(low, high, 1) - 1)
            last *= max(low, high, 1)
            at = bounded.end()
            continue
        character = pattern[at]
        found = _UNICODE.match(pattern, at) or (_CLASS.match(pattern, at) if character == "[" else None)
        if character == "(":
            groups.append(total)
            total = last = 0
        elif character == ")" and groups:
            last, total = total, groups.pop() + total
        elif character not in "*+?|":
            last = _width(found.group() if found else character)
            total += last
        at = found.end() if found else at + (2 if character == "\\" else 1)
    return total + sum(groups) + 1


def _width(atom: str) -> int:
    """Return how many states one character of the text takes: those beyond ASCII are several bytes."""
    if "\\p" in atom or "\\P" in atom:
        return 40
    if atom == "." or atom.startswith("[^"):
        return 8
    return 1 if atom.isascii() else 4
