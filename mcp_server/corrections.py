"""The nearest call that could work: what was given kept where it can be, and never a commit on a guess."""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import islice
from typing import Any

from pydantic import ValidationError

from mcp_server.filter_corrections import of_fields
from mcp_server.identifiers import is_email, place_for, prefix_of, takes_id
from mcp_server.schemas import blank, object_at, placeholder, schema_at
from mcp_server.values import compact, invocation

ALIKE = 0.8
"""How alike two names must be for one to be taken for the other."""

LONGEST = 80
"""Of a name, what is compared and told: comparing takes as long as the names are."""

MENDED = 10
"""Errors that are mended in one call; with more the call is not told anyway."""

LONGEST_CALL = 400
"""Characters of a call that is told whole; of a longer one, how it differs from the one that was made."""

CORRECTED = "{} with the named arguments corrected"

_ROUNDS = 4
"""How often what was mended is looked at again: a name, then its value, then what is in it."""

_ALSO: Mapping[str, tuple[str, ...]] = {
    "status": ("state",), "email": ("message",), "sms": ("message",), "payload": ("input",),
    "data": ("input", "fields"), "vars": ("variables", "input"),
    "values": ("fields",), "properties": ("fields",), "changes": ("fields",), "attributes": ("fields",),
    "updates": ("fields",), "facts": ("fields", "evidence"), "note": ("reason",), "comment": ("reason",),
    "why": ("reason",), "key": ("idempotency_key",), "request_id": ("idempotency_key",), "etag": ("if_version",),
    "revision": ("if_version",), "page_size": ("limit",), "max": ("limit",), "count": ("limit",),
    "page_token": ("cursor",), "page": ("cursor",), "keep": ("kept_id",), "primary": ("kept_id",),
    "merge": ("merged_id",), "duplicate": ("merged_id",), "document": ("source",), "yaml": ("source",),
    "definition": ("source",), "answer": ("output",), "result": ("output",), "hash": ("subject_hash",),
    "handle": ("undo",), "tz": ("timezone",), "zone": ("timezone",), "people": ("contacts",), "leads": ("contacts",),
    "emails": ("contacts",), "contact_ids": ("contacts",), "object": ("type",), "record_type": ("type",),
    "company": ("company_name",), "organization": ("company_name",), "given_name": ("first_name",),
    "surname": ("last_name",), "family_name": ("last_name",), "mobile": ("phone",), "telephone": ("phone",),
    **dict.fromkeys(("q", "search", "text", "term", "name", "keyword", "keywords"), ("query",)),
    "published": ("active",), "open": ("pending",), "error": ("failed",),
}  # fmt: skip
"""What models call arguments and choices, in the words of other programs."""
_GATHERING = ("contacts", "input", "output", "fields")
"""Arguments that hold what many a caller gives beside them."""
_SWITCHES = frozenset({"dryrun", "preview", "validateonly", "confirm", "confirmed", "force", "commit", "apply"})
"""What other programs call the mode; nobody means a field by it."""
_IDENTITY = ("email", "contact_id", "lead_ref", "external_ref")

Validate = Callable[[dict[str, Any]], object]
"""Raises ValidationError for arguments that do not fit."""


def nearest(name: str, known: Collection[str], cutoff: float = ALIKE) -> str:
    """Return the known name that was probably meant; empty when none is near."""
    if not known:
        return ""
    return next(iter(difflib.get_close_matches(name[:LONGEST].lower(), known, n=1, cutoff=cutoff)), "")


def meant(name: str, known: Collection[str], value: Any = None) -> str:
    """Return the known name that was probably meant, also one of another fashion or for such a value; else empty."""
    plain = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name[:LONGEST]).replace("-", "_").lower()
    found = next((one for one in (plain, f"{plain}_id", *_ALSO.get(plain, ())) if one in known), "")
    if not found and len(plain) > 2:
        found = next((one for one in known if sorted(one) == sorted(plain)), "") or nearest(plain, known)
    fits = place_for(value, known)
    if fits and (not found or (takes_id(found) and not place_for(value, [found]))):
        return fits
    return found


