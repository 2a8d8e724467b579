"""Texts with Liquid in them: parsed and checked when a workflow is published, rendered on plain values, within limits.

A template reads nothing but the values it is given: no files, no clock, no other template.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from core.domain.errors import Violation
from core.domain.frozen import frozen
from core.domain.workflow.escapes import Escape
from core.domain.workflow.expression_text import Mention, roots
from core.domain.workflow.storable import storable_text

if TYPE_CHECKING:
    from core.domain.workflow.template_reading import Compiled

LONGEST_TEXT = 16_384

_CONTROL = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029]")


@frozen
class Rendered:
    """What a template came to."""

    text: str | None
    """None when it could not be rendered."""
    error: str = ""
    """Why it could not, as a clause."""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    """Each value it looked at, by path; None where it was not known."""
    missing: tuple[str, ...] = ()
    """The paths that were not known and should have been written: the text has a gap there, and no default."""


@frozen
class Template:
    """A checked template."""

    text: str
    mentions: tuple[Mention, ...]
    escape: Escape = "none"
    _compiled: Compiled | None = field(default=None, compare=False, repr=False)
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
            joined = self._compiled.join(self._parts, inputs)
            if joined is not None:
                return Rendered(storable_text(joined), "", inputs, _unknown(inputs, inputs))
        nested: dict[str, Any] = {}
        for variable, names in self._reads:
            _plant(nested, names, given[variable])
        text, error, empty = self._compiled.render(nested)
        gaps = _unknown(empty, inputs)
        return Rendered(None if text is None else storable_text(text), storable_text(error), inputs, gaps)

    def render_line(self, values: Mapping[str, Any]) -> Rendered:
        """Return the text as one line, such as a subject, which must not smuggle in another header."""
        rendered = self.render(values)
        return rendered if rendered.text is None else replace(rendered, text=one_line(rendered.text))


def _unknown(paths: Iterable[str], inputs: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the paths whose value is not known; an empty text is one that somebody gave."""
    return tuple([path for path in paths if inputs.get(path) is None])


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
    if not is_template(text):
        return Template(text, (), escape), ()
    from core.domain.workflow import template_reading  # slow to load: see core.loading

    found, problems = template_reading.read(text, variables, path, escape)
    if found is None:
        return None, problems
    reads = tuple((variable, tuple(variable.split("."))) for variable in found.reads)
    return Template(text, found.mentions, escape, found.compiled, reads, found.parts), ()


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
