"""What somebody who decides is shown of a request: every field by its path, long values cut one by one.

Nothing is left out for being long: else a note of 21 kB would hide the change of an owner beside it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

LARGEST = 20_000
"""Characters of what is shown whole."""
MOST_PATHS = 500

_CUTS = ((1_000, 50), (200, 20), (40, 5), (0, 1))
"""Characters of a text and items of a list that are shown, the first that is not too much in all."""
_LONGEST_PATH = 120


def shown(value: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return a request with long values cut, and every path in it; no paths where nothing is cut."""
    if _size(value) <= LARGEST:
        return dict(value), []
    cut: dict[str, Any] = {}
    for characters, items in _CUTS:
        cut = {key: _cut(inner, characters, items) for key, inner in value.items()}
        if _size(cut) <= LARGEST:
            break
    else:
        cut = {}
    return cut, _told(Counter(path for path, _ in _leaves(value)))


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Return each path at which two documents differ with its value in both; steps stand under their ids."""
    was, becomes = dict(_leaves(before, ids=True)), dict(_leaves(after, ids=True))
    paths = [path for path in dict.fromkeys([*was, *becomes]) if was.get(path) != becomes.get(path)]
    shown_ones = paths[:MOST_PATHS]
    found = {path: {"old": _short(was.get(path)), "new": _short(becomes.get(path))} for path in shown_ones}
    if len(paths) > len(shown_ones):
        found["(more)"] = {"old": "", "new": f"{len(paths) - len(shown_ones):,} other values change, too"}
    return found


def _told(paths: Counter[str]) -> list[str]:
    told = [
        f"{path[:_LONGEST_PATH]} ({count:,} times)" if count > 1 else path[:_LONGEST_PATH]
        for path, count in list(paths.items())[:MOST_PATHS]
    ]
    return [*told, f"and {len(paths) - MOST_PATHS:,} others"] if len(paths) > MOST_PATHS else told


def _size(value: object) -> int:
    return len(json.dumps(value, ensure_ascii=False, default=str))


def _short(value: object) -> object:
    return _cut(value, 200, 20)


def _cut(value: Any, characters: int, items: int) -> Any:
    match value:
        case str() if len(value) > characters + 40:
            return f"{value[:characters]}… ({len(value):,} characters in all)"
        case Mapping():
            return {key: _cut(inner, characters, items) for key, inner in value.items()}
        case Sequence() if not isinstance(value, str):
            some = [_cut(inner, characters, items) for inner in value[:items]]
            return [*some, f"… ({len(value):,} items in all)"] if len(value) > items else some
    return value


def _leaves(value: Any, path: str = "", *, ids: bool = False) -> Iterator[tuple[str, Any]]:
    """Yield each value with its path; items of lists together, or with `ids` each under its own."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else str(key), ids=ids)
    elif isinstance(value, Sequence) and not isinstance(value, str) and value:
        names = [_name(inner, place) if ids else "" for place, inner in enumerate(value)]
        if ids:
            yield path, names  # their order is a value, too
        for name, inner in zip(names, value, strict=True):
            yield from _leaves(inner, f"{path}[{name}]", ids=ids)
    else:
        yield path, value


def _name(value: Any, place: int) -> str:
    named = value.get("id") if isinstance(value, Mapping) else None
    return named if isinstance(named, str) else str(place)
