"""Texts with Liquid in them: parsed and checked when a workflow is published, rendered on plain values, within limits.

A template reads nothing but the values it is given: no files, no clock, no other template.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import wraps
from typing import Any

from liquid import BoundTemplate, Environment, RenderContext
from liquid.exceptions import (
    LiquidError,
    LocalNamespaceLimitError,
    LoopIterationLimitError,
    OutputStreamLimitError,
)
from liquid.filter import with_context

from core.domain.errors import Violation
from core.domain.nearest import did_you_mean
from core.domain.workflow.expression_text import Mention
from core.domain.workflow.expressions import storable_text

LONGEST_TEXT = 16_384
LARGEST_OUTPUT = 65_536
MOST_ITERATIONS = 10_000

_FILTERS = """
    abs append at_least at_most base64_encode capitalize ceil compact concat date default divided_by downcase escape
    first floor join last lstrip map minus modulo newline_to_br plus prepend remove remove_first replace
    replace_first reverse round rstrip size slice sort split squish strip strip_newlines sum times truncate
    truncatewords uniq upcase url_decode url_encode where
"""
FILTERS = tuple(_FILTERS.split())
"""The filters there are; each works on its arguments alone."""

_TAGS = "assign break capture case comment continue cycle echo for if ifchanged unless"
TAGS = tuple(_TAGS.split())
"""The tags that authors may write."""

_INNER_TAGS = ("#", "content", "output", "illegal", "doc", "raw")


class _TooLarge(Exception):
    pass


def _bounded(name: str, filter_function: Callable[..., Any]) -> Callable[..., Any]:
    """Refuse what a filter would blow up: its arguments are small, its result need not be."""

    @wraps(filter_function)
    def bounded(value: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(value, range) and len(value) > MOST_ITERATIONS:
            raise _TooLarge
        if name.startswith("replace") and len(args) == 2:
            old, new = str(args[0]), str(args[1])
            if len(str(value)) + str(value).count(old) * len(new) > LARGEST_OUTPUT:
                raise _TooLarge
        if name == "join" and isinstance(value, list | tuple | range):
            joint = str(args[0]) if args else " "
            if len(value) * len(joint) > LARGEST_OUTPUT:
                raise _TooLarge
        result = filter_function(value, *args, **kwargs)
        if isinstance(result, str | list) and len(result) > LARGEST_OUTPUT:
            raise _TooLarge
        return result

    return bounded


@with_context
def _date(value: Any, layout: Any = "%Y-%m-%d", *, context: RenderContext) -> str:
    """Lay out an instant; `now` is the instant of the decision, never the machine's clock."""
    if value in ("now", "today"):
        value = context.resolve("now")
    if isinstance(value, int | float) and not isinstance(value, bool):
        instant = datetime.fromtimestamp(value, UTC)
    else:
        try:
            instant = datetime.fromisoformat(str(value))
        except ValueError:
            return "" if value is None else str(value)
    return instant.strftime(str(layout)[:200])


class _Liquid(Environment):
    output_stream_limit = LARGEST_OUTPUT
    loop_iteration_limit = MOST_ITERATIONS
    local_namespace_limit = LARGEST_OUTPUT
    block_nesting_limit = 20


def _engine() -> Environment:
    engine = _Liquid()
    engine.tags = {name: tag for name, tag in engine.tags.items() if name in (*TAGS, *_INNER_TAGS)}
    engine.filters = {name: _bounded(name, engine.filters[name]) for name in FILTERS}
    engine.filters["date"] = _date
    return engine


_ENGINE = _engine()


@dataclass(frozen=True, slots=True)
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
    _compiled: BoundTemplate = field(compare=False, repr=False)

    def render(self, values: Mapping[str, Any]) -> Rendered:
        """Return the text; `values` maps variable names to plain values, absent means unknown."""
        nested: dict[str, Any] = {}
        for variable in {mention.variable for mention in self.mentions} | {"now"}:
            _plant(nested, variable.split("."), values.get(variable))
        inputs = {mention.label: _dig(values.get(mention.variable), mention.keys) for mention in self.mentions}
        try:
            return Rendered(storable_text(self._compiled.render(**nested)), "", inputs)
        except (_TooLarge, OutputStreamLimitError, LocalNamespaceLimitError, LoopIterationLimitError):
            return Rendered(None, f"it grows over {LARGEST_OUTPUT:,} characters or {MOST_ITERATIONS:,} loops", inputs)
        except (LiquidError, ArithmeticError, TypeError, ValueError, RecursionError) as error:
            told = str(getattr(error, "message", error)).split("\n")[0][:200]
            return Rendered(None, storable_text(told), inputs)


def is_template(text: str) -> bool:
    """Tell whether a text has Liquid in it."""
    return "{{" in text or "{%" in text


def check(text: str, variables: Mapping[str, str], path: str) -> tuple[Template | None, tuple[Violation, ...]]:
    """Return the template, or everything that is wrong with it; `path` says where it stands."""
    if len(text) > LONGEST_TEXT:
        message = f"the template has {len(text):,} characters; at most {LONGEST_TEXT:,} are allowed"
        return None, (Violation(path, "TEMPLATE_TOO_LONG", message, "Shorten it."),)
    try:
        compiled = _ENGINE.from_string(text)
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
    return Template(text, tuple(mentions.values()), compiled), ()


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


def _plant(tree: dict[str, Any], names: list[str], value: Any) -> None:
    for name in names[:-1]:
        tree = tree.setdefault(name, {})
    tree[names[-1]] = value.isoformat() if isinstance(value, datetime) else value


def _dig(value: Any, keys: tuple[str, ...]) -> Any:
    for key in keys:
        if isinstance(value, list | tuple) and key.lstrip("-").isdigit():
            value = value[int(key)] if -len(value) <= int(key) < len(value) else None
        elif isinstance(value, Mapping):
            value = value.get(key)
        else:
            return None
    return value.isoformat() if isinstance(value, datetime) else value
