"""Reading a text with Liquid in it, and rendering what was read.

The package behind it is slow to load, so this module is loaded with the first template: see core.loading.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from decimal import InvalidOperation
from typing import Any

from liquid import BoundTemplate
from liquid.exceptions import LiquidError, LiquidInterrupt, LoopIterationLimitError

from core.domain.errors import Violation
from core.domain.frozen import frozen
from core.domain.nearest import did_you_mean
from core.domain.workflow.escapes import Escape
from core.domain.workflow.expression_errors import roots
from core.domain.workflow.expression_text import Mention
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

_FILTERS = f"The filters there are: {', '.join(FILTERS)}."
_FAILURES = (LiquidError, LiquidInterrupt, ArithmeticError, TypeError, ValueError, RecursionError, OSError)
_ENGINES = {"none": engine(autoescape=False), "html": engine(autoescape=True)}


@frozen
class Compiled:
    """A template as the engine has it."""

    template: BoundTemplate
    autoescape: bool

    def join(self, parts: tuple[tuple[str, bool], ...], values: Mapping[str, Any]) -> str | None:
        """Return a text that only puts values between others; None when one of them must be rendered."""
        return join(parts, values, autoescape=self.autoescape)

    def render(self, values: Mapping[str, Any]) -> tuple[str | None, str, tuple[str, ...]]:
        """Return the text, or None and why there is none, as a clause; and the values that came to nothing in it."""
        context = Context(self.template, values)
        try:
            return render(self.template.nodes, context), "", tuple(context.gaps)
        except (TooLarge, LoopIterationLimitError):
            return None, f"it grows over {LARGEST_OUTPUT:,} characters or {MOST_ITERATIONS:,} loops", ()
        except InvalidOperation:
            return None, "it computes with a text that is not a number", ()
        except _FAILURES as error:
            return None, str(getattr(error, "message", error)).split("\n")[0][:200], ()


@frozen
class Read:
    """What a text with Liquid in it turned out to be."""

    compiled: Compiled
    mentions: tuple[Mention, ...]
    reads: tuple[str, ...]
    """The variables it needs, in order of their names."""
    parts: tuple[tuple[str, bool], ...] | None
    """Texts and labels of mentions in turn, where it does no more than to put the ones between the others."""


def read(
    text: str, variables: Mapping[str, str], path: str, escape: Escape
) -> tuple[Read | None, tuple[Violation, ...]]:
    """Return what a text is, or everything that is wrong with it; see `templates.check`."""
    try:
        compiled = _ENGINES["html" if escape == "html" else "none"].from_string(text)
        analysis = compiled.analyze()
    except LiquidError as error:
        return None, (_syntax(error, text, path),)
    except RecursionError:
        return None, (Violation(path, "TEMPLATE_TOO_DEEP", "the template is nested too deeply", "Flatten it."),)
    problems = [
        Violation(
            path, "TEMPLATE_UNKNOWN_FILTER", f"there is no filter {name}", did_you_mean(name, FILTERS) or _FILTERS
        )
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
    parts = plain_parts(compiled.nodes) if escape in ("none", "html") else None
    if parts is not None and any(named and name not in mentions for name, named in parts):
        parts = None
    guard(compiled.nodes)
    escape_outputs(compiled.nodes, escape)
    reads = {mention.variable for mention in mentions.values()}
    if "date" in analysis.filters:
        reads.add("now")  # which the filter takes the text `now` for
    compiled_text = Compiled(compiled, escape == "html")
    return Read(compiled_text, tuple(mentions.values()), tuple(sorted(reads)), parts), ()


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
    return f"there is no {name} here", did_you_mean(name, variables) or roots(name, variables)


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
