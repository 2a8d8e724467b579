"""The check that every write of a record passes: which fields there are, and in which form values are stored.

A record's fields are one flat mapping of standard fields plus the object `custom`, which is the organization's own.
Everything that changes a record speaks of dotted paths: `tier`, `custom.plan`. Without a schema, the organization is
taken to have defined nothing: what is written is checked once more against its own where it is stored.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from core.domain.articles import with_article
from core.domain.errors import Violation
from core.domain.nearest import Hint, did_you_mean, meant
from core.domain.records import definitions, values
from core.domain.records.import_columns import by_name
from core.domain.records.schema import STANDARD, Schema, TypeSchema
from core.domain.records.standard import CLOSED_LEAD_STATUSES as CLOSED_LEAD_STATUSES
from core.domain.records.standard import DECISIONS as DECISIONS
from core.domain.records.standard import LEAD_STATUSES as LEAD_STATUSES
from core.domain.records.standard import RECORD_TYPES as RECORD_TYPES
from core.domain.records.standard import STANDARD_FIELDS as STANDARD_FIELDS
from core.domain.records.standard import Field as Field
from core.domain.records.values import BadValue

MOST_CUSTOM_FIELDS = 200
DEEPEST_CUSTOM = 3
LONGEST_CUSTOM_TEXT = 8192
MOST_LIST_ITEMS = 100
_CUSTOM_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")


def check_path(record_type: str, path: str, field_path: str, schema: Schema = STANDARD) -> Violation | None:
    """Return what is wrong with the path of a field, or None; `field_path` is where the caller wrote it."""
    of = schema.of(record_type)
    head, _, rest = path.partition(".")
    if head == "custom" and rest:
        return _check_custom_path(of, rest, field_path)
    if not rest and path in of.standard:
        return None
    named = [*of.standard, *(one.path for one in of.live), "custom"]
    hint = f"Put your own fields under custom, such as custom.{_as_key(path)}."
    message = f"{with_article(record_type)} has no field `{path[:80]}`"
    synonym = by_name(record_type, path, named)
    way_out = meant(synonym, hint) if synonym in named else did_you_mean(path, named, hint)
    return Violation(field_path, "UNKNOWN_FIELD", message, way_out)


def _check_custom_path(of: TypeSchema, below: str, field_path: str) -> Violation | None:
    keys = below.split(".")
    bad = next((key for key in keys if not _CUSTOM_KEY.fullmatch(key)), None)
    if bad is not None:
        return _bad_key(field_path, bad)
    if len(keys) > DEEPEST_CUSTOM:
        return _too_deep(field_path)
    if keys[0] in of.custom:
        if len(keys) > 1:
            message = f"custom.{keys[0]} is one value, not an object"
            return Violation(field_path, "WRONG_TYPE", message, f"Set custom.{keys[0]} itself.")
        return None
    if of.own:
        names = [one.path for one in of.live]
        message = f"{with_article(of.name)} has no field `custom.{keys[0]}`"
        hint = did_you_mean(f"custom.{keys[0]}", names, "Define it first with DefineField.")
        return Violation(field_path, "UNKNOWN_FIELD", message, hint)
    return None


def validate_fields(
    record_type: str, fields: Mapping[str, Any], path_prefix: str = "fields", schema: Schema = STANDARD
) -> tuple[dict[str, Any], list[Violation]]:
    """Return the fields as dotted paths to values in their stored form, and everything that is wrong with them.

    Own fields may come nested (`{"custom": {"plan": "pro"}}`) or dotted (`{"custom.plan": "pro"}`). None removes.
    """
    accepted: dict[str, Any] = {}
    violations: list[Violation] = []
    known = schema.of(record_type).standard
    for name, value in sorted(fields.items()):  # the contract's maps have no order
        if name in known and known[name].writable:
            try:
                accepted[name] = None if value is None else _stored(known[name], name, value)
            except BadValue as bad:
                violations.append(_unfit(path_prefix, name, bad))
            continue
        if name == "custom" and not isinstance(value, Mapping):
            if value is None:
                accepted[name] = None
            else:
                at = _at(path_prefix, "custom")
                violations.append(Violation(at, "WRONG_TYPE", "must be an object", 'Send it like {"plan": "pro"}.'))
            continue
        for path, leaf in _leaves(name, value):
            at = _at(path_prefix, path)
            problem = check_path(record_type, path, at, schema) or _check_writable(known, path, at)
            if problem is None:
                try:
                    accepted[path] = normalise(record_type, path, leaf, schema)
                except BadValue as bad:
                    problem = _unfit(path_prefix, path, bad)
            if problem is not None:
                violations.append(problem)
    if len(accepted) > MOST_CUSTOM_FIELDS < sum(path.startswith("custom.") for path in accepted):
        at = _at(path_prefix, "custom")
        violations.append(
            Violation(at, "TOO_MANY_FIELDS", f"has more than {MOST_CUSTOM_FIELDS} fields", "Leave some out.")
        )
    return accepted, violations


def fit_custom(
    record_type: str, patch: Mapping[str, Any], path_prefix: str, schema: Schema, *, cleared: bool = True
) -> tuple[dict[str, Any], list[Violation]]:
    """Return a patch of dotted paths with its own fields as they are stored, and what is wrong with those.

    With `cleared`, a field that every new record must have cannot be taken away. What is in order stays as it is.
    """
    of = schema.of(record_type)
    fitted = dict(patch)
    violations = []
    for path, value in patch.items():
        if not path.startswith("custom."):
            if path == "custom" and value is None and cleared:
                violations += [_needed(of, one.path, path_prefix) for one in of.live if one.required]
            continue
        problem = _check_custom_path(of, path[len("custom.") :], _at(path_prefix, path)) if value is not None else None
        definition = of.definition(path)
        if problem is None and definition is not None and path == definition.path:
            try:
                fitted[path] = definitions.read(definition, value)
            except BadValue as bad:
                problem = _unfit(path_prefix, path, bad)
            else:
                if cleared and definition.required and fitted[path] is None and not definition.archived:
                    problem = _needed(of, path, path_prefix)
        if problem is not None:
            violations.append(problem)
            del fitted[path]
    return fitted, violations


def missing_fields(
    record_type: str, fields: Mapping[str, Any], path_prefix: str = "fields", schema: Schema = STANDARD
) -> list[Violation]:
    """Return a violation for each field that a new record must have and these lack."""
    of = schema.of(record_type)
    standard = [(one.name, one.description) for one in of.standard.values() if one.required]
    own = [(one.path, one.description) for one in of.live if one.required]
    return [
        Violation(_at(path_prefix, path), "REQUIRED", f"a new {record_type} needs it", description)
        for path, description in standard + own
        if fields.get(path) is None
    ]


def normalise(record_type: str, path: str, value: Any, schema: Schema = STANDARD) -> Any:
    """Return one value as it is stored; empty text and null are None, which removes the field.

    Raises BadValue.
    """
    if value is None:
        return None
    if path.startswith("custom."):
        definition = schema.of(record_type).definition(path)
        return _custom_value(value) if definition is None else definitions.read(definition, value)
    return _stored(schema.of(record_type).standard[path], path, value)


def _stored(field: Field, path: str, value: Any) -> Any:
    if isinstance(value, str) and not value.strip():
        return None
    stored = (values.BY_NAME.get(path) or values.BY_KIND[field.kind])(value)
    if isinstance(stored, str) and len(stored) > field.max_length:
        raise BadValue("TOO_LONG", f"has {len(stored)} characters, at most {field.max_length} are accepted")
    if field.choices and stored not in field.choices:
        hint = did_you_mean(str(stored), field.choices, f"Use one of {', '.join(field.choices)}.")
        raise BadValue("UNKNOWN_VALUE", "is not one of its values", hint)
    if field.prefix and not str(stored).startswith(f"{field.prefix}_"):
        raise BadValue("NOT_A_REFERENCE", f"is not the id of a {field.prefix}_…", field.description)
    return stored


def _at(path_prefix: str, path: str) -> str:
    return f"{path_prefix}.{path}" if path_prefix else path


def _unfit(path_prefix: str, path: str, bad: BadValue) -> Violation:
    return Violation(_at(path_prefix, path), bad.reason, bad.message, bad.hint)


def _needed(of: TypeSchema, path: str, path_prefix: str) -> Violation:
    return Violation(_at(path_prefix, path), "REQUIRED", f"{with_article(of.name)} cannot be without it")


def _leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    nested = isinstance(value, Mapping) and (path == "custom" or path.startswith("custom."))
    if not nested:
        yield path, value
    elif path.count(".") > DEEPEST_CUSTOM:
        yield path, None  # its depth is refused, whatever is in it
    else:
        for key, item in sorted(value.items(), key=lambda pair: str(pair[0])):
            yield from _leaves(f"{path}.{key}", item)


def _custom_value(value: Any) -> Any:
    match value:
        case bool() | int():
            return values.integer(value) if not isinstance(value, bool) else value
        case float():
            return values.number(value)
        case str():
            if len(value) > LONGEST_CUSTOM_TEXT:
                raise BadValue("TOO_LONG", f"has more than {LONGEST_CUSTOM_TEXT} characters")
            return values.string(value)
        case list() | tuple():
            if len(value) > MOST_LIST_ITEMS:
                raise BadValue("TOO_MANY_ITEMS", f"has {len(value)} items, at most {MOST_LIST_ITEMS} are accepted")
            if any(item is None or isinstance(item, list | tuple | Mapping) for item in value):
                raise BadValue("NESTED_LIST", "may only list texts, numbers, true and false", "Use several fields.")
            return [_custom_value(item) for item in value]
    raise BadValue("WRONG_TYPE", "is not a JSON value", "Send text, a number, true, false or a list of them.")


def _check_writable(known: Mapping[str, Field], path: str, at: str) -> Violation | None:
    field = known.get(path)
    if field is None or field.writable:
        return None
    if field.name in ("probability", "status"):
        return Violation(at, "READ_ONLY_FIELD", "follows the stage", "Leave it out; set stage_id.")
    return Violation(at, "READ_ONLY_FIELD", "is set by qualification alone", "Leave it out; call QualifyLead.")


def _bad_key(at: str, key: str) -> Violation:
    message = f"`{key[:80]}` cannot name a field: letters, digits and underscores, a letter first, at most 64"
    return Violation(at, "BAD_FIELD_NAME", message, Hint(f"Use {_as_key(key)}.", _as_key(key)))


def _too_deep(at: str) -> Violation:
    return Violation(at, "TOO_DEEP", f"is nested deeper than {DEEPEST_CUSTOM} levels under custom", "Flatten it.")


def _as_key(text: str) -> str:
    key = re.sub(r"[^A-Za-z0-9]+", "_", text.removeprefix("custom.")).strip("_")[:60] or "plan"
    return key if key[0].isalpha() else f"f_{key}"
