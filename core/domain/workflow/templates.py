"""Texts with Liquid in them: parsed and checked when a workflow is published, rendered on plain values, within limits.

A template reads nothing but the values it is given: no files, no clock, no other template.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import InvalidOperation
from typing import Any, Literal

from liquid import BoundTemplate
from liquid.exceptions import LiquidError, LiquidInterrupt, LoopIterationLimitError

from core.domain.errors import Violation
from core.domain.frozen import frozen
from core.domain.nearest import did_you_mean
from core.domain.workflow.expression_text import Mention, roots
from core.domain.workflow.storable import storable_text
from core.domain.workflow.template_engine import (
    FILTERS,
    LARGEST_OUTPUT,
    MOST_ITERATIONS,
    TAGS,
    Context,
    TooLarge,
    engine,
    guard,
    join,
    plain_parts,
    render,
)
from core.domain.workflow.template_escapes import escape_outputs

LONGEST_TEXT = 16_384

_FAILURES = (LiquidError, LiquidInterrupt, ArithmeticError, TypeError, ValueError, RecursionError, OSError)

Escape = Literal["none", "html", "json", "url"]
"""How values are written: as they are, or so that they cannot be anything but text in HTML, in JSON or in a URL."""

_ENGINES = {"none": engine(autoescape=False), "html": engine(autoescape=True)}
_CONTROL = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029]")


@frozen
class Rendered:
    """What a template came to."""

    text: str | None
    """None when it could not be rendered."""
    error: str = ""
    """Why it could not, as a clause."""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    """Each value it looked at, by path; None where it was not known and nothing was written for it."""

    @property
    def missing(self) -> tuple[str, ...]:
        """Return the paths that were not known."""
        return tuple(path for path, value in self.inputs.items() if value is None)


@dataclass(frozen=True, slots=True)
class Template:
    """A checked template."""

    text: str
    mentions: tuple[Mention, ...]
    escape: Escape = "none"
    _compiled: BoundTemplate | None = field(default=None, compare=False, repr=False)
    """None for a text without Liquid in it."""
    _reads: tuple[tuple[str, tuple[str, ...]], ...] = field(default=(), compare=False, repr=False)
    """Each variable, and its name taken apart."""
    _parts: tuple[tuple[str, bool], ...] | None = field(default=None, compare=False, repr=False)
    """Texts and labels of mentions in turn, where it does no more than to put the ones between the others."""

    @property
    def roots(self) -> frozenset[str]:
        """Return what must be loaded for it: `contact`, `company`, `lists` and the like."""
        return roots(self.mentions)

    def render(self, values: Mapping[str, Any]) -> Rendered:
        """Return the text; `values` maps variable names to plain values, absent means unknown."""
        if self._compiled is None:
            return Rendered(self.text)
        given = {variable: values.get(variable) for variable, _ in self._reads}
        inputs = {
            mention.label: _dig(given[mention.variable], mention.keys)
            if mention.keys
            else _shown(given[mention.variable])
            for mention in self.mentions
        }
        if self._parts is not None:
            joined = join(self._parts, inputs, autoescape=self.escape == "html")
            if joined is not None:
                return Rendered(storable_text(joined), "", inputs)
        nested: dict[str, Any] = {}
        for variable, names in self._reads:
            _plant(nested, names, given[variable])
        try:
            return Rendered(storable_text(render(self._compiled.nodes, Context(self._compiled, nested))), "", inputs)
        except (TooLarge, LoopIterationLimitError):
            return Rendered(None, f"it grows over {LARGEST_OUTPUT:,} characters or {MOST_ITERATIONS:,} loops", inputs)
        except InvalidOperation:
            return Rendered(None, "it computes with a text that is not a number", inputs)
        except _FAILURES as error:
            told = str(getattr(error, "message", error)).split("\n")[0][:200]
            return Rendered(None, storable_text(told), inputs)

    def render_line(self, values: Mapping[str, Any]) -> Rendered:
        """Return the text as one line, such as a subject, which must not smuggle in another header."""
        rendered = self.render(values)
        return rendered if rendered.text is None else replace(rendered, text=one_line(rendered.text))


def one_line(text: str) -> str:
    """Return a text as one line: without control characters, each run of white space a single blank."""
    return " ".join(_CONTROL.sub(" ", text).split())


def is_template(text: str) -> bool:
    """Tell whether a text has Liquid in it."""
    return "{{" in text or "{%" in text


def check(
    text: str, variables: Mapping[str, str], path: str, *, escape: Escape = "none"
) -> tuple[Template | None, tuple[Violation, ...]]:
    """Return the template, or everything that is wrong with it; `path` says where it stands.

    `escape` is `html` for the HTML body of a message: what the values hold cannot become markup there. What is
    rendered with `json` is finished by `connections.json_body`.
    """
    if len(text) > LONGEST_TEXT:
        message = f"the template has {len(text):,} characters; at most {LONGEST_TEXT:,} are allowed"
        return None, (Violation(path, "TEMPLATE_TOO_LONG", message, "Shorten it."),)
    try:
        compiled = _ENGINES["html" if escape == "html" else "none"].from_string(text)
        analysis = compiled.analyze()
    except LiquidError as error:
        return None, (_syntax(error, text, path),)
    except RecursionError:
        return None, (Violation(path, "TEMPLATE_TOO_DEEP", "the template is nested too deeply", "Flatten it."),)
    problems = [
        Violation(path, "TEMPLATE_UNKNOWN_FILTER", f"there is no filter {name}", did_you_mean(name, FILTERS))
        for name in analysis.filters
        if name not in FILTERS
    ]
    mentions: dict[str, Mention] = {}
    for used in analysis.globals.values():
        for variable in used:
            found = _mention(_names(variable.segments), variables)
            if isinstance(found, Mention):
                mentions.setdefault(found.label, found)
            else:
                place = _place(text, variable.span.index)
                problems.append(Violation(path, "TEMPLATE_UNKNOWN_NAME", f"{place}: {found[0]}", found[1]))
    if problems:
        return None, tuple(problems)
    if not is_template(text):
        return Template(text, (), escape), ()
    parts = plain_parts(compiled.nodes) if escape in ("none", "html") else None
    if parts is not None and any(named and name not in mentions for name, named in parts):
        parts = None
    guard(compiled.nodes)
    escape_outputs(compiled.nodes, escape)
    reads = {mention.variable for mention in mentions.values()}
    if "date" in analysis.filters:
        reads.add("now")  # which the filter takes the text `now` for
    return Template(
        text,
        tuple(mentions.values()),
        escape,
        compiled,
        tuple((variable, tuple(variable.split("."))) for variable in sorted(reads)),
        parts,
    ), ()


def _mention(segments: list[str], variables: Mapping[str, str]) -> Mention | tuple[str, str]:
    """Return the declared value a path means, or a complaint and a hint."""
    for length in range(len(segments), 0, -1):
        variable = ".".join(segments[:length])
        if variable in variables:
            keys = tuple(segments[length:]) if variables[variable] in ("map", "any", "list") else ()
            keys = tuple(key for key in keys if key not in ("size", "first", "last"))
            return Mention(".".join((variable, *keys)), variable, keys)
    name = ".".join(segments)
    inside = next((variable for variable in variables if variable.startswith(name + ".")), "")
    if inside:
        return f"{name} is not a value by itself", f"Name a value in it, such as {inside}."
    return f"there is no {name} here", did_you_mean(name, variables)


def _names(segments: Iterable[object]) -> list[str]:
    """Return the fixed beginning of a path, before an index that is itself a variable."""
    return [str(segment) for segment in itertools.takewhile(lambda segment: isinstance(segment, str | int), segments)]


def _syntax(error: LiquidError, text: str, path: str) -> Violation:
    message = str(error.message or "it cannot be read").split("\n")[0]
    start = getattr(error.token, "start_index", None)
    place = f"{_place(text, start)}: " if start is not None and start >= 0 else ""
    hint = "Write {{ contact.email }} for a value, {% if lead.tier == 'A' %}…{% endif %} for a condition."
    if message.startswith("unexpected tag"):
        hint = f"The tags there are: {', '.join(TAGS)}."
    return Violation(path, "TEMPLATE_SYNTAX", f"{place}this is not Liquid: {message}", hint)


def _place(text: str, index: int) -> str:
    before = text[:index]
    column = len(before) - (before.rfind("\n") + 1) + 1
    return f"line {before.count(chr(10)) + 1}, column {column}" if "\n" in text.strip() else f"column {column}"


def _plant(tree: dict[str, Any], names: tuple[str, ...], value: Any) -> None:
    for name in names[:-1]:
        tree = tree.setdefault(name, {})
    tree[names[-1]] = _shown(value)


def _shown(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _dig(value: Any, keys: tuple[str, ...]) -> Any:
    for key in keys:
        if isinstance(value, list | tuple) and key.lstrip("-").isdigit():
            value = value[int(key)] if -len(value) <= int(key) < len(value) else None
        elif isinstance(value, Mapping):
            value = value.get(key)
        else:
            return None
    return _shown(value)