def tentative(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments that hold a guess as those of a preview: what was guessed must be seen before it is done."""
    if "mode" not in arguments:
        return dict(arguments)
    return {name: value for name, value in arguments.items() if name != "idempotency_key"} | {"mode": "preview"}


def renamed(given: Mapping[str, Any], tool: str, schema: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return arguments under the names that a tool has, and what became of each other one: its name, or empty."""
    accepted = schema["properties"]
    arguments = copy.deepcopy(dict(given))
    became: dict[str, str] = {}
    for name in [name for name in given if name not in accepted]:
        value = arguments.pop(name)
        near = meant(name, accepted, value) if len(became) < MENDED else ""
        if near:
            arguments.setdefault(near, value)
        elif len(became) < MENDED and tool == "find-records" and (asked := _asked_for(name, value, arguments)):
            arguments["filter"], near = asked, "filter"
        elif len(became) < MENDED:
            near = _gathered(arguments, name, value, schema)
        became[name] = near
    return arguments, became


def _gathered(arguments: dict[str, Any], name: str, value: Any, schema: Mapping[str, Any]) -> str:
    """Put an argument into the object of arguments that it belongs to; return which one, empty where there is none."""
    into = next((one for one in _GATHERING if one in schema["properties"]), "")
    plain = isinstance(value, str | int | float) and re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]{1,60}", name)
    if not into or not plain or name.lower().replace("_", "") in _SWITCHES:
        return ""
    if into == "contacts":
        contact = meant(name, object_at(schema, ["contacts", 0]).get("properties", ()), value)
        there = arguments.setdefault(into, [{}]) if contact else None
        if not isinstance(there, list) or len(there) != 1 or not isinstance(there[0], dict):
            return ""
        there[0].setdefault(contact, value)
        return into
    there = arguments.setdefault(into, {})
    if not isinstance(there, dict):
        return ""
    there.setdefault(name, value)
    return into


def _asked_for(name: str, value: Any, arguments: Mapping[str, Any]) -> str:
    """Return the filter that asks for a field given as an argument; empty where it can be none."""
    asked = of_fields({name: value}) if re.fullmatch(r"[a-z][a-z0-9_.]{1,60}", name) else ""
    there = arguments.get("filter")
    return f"({there}) AND {asked}" if there and asked else asked


