"""Values as authors write them: literals, Liquid texts, `{cel: …}` for computed ones, and lists and maps of these."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field
from typing import Any

from core.domain.errors import Violation
from core.domain.frozen import frozen
from core.domain.workflow import templates
from core.domain.workflow.escapes import Escape
from core.domain.workflow.expressions import Environment, Expression
from core.domain.workflow.templates import Template

DEEPEST = 8
CEL_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {"cel": {"type": "string", "description": "A CEL expression; what it comes to is the value."}},
    "required": ["cel"],
    "additionalProperties": False,
}
"""The JSON Schema of a computed value."""


@frozen
class Computed:
    """What a value came to."""

    value: Any
    gaps: tuple[str, ...] = ()
    """Why parts of it are empty, as clauses."""
    errors: tuple[str, ...] = ()
    """Why it could not be computed at all, as clauses."""
    inputs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        """Tell whether it came to nothing for want of what it is made from."""
        return bool(self.gaps) and (self.value is None or self.value == "" or str(self.value).strip() == "")


@frozen
class Value:
    """A checked value."""

    written: Any
    """A literal, a Template, an Expression, or a dict or list of Values."""
    roots: frozenset[str] = field(init=False, compare=False, repr=False)
    """What must be loaded for it: `contact`, `company`, `lists` and the like."""
    _fixed: Computed | None = field(init=False, compare=False, repr=False)
    """What it always comes to, where nothing in it is computed; shared, so nobody may change it."""

    def __post_init__(self) -> None:
        own: Any = self
        parts = _parts(self.written)
        computed = isinstance(self.written, Expression | Template)
        own.roots = self.written.roots if computed else frozenset().union(*(part.roots for part in parts))
        if not computed and all(part._fixed is not None for part in parts):
            own._fixed = self.compute({})

    def compute(self, values: Mapping[str, Any]) -> Computed:
        """Return what it comes to on these values; the value is not to be changed."""
        if self._fixed is not None:
            return self._fixed
        match self.written:
            case Expression():
                result = self.written.evaluate(values)
                if result.broke:
                    return Computed(None, (), (result.unknown,), result.inputs)
                gaps: tuple[str, ...] = (result.unknown,) if result.unknown else ()
                if result.value is None and not gaps:  # null because what it reads is not there
                    gaps = tuple(f"{path} is not known" for path, value in result.inputs.items() if value is None)
                return Computed(result.value, gaps, (), result.inputs)
            case Template():
                rendered = self.written.render(values)
                missing = tuple(f"{path} is not known" for path in rendered.missing)
                return Computed(rendered.text, missing, (rendered.error,) if rendered.error else (), rendered.inputs)
            case dict():
                parts = {key: item.compute(values) for key, item in self.written.items()}
                return _gather({key: part.value for key, part in parts.items()}, parts.values())
            case list():
                items = [item.compute(values) for item in self.written]
                return _gather([item.value for item in items], items)
            case literal:
                return Computed(literal)


def _parts(written: Any) -> Iterable[Value]:
    return written.values() if isinstance(written, dict) else written if isinstance(written, list) else ()


def _gather(value: Any, parts: Iterable[Computed]) -> Computed:
    gaps: dict[str, None] = {}
    errors: dict[str, None] = {}
    inputs: dict[str, Any] = {}
    for part in parts:
        gaps.update(dict.fromkeys(part.gaps))
        errors.update(dict.fromkeys(part.errors))
        inputs.update(part.inputs)
    return Computed(value, tuple(gaps), tuple(errors), inputs)


def check(
    raw: Any, environment: Environment, path: str, depth: int = 0, *, escape: Escape = "none"
) -> tuple[Value | None, tuple[Violation, ...]]:
    """Return the value, or everything that is wrong with it; `path` says where it stands, `escape` how texts escape."""
    if depth > DEEPEST:
        return None, (Violation(path, "TOO_DEEP", f"values are nested deeper than {DEEPEST}", "Flatten them."),)
    match raw:
        case {"cel": text} if len(raw) == 1:
            if not isinstance(text, str):
                hint = "Quote it, such as {cel: 'true'}."
                return None, (Violation(f"{path}.cel", "WRONG_TYPE", "the expression must be text", hint),)
            expression, problems = environment.check(text, path=f"{path}.cel")
            return (Value(expression), ()) if expression else (None, problems)
        case str() if templates.is_template(raw):
            template, problems = templates.check(raw, environment.variables, path, escape=escape)
            return (Value(template), ()) if template else (None, problems)
        case Mapping():
            named = {
                str(key): check(item, environment, f"{path}.{key}", depth + 1, escape=escape)
                for key, item in raw.items()
            }
            return _collect({key: value for key, (value, _) in named.items()}, [found for _, found in named.values()])
        case list():
            items = [
                check(item, environment, f"{path}[{index}]", depth + 1, escape=escape) for index, item in enumerate(raw)
            ]
            return _collect([value for value, _ in items], [found for _, found in items])
        case _:
            return Value(raw), ()


def _collect(written: Any, problems: list[tuple[Violation, ...]]) -> tuple[Value | None, tuple[Violation, ...]]:
    found = tuple(problem for several in problems for problem in several)
    return (None, found) if found else (Value(written), ())
