"""What can be read off a CEL expression without compiling it: the paths it mentions, how deep its macros nest."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from core.domain.frozen import frozen

MACROS = frozenset({"all", "exists", "exists_one", "map", "filter"})
"""The macros that run over a list."""

_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_TOKEN = re.compile(
    r"(?P<string>[rRbB]{0,2}(?:\"\"\"(?:\\.|[^\\])*?\"\"\"|'''(?:\\.|[^\\])*?'''"
    r"|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'))"
    r"|(?P<comment>//[^\n]*)"
    rf"|(?P<path>(?:\.\s*)?{_NAME}(?:\s*\.\s*{_NAME})*)"
    r"|(?P<number>\d[\w.]*)"
    r"|(?P<mark>[()\[\]{}])",
    re.DOTALL,
)
_KEY = re.compile(r"""\s*\[\s*(?:"([^"\\]*)"|'([^'\\]*)')\s*\]""")
_DOT = re.compile(r"\s*\.\s*")


@frozen
class Mention:
    """A value an expression looks at."""

    label: str
    """The whole path, such as `event.fields.plan`."""
    variable: str
    """The declared variable it begins with, such as `event.fields`."""
    keys: tuple[str, ...]
    """What is looked up inside that variable."""


def roots(mentioned: Iterable[Mention]) -> frozenset[str]:
    """Return what must be loaded to look at these values: `contact`, `company`, `lists` and the like."""
    return frozenset(
        "lists" if mention.variable == "contact.lists" else mention.variable.partition(".")[0] for mention in mentioned
    )


@frozen
class _Path:
    segments: tuple[str, ...]
    start: int
    end: int
    called: bool


def _paths(text: str) -> Iterator[_Path]:
    for token in _TOKEN.finditer(text):
        raw = token.group("path")
        if raw is None or raw.startswith("."):
            continue
        segments = tuple(_DOT.split(raw))
        called = text[token.end() :].lstrip().startswith("(")
        end = token.end()
        while not called and (key := _KEY.match(text, end)):
            segments += (key.group(1) or key.group(2) or "",)
            end = key.end()
        yield _Path(segments, token.start(), end, called)


def mentions(text: str, variables: Mapping[str, str]) -> tuple[Mention, ...]:
    """Return each declared value an expression mentions, in order, once; `variables` maps names to kinds."""
    found: dict[str, Mention] = {}
    for path in _paths(text):
        segments = path.segments[:-1] if path.called else path.segments
        for length in range(len(segments), 0, -1):
            variable = ".".join(segments[:length])
            if variable in variables:
                keys = segments[length:] if variables[variable] in ("map", "any") else ()
                label = ".".join((variable, *keys))
                found.setdefault(label, Mention(label, variable, keys))
                break
    return tuple(found.values())


def deepest_macro(text: str) -> int:
    """Return how deep macros over lists are nested."""
    stack: list[bool] = []
    deepest = 0
    last_called = ""
    for token in _TOKEN.finditer(text):
        mark = token.group("mark")
        if path := token.group("path"):
            last_called = _DOT.split(path)[-1] if text[token.end() :].lstrip().startswith("(") else ""
        elif mark == "(":
            stack.append(last_called in MACROS)
            last_called = ""
            deepest = max(deepest, sum(stack))
        elif mark == ")" and stack:
            stack.pop()
    return deepest


@frozen
class Rewritten:
    """An expression whose `has(variable)` became `(variable != null)`, and the way back to the author's columns."""

    text: str
    shifts: tuple[tuple[int, int], ...]

    def original(self, offset: int) -> int:
        """Return where an offset of the rewritten text was in the author's."""
        return offset - sum(by for start, by in self.shifts if start < offset)


def rewrite_presence(text: str, variables: Mapping[str, str]) -> Rewritten:
    """Let `has(contact.email)` ask whether the value is known; the engine itself only asks it of map keys.

    A declared dotted variable is one name to the engine, so its own `has` would hand back the value.
    """
    pieces: list[str] = []
    shifts: list[tuple[int, int]] = []
    done = length = 0
    for path in _paths(text):
        before = re.search(r"(?<![\w.])has\s*\(\s*$", text[: path.start])
        after = re.match(r"\s*\)", text[path.end :])
        if path.called or not before or not after or ".".join(path.segments) not in variables:
            continue
        end = path.end + after.end()
        new = f"({'.'.join(path.segments)} != null)"
        pieces += [text[done : before.start()], new]
        length += before.start() - done + len(new)
        shifts.append((length - 1, len(new) - (end - before.start())))
        done = end
    return Rewritten("".join([*pieces, text[done:]]), tuple(shifts))