def fitting(arguments: Mapping[str, Any], validate: Validate, schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments mended until they fit, as a preview; a place is held open for what nobody can guess."""
    mended = copy.deepcopy(dict(arguments))
    for _ in range(_ROUNDS):
        try:
            validate(mended)
            break
        except ValidationError as error:
            before = copy.deepcopy(mended)
            found = error.errors(include_url=False, include_input=False)
            # A name first: it may be the one that is missing.
            for one in islice(sorted(found, key=lambda one: one["type"] != "extra_forbidden"), MENDED):
                _mend(mended, one, schema)
            if mended == before:
                break
    contacts = mended.get("contacts")
    for contact in contacts if isinstance(contacts, list) else ():
        if isinstance(contact, dict) and not any(contact.get(name) for name in _IDENTITY):
            contact["email"] = placeholder("email")
    return tentative(mended)


def _mend(arguments: dict[str, Any], error: Mapping[str, Any], schema: Mapping[str, Any]) -> None:
    path = list(error["loc"])
    parent, depth = _deepest(arguments, path)
    name = path[depth]
    here = schema_at(schema, path[: depth + 1])
    if error["type"] == "extra_forbidden" and depth == len(path) - 1:
        _rename(parent, str(name), object_at(schema, path[:depth]))
    elif error["type"] == "missing" and isinstance(parent, dict):
        parent.setdefault(name, blank(str(name), here))
    elif isinstance(name, int) or name in object_at(schema, path[:depth]).get("required", ()):
        parent[name] = _instead(error, parent[name], here, path, needed=True)
    else:
        value = _instead(error, parent.get(name), here, path, needed=False)
        if value is None:
            parent.pop(name, None)
        else:
            parent[name] = value


def _deepest(arguments: dict[str, Any], path: list[Any]) -> tuple[Any, int]:
    """Return the object or list that holds the value at a path, or as far along it as there is one, and how far."""
    parent: Any = arguments
    for depth, part in enumerate(path[:-1]):
        try:
            inner = parent[part]
        except (KeyError, IndexError, TypeError):
            return parent, depth
        if not isinstance(inner, dict if isinstance(path[depth + 1], str) else list):
            return parent, depth
        parent = inner
    if isinstance(parent, dict) and isinstance(path[-1], str) and path[-1] not in parent and len(path) > 1:
        return parent, len(path) - 1
    return parent, len(path) - 1


def _rename(parent: dict[str, Any], name: str, here: Mapping[str, Any]) -> None:
    known = here.get("properties", {})
    value = parent.pop(name, None)
    if name == "name" and "first_name" in known and isinstance(value, str):
        first, _, last = value.strip().partition(" ")
        for part, said in (("first_name", first), ("last_name", last.strip())):
            if said:
                parent.setdefault(part, said)
    elif near := meant(name, known, value):
        parent.setdefault(near, value)


def _instead(error: Mapping[str, Any], value: Any, here: Mapping[str, Any], path: list[Any], *, needed: bool) -> Any:
    """Return what fits instead of a value; None for nothing, where it need not be given and nobody can guess it."""
    name = next(str(part) for part in reversed(path) if isinstance(part, str))
    found = _mended_value(error, value, here, name, inside=len(path) > 1)
    if found is not None:
        return found
    if name == "mode":
        return "preview"
    if needed or here.get("type", "string") == "string":
        if isinstance(path[-1], int):
            several = placeholder(name)
            return several[0] if isinstance(several, list) and "properties" in here else blank(f"one of {name}", here)
        return blank(name, here)
    return None


def _mended_value(error: Mapping[str, Any], value: Any, here: Mapping[str, Any], name: str, *, inside: bool) -> Any:
    """Return what a value was meant to be; None where nobody can tell."""
    match error["type"]:
        case "literal_error":
            return _choice(str(value), re.findall(r"'([^']+)'", error["ctx"]["expected"]))
        case "less_than_equal":
            return error["ctx"]["le"]
        case "greater_than_equal":
            return error["ctx"]["ge"]
        case "too_long" if isinstance(value, list):
            return value[: error["ctx"]["max_length"]]
        case "list_type":
            return _listed(value, here.get("items", {}))
        case "string_type":
            return _text(value, name, inside=inside)
        case "int_type" | "int_parsing" | "float_type" | "float_parsing":
            number = re.match(r"\s*(\d{1,9}(?:\.\d+)?)", value) if isinstance(value, str) else None
            return (int if error["type"].startswith("int") else float)(float(number[1])) if number else None
        case "dict_type" | "model_type" | "model_attributes_type":
            return _object(value, here)
        case _:
            return None


def _choice(value: str, choices: list[str]) -> str | None:
    plain = value.strip().lower()
    known = next((one for one in _ALSO.get(plain, ()) if one in choices), "")
    return known or nearest(plain, choices) or None


def _listed(value: Any, items: Mapping[str, Any]) -> list[Any] | None:
    """Return a value that stands alone as a list, and a text of several addresses or ids as several."""
    if isinstance(value, str):
        parts = [part for part in re.split(r"[\s,;]+", value) if part]
        return parts if parts and all(is_email(part) or prefix_of(part) for part in parts) else None
    return [value] if isinstance(value, dict) and value and "$ref" in items else None


def _text(value: Any, name: str, *, inside: bool) -> str | None:
    if isinstance(value, list) and len(value) == 1 and (is_email(value[0]) or prefix_of(value[0])):
        return str(value[0])
    if isinstance(value, dict) and name == "filter":
        return of_fields(value) or None
    if isinstance(value, str):
        return value
    if not inside or name == "email" or takes_id(name):  # a number that a person has, such as that of a phone
        return None
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _object(value: Any, here: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the object that a text stands for: a contact by its address or id, else the one thing that is required."""
    if not isinstance(value, str):
        return None
    if place := place_for(value, here.get("properties", {}) or ("email", "contact_id")):
        return {place: value.strip()}
    required = here.get("required", ())
    return {required[0]: value} if len(required) == 1 else None


def told(tool: str, arguments: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """Return a call as text; of a long one, how it differs from the one that was made."""
    call = invocation(tool, **arguments)
    if len(call) <= LONGEST_CALL:
        return call
    gone, cut, now = list[str](), "", dict[str, Any]()
    for path, is_there, value in _differences(given, arguments, ""):
        if not is_there:
            gone.append(path)
        elif isinstance(value, list) and value == _list_at(given, path)[: len(value)]:
            cut += f", with only the first {len(value)} of {compact(path)}"
        else:
            now[path] = value
    if key := arguments.get("idempotency_key"):
        now["idempotency_key"] = key
    without = f", without {', '.join(map(compact, gone))}" if gone else ""
    difference = without + cut + (f", with {compact(now)[1:-1]}" if now else "")
    if len(difference) > LONGEST_CALL:
        return CORRECTED.format(tool)
    return f"the same {tool} call again{difference or ', unchanged'}"


def _list_at(arguments: Mapping[str, Any], name: str) -> list[Any]:
    there = arguments.get(name)
    return there if isinstance(there, list) else []


def _differences(was: Any, now: Any, path: str) -> Iterator[tuple[str, bool, Any]]:
    """Yield each path at which two JSON values differ, whether there is a value now, and the value."""
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        for name in [*was, *(name for name in now if name not in was)]:
            inner = f"{path}.{name}" if path else str(name)
            if name not in now:
                yield inner, False, None
            elif name not in was:
                yield inner, True, now[name]
            else:
                yield from _differences(was[name], now[name], inner)
    elif isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        for number, (one, other) in enumerate(zip(was, now, strict=True)):
            yield from _differences(one, other, f"{path}[{number}]")
    elif was != now or type(was) is not type(now):
        yield path, True, now
