"""The nearest call that could work: placeholders where a value is missing, and never a commit on a guess."""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Collection, Iterable, Mapping
from itertools import islice
from typing import Any

ALIKE = 0.8
"""How alike two names must be for one to be taken for the other."""

LONGEST = 80
"""Of a name, what is compared and told: comparing takes as long as the names are."""

MENDED = 10
"""Errors that are mended in one call; with more the call is not told anyway."""

_PLACEHOLDERS: dict[str, Any] = {
    "email": "<e-mail>",
    "contacts": [{"email": "<e-mail>"}],
    "input": {"email": "<e-mail>"},
    "fields": {"<field>": "<value>"},
    "output": {"<field>": "<value>"},
}
_LEFT_OUT = object()
"""Instead of a value that nobody can guess where the argument need not be given."""


def nearest(name: str, known: Collection[str], cutoff: float = ALIKE) -> str:
    """Return the known name that was probably meant; empty when none is near."""
    if not known:
        return ""
    return next(iter(difflib.get_close_matches(name[:LONGEST].lower(), known, n=1, cutoff=cutoff)), "")


def meant(name: str, known: Collection[str]) -> str:
    """Return the known argument that was probably meant, also when it is written in another fashion; else empty."""
    plain = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name[:LONGEST]).replace("-", "_").lower()
    return next((one for one in (plain, f"{plain}_id") if one in known), "") or nearest(plain, known)


def placeholder(argument: str) -> Any:
    """Return what stands for a value that only the caller can know."""
    return copy.deepcopy(_PLACEHOLDERS.get(argument, f"<{argument}>"))


def tentative(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments that hold a guess as those of a preview: what was guessed must be seen before it is done."""
    if "mode" not in arguments:
        return dict(arguments)
    return {name: value for name, value in arguments.items() if name != "idempotency_key"} | {"mode": "preview"}


def completed(arguments: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments as a preview, with placeholders for what the schema requires and nobody gave."""
    missing = [name for name in schema.get("required", ()) if name not in arguments]
    return tentative({**arguments, **{name: _blank(name, schema["properties"][name]) for name in missing}})


def corrected(
    given: Mapping[str, Any],
    errors: Iterable[Mapping[str, Any]],
    schema: Mapping[str, Any],
    names: Collection[str] = (),
) -> dict[str, Any]:
    """Return arguments with the first errors that the schema finds mended, as a preview.

    `names` are the field names known inside the arguments.
    """
    arguments = copy.deepcopy(dict(given))
    for error in islice(errors, MENDED):
        path = list(error["loc"])
        parent = _parent(arguments, path)
        if parent is None:
            arguments[str(path[0])] = placeholder(str(path[0]))
        elif error["type"] == "extra_forbidden":
            _rename(parent, str(path[-1]), names)
            if not parent and path[0] == "contacts" and len(path) == 3:
                parent["email"] = placeholder("email")
        else:
            parent[path[-1]] = _instead(error, path, parent, schema)
    return tentative({name: value for name, value in arguments.items() if value is not _LEFT_OUT})


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


def _instead(error: Mapping[str, Any], path: list[Any], parent: Any, schema: Mapping[str, Any]) -> Any:
    match error["type"]:
        case "literal_error":
            choices: list[str] = re.findall(r"'([^']+)'", error["ctx"]["expected"])
            near = nearest(str(parent.get(path[-1])), choices)
            return near or (_open(path, schema) if len(path) == 1 else _one_of(choices))
        case "less_than_equal":
            return error["ctx"]["le"]
        case "greater_than_equal":
            return error["ctx"]["ge"]
    if isinstance(path[-1], int):  # an item of a list
        items = placeholder(str(path[-2]))
        return items[0] if isinstance(items, list) else items
    return _open(path, schema) if len(path) == 1 else placeholder(path[-1])


def _open(path: list[Any], schema: Mapping[str, Any]) -> Any:
    """Return what stands for an argument whose value is no use: nothing, where it is neither needed nor a text."""
    name = path[0]
    told = schema["properties"].get(name, {})
    if name == "mode":
        return "preview"
    if name in schema.get("required", ()):
        return _blank(name, told)
    if "enum" in told or told.get("type", "string") != "string":
        return _LEFT_OUT
    return placeholder(name)


def _blank(name: str, told: Mapping[str, Any]) -> Any:
    return _one_of(told["enum"]) if "enum" in told else placeholder(name)


def _one_of(choices: Iterable[str]) -> str:
    return f"<{'|'.join(choices)}>"
