"""Calls that are wrong in one way each, made from a tool's schema and a good call of it."""

from __future__ import annotations

import copy
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

_WRONG: dict[str, Any] = {
    "string": "several words",
    "integer": 7,
    "boolean": True,
    "object": {"some": "thing"},
    "array": ["one"],
    "null": None,
}
_READ_AS = {"integer": {"boolean"}, "boolean": {"integer"}}
"""What is meant is plain, so it is taken: true for 1, and 1 for true."""


@dataclass(frozen=True, slots=True)
class Mutation:
    """One wrong call."""

    tool: str
    argument: str
    how: str
    """The way in which it is wrong."""
    arguments: Mapping[str, Any]
    meant: bool = False
    """Whether the error can know what was meant, so that the call it suggests needs nothing filled in."""

    def __str__(self) -> str:
        return f"{self.tool}, {self.argument} {self.how}"

    def at_length(self) -> Mutation:
        """Return the same mistake in a call that is too long to be told whole."""
        return replace(self, how=f"{self.how}, in a long call", arguments={**self.arguments, "reason": "so " * 160})


def mutations(
    tool: str,
    schema: Mapping[str, Any],
    good: Mapping[str, Any],
    ids: Mapping[str, str],
    met: set[str],
    items: Mapping[str, Any],
) -> Iterator[Mutation]:
    """Yield wrong calls of a tool: each argument in each way, of the variants of a way one in turn.

    `ids` are ids that exist, by their prefix. `met` collects arguments such as `reason`, that many tools take alike:
    they are wrong for the first one alone. `items` are what lists may hold.
    """
    turn = itertools.count(len(tool))
    for name, told in schema["properties"].items():
        if (like := f"{name} {told}") in met and name not in good:
            continue
        met.add(like)
        full = {**good, name: good.get(name, _sample(told))}
        ways = list(misspellings(name, schema["properties"]))
        for wrong in {ways[next(turn) % len(ways)]}:
            misspelt = {wrong if key == name else key: value for key, value in full.items()}
            yield Mutation(tool, name, f"spelt {wrong}", misspelt, meant=True)
        others = [
            value for kind, value in _WRONG.items() if kind not in {told["type"], *_READ_AS.get(told["type"], ())}
        ]
        value = others[next(turn) % len(others)]
        yield Mutation(tool, name, f"of the type {type(value).__name__}", {**good, name: value})
        for value in _out_of_range(told, items.get(name, "x")):
            yield Mutation(
                tool,
                name,
                "out of range",
                {**good, name: value},
                meant=isinstance(value, int) or (len(value) > 1 and isinstance(value, list)),
            )
        if choices := told.get("enum"):
            choice = choices[next(turn) % len(choices)]
            near = (choice.upper(), choice[:-1])[next(turn) % 2]
            yield Mutation(tool, name, f"nearly {choice}", {**good, name: near}, meant=True)
        if name in schema.get("required", ()):
            yield Mutation(tool, name, "missing", {key: value for key, value in good.items() if key != name})
        if isinstance(one := good.get(name), str) and (prefix := one.partition("_")[0]) in ids:
            # A contact stands for its newest lead, and any of both is a record.
            alike = {"cnt", "lead"} if prefix in ("cnt", "lead") else {prefix}
            elsewhere = [value for key, value in ids.items() if key not in alike]
            yield Mutation(tool, name, "an id of another kind", {**good, name: elsewhere[next(turn) % len(elsewhere)]})
            yield Mutation(tool, name, "an id of nothing", {**good, name: f"{prefix}_{'0' * 26}"})


def inside(tool: str, good: Mapping[str, Any]) -> Iterator[Mutation]:
    """Yield a good call with one key in its objects spelt wrong, and the same with the object's own name wrong too."""
    turn = itertools.count(len(tool))
    for name, value in good.items():
        for number, key in enumerate(_keys(value)):
            ways = [one for one in misspellings(key, {}) if one != key]
            wrong = ways[next(turn) % len(ways)]
            respelt = _respelt(value, key, wrong)
            yield Mutation(tool, f"{name}.{key}", f"spelt {wrong}", {**good, name: respelt}, meant=True)
            if number == 0:
                outer = next(one for one in misspellings(name, good) if one != name)
                both = {outer if one == name else one: respelt if one == name else other for one, other in good.items()}
                yield Mutation(tool, f"{name}.{key}", f"spelt {wrong} in {outer}", both, meant=True)


def _keys(value: Any) -> list[str]:
    if isinstance(value, list):
        return [key for item in value[:1] for key in _keys(item)]
    return list(value) if isinstance(value, dict) else []


def _respelt(value: Any, key: str, wrong: str) -> Any:
    if isinstance(value, list):
        return [_respelt(item, key, wrong) for item in value]
    return {wrong if name == key else name: inner for name, inner in value.items()}


_SAME = re.compile(
    r'the same ([a-z-]+) call again(?:, without ((?:"[^"]+"(?:, )?)+?))?'
    r'(?:, with only the first (\d+) of "(\w+)")?(?:, with (".*))?(?:, unchanged)?',
    re.S,
)


def suggested(following: str, given: Mapping[str, Any], tools: str) -> tuple[str, dict[str, Any]] | None:
    """Return the call that an error suggests, whole or by how it differs from the one that was made."""
    if found := re.search(rf"(?<![\w-])({tools}) (\{{.*\}})", following, re.S):
        return found[1], json.loads(found[2])
    if (same := _SAME.fullmatch(following)) is None:
        return None
    arguments = copy.deepcopy(dict(given))
    for path in json.loads(f"[{same[2] or ''}]"):
        parent, key = _parent(arguments, path)
        del parent[key]
    if same[4]:
        arguments[same[4]] = arguments[same[4]][: int(same[3])]
    for path, value in json.loads(f"{{{same[5] or ''}}}").items():
        parent, key = _parent(arguments, path)
        parent[key] = value
    return same[1], arguments


def _parent(arguments: Any, path: str) -> tuple[Any, Any]:
    *way, last = [int(number) if number else name for number, name in re.findall(r"\[(\d+)\]|([^.\[\]]+)", path)]
    for part in way:
        arguments = arguments[part]
    return arguments, last


def misspellings(name: str, known: Mapping[str, Any]) -> Iterator[str]:
    """Yield how models get a name wrong: a letter less, two exchanged, another fashion, the end forgotten."""
    middle = len(name) // 2
    head, *rest = name.split("_")
    wrong = [
        name[:middle] + name[middle + 1 :],
        name[: middle - 1] + name[middle - 1 : middle + 1][::-1] + name[middle + 1 :],
        head + "".join(part.title() for part in rest),
        name.replace("_", "-"),
        name.removesuffix("_id"),
    ]
    yield from (one for one in wrong if one not in known)


def _out_of_range(told: Mapping[str, Any], item: Any) -> Iterator[Any]:
    if "minimum" in told:
        yield told["minimum"] - 1
    if "maximum" in told:
        yield told["maximum"] + 1
    if told.get("maxLength", 10_000) < 1_000:
        yield "x" * (told["maxLength"] + 1)
    if told.get("minLength"):
        yield ""
    if told.get("maxItems", 10_000) <= 100:
        yield [item] * (told["maxItems"] + 1)
    if told.get("minItems"):
        yield []


def _sample(told: Mapping[str, Any]) -> Any:
    plain = {"integer": told.get("minimum", 0), "boolean": False, "array": [], "object": {}}
    return told.get("default", plain.get(told["type"], told.get("enum", [""])[0]))
