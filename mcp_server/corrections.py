"""The nearest call that could work: placeholders where a value is missing, and never a commit on a guess."""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

ALIKE = 0.8
"""How alike two names must be for one to be taken for the other."""

_PLACEHOLDERS: dict[str, Any] = {
    "email": "<e-mail>",
    "contacts": [{"email": "<e-mail>"}],
    "input": {"email": "<e-mail>"},
    "fields": {"<field>": "<value>"},
}


def nearest(name: str, known: Collection[str], cutoff: float = ALIKE) -> str:
    """Return the known name that was probably meant; empty when none is near."""
    return next(iter(difflib.get_close_matches(name.lower(), known, n=1, cutoff=cutoff)), "")


def placeholder(argument: str) -> Any:
    """Return what stands for a value that only the caller can know."""
    return copy.deepcopy(_PLACEHOLDERS.get(argument, f"<{argument}>"))


def tentative(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments that hold a guess as those of a preview: what was guessed must be seen before it is done."""
    kept = {name: value for name, value in arguments.items() if name != "idempotency_key"}
    return kept | ({"mode": "preview"} if "mode" in kept else {})


def completed(arguments: Mapping[str, Any], required: Iterable[str]) -> dict[str, Any]:
    """Return arguments as a preview, with placeholders for the required ones that are missing."""
    return tentative({**arguments, **{name: placeholder(name) for name in required if name not in arguments}})


def corrected(
    given: Mapping[str, Any], errors: Iterable[Mapping[str, Any]], names: Collection[str] = ()
) -> dict[str, Any]:
    """Return arguments with every error of the schema mended, as a preview.

    `names` are the field names known inside the arguments.
    """
    arguments = copy.deepcopy(dict(given))
    for error in errors:
        path = list(error["loc"])
        parent = _parent(arguments, path)
        if parent is None:
            arguments[str(path[0])] = placeholder(str(path[0]))
        elif error["type"] == "extra_forbidden":
            _rename(parent, str(path[-1]), names)
            if not parent and path[0] == "contacts" and len(path) == 3:
                parent["email"] = placeholder("email")
        else:
            parent[path[-1]] = _instead(error, path, parent)
    return tentative(arguments)


def _parent(arguments: dict[str, Any], path: list[Any]) -> Any:
    """Return the object or list that holds the value at a path; None where the path leads nowhere."""
    parent: Any = arguments
    for part in path[:-1]:
        try:
            parent = parent[part]
        except (KeyError, IndexError, TypeError):
            return None
    return parent if isinstance(parent, dict if isinstance(path[-1], str) else list) else None


def _rename(parent: dict[str, Any], name: str, names: Collection[str]) -> None:
    value, near = parent.pop(name, None), nearest(name, names)
    if near:
        parent.setdefault(near, value)


def _instead(error: Mapping[str, Any], path: list[Any], parent: Any) -> Any:
    match error["type"]:
        case "literal_error":
            choices: list[str] = re.findall(r"'([^']+)'", error["ctx"]["expected"])
            return nearest(str(parent.get(path[-1])), choices) or f"<{'|'.join(choices)}>"
        case "less_than_equal":
            return error["ctx"]["le"]
        case "greater_than_equal":
            return error["ctx"]["ge"]
    if isinstance(path[-1], int):  # an item of a list
        items = placeholder(str(path[-2]))
        return items[0] if isinstance(items, list) else items
    return placeholder(path[-1])
