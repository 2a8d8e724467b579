"""The fields that contacts, companies and leads have, and the check that every write of a record passes.

A record's fields are one flat mapping of standard fields plus the object `custom`, which is the organization's own.
Everything that changes a record speaks of dotted paths: `tier`, `custom.plan`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from core.domain.errors import Violation
from core.domain.nearest import did_you_mean
from core.domain.records import values
from core.domain.records.values import BadValue

Kind = Literal["string", "integer", "number", "boolean", "instant", "date", "reference"]

MOST_CUSTOM_FIELDS = 200
DEEPEST_CUSTOM = 3
LONGEST_CUSTOM_TEXT = 8192
MOST_LIST_ITEMS = 100
_CUSTOM_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")


@dataclass(frozen=True, slots=True)
class Field:
    """A standard field."""

    name: str
    kind: Kind
    description: str
    required: bool = False
    """A new record must have it."""
    max_length: int = 200
    """In characters, for text."""
    writable: bool = True
    """False for what only the core itself sets."""
    choices: tuple[str, ...] = ()
    """The only values there are; empty when there are others."""
    prefix: str = ""
    """For a reference: the prefix of the ids it takes."""


def _named(*fields: Field) -> dict[str, Field]:
    return {field.name: field for field in fields}


LEAD_STATUSES = ("new", "working", "nurture", "qualified", "disqualified", "converted", "closed")
CLOSED_LEAD_STATUSES = frozenset({"disqualified", "converted", "closed"})
"""A contact with a lead of another status than these gets no second one from an event."""

DECISIONS = ("qualified", "nurture", "disqualified", "needs_info", "needs_approval")

STANDARD_FIELDS: Mapping[str, Mapping[str, Field]] = {
    "contact": _named(
        Field("email", "string", "E-mail address; unique among contacts.", max_length=320),
        Field("first_name", "string", "Given name."),
        Field("last_name", "string", "Family name."),
        Field("phone", "string", "Phone number; with a leading + it also identifies the person.", max_length=40),
        Field("company_name", "string", "Name of the employer, as the person gave it."),
        Field("company_id", "reference", "The company's record.", prefix="cmp"),
        Field("job_title", "string", "Position, such as `VP Marketing`."),
        Field("industry", "string", "Industry of the employer."),
        Field("country", "string", "Country, by preference its two-letter code."),
        Field("city", "string", "City."),
        Field("employees", "integer", "Number of people at the employer."),
        Field("annual_revenue", "number", "Yearly revenue of the employer."),
        Field("website", "string", "Web address of the employer.", max_length=2048),
        Field("timezone", "string", "IANA time zone, such as `Europe/Berlin`; waits and quiet hours use it."),
        Field("language", "string", "Language tag, such as `en-GB`.", max_length=35),
        Field("lifecycle_stage", "string", "Where the person is on the way to a customer.", max_length=50),
        Field("source", "string", "Where the person came from."),
        Field("owner_id", "reference", "The member who is responsible.", prefix="mem"),
        Field("unsubscribed", "boolean", "True when the person wants no more messages."),
    ),
    "company": _named(
        Field("name", "string", "Name.", required=True),
        Field("domain", "string", "Main domain, such as `example.com`.", max_length=253),
        Field("website", "string", "Web address.", max_length=2048),
        Field("phone", "string", "Phone number.", max_length=40),
        Field("industry", "string", "Industry."),
        Field("country", "string", "Country, by preference its two-letter code."),
        Field("city", "string", "City."),
        Field("employees", "integer", "Number of people."),
        Field("annual_revenue", "number", "Yearly revenue."),
        Field("timezone", "string", "IANA time zone."),
        Field("owner_id", "reference", "The member who is responsible.", prefix="mem"),
        Field("source", "string", "Where it came from."),
    ),
    "lead": _named(
        Field("contact_id", "reference", "The person.", required=True, prefix="cnt"),
        Field("status", "string", "Where it stands.", choices=LEAD_STATUSES),
        Field("score", "integer", "Points in all."),
        Field("fit", "integer", "Points for who the person is."),
        Field("engagement", "integer", "Points for what the person did."),
        Field("tier", "string", "Grade by score, such as `A`.", max_length=20),
        Field("decision", "string", "What the last qualification decided.", choices=DECISIONS),
        Field("owner_id", "reference", "The member who is responsible.", prefix="mem"),
        Field("source", "string", "Where it came from."),
        Field("lead_ref", "string", "The sender's own name of this lead."),
        Field("model_id", "string", "The scoring model of the last qualification.", writable=False),
        Field("model_version", "integer", "Its version.", writable=False),
        Field("qualified_at", "instant", "When it was last qualified.", writable=False),
    ),
}
"""Record type to its standard fields, by name."""

RECORD_TYPES = tuple(STANDARD_FIELDS)


def check_path(record_type: str, path: str, field_path: str) -> Violation | None:
    """Return what is wrong with the path of a field, or None; `field_path` is where the caller wrote it."""
    head, _, rest = path.partition(".")
    if head == "custom" and rest:
        keys = rest.split(".")
        bad = next((key for key in keys if not _CUSTOM_KEY.fullmatch(key)), None)
        if bad is not None:
            return _bad_key(field_path, bad)
        if len(keys) > DEEPEST_CUSTOM:
            return _too_deep(field_path)
        return None
    known = STANDARD_FIELDS[record_type]
    if not rest and path in known:
        return None
    hint = f"Put your own fields under custom, such as custom.{_as_key(path)}."
    return Violation(
        field_path,
        "UNKNOWN_FIELD",
        f"a {record_type} has no field `{path[:80]}`",
        did_you_mean(path, [*known, "custom"], hint),
    )


def validate_fields(
    record_type: str, fields: Mapping[str, Any], path_prefix: str = "fields"
) -> tuple[dict[str, Any], list[Violation]]:
    """Return the fields as dotted paths to values in their stored form, and everything that is wrong with them.

    Own fields may come nested (`{"custom": {"plan": "pro"}}`) or dotted (`{"custom.plan": "pro"}`). None removes.
    """
    accepted: dict[str, Any] = {}
    violations: list[Violation] = []
    known = STANDARD_FIELDS[record_type]
    for name, value in sorted(fields.items()):  # the contract's maps have no order
        if name in known and known[name].writable:
            try:
                accepted[name] = normalise(record_type, name, value)
            except BadValue as bad:
                at = f"{path_prefix}.{name}" if path_prefix else name
                violations.append(Violation(at, bad.reason, bad.message, bad.hint))
            continue
        if name == "custom" and not isinstance(value, Mapping):
            if value is None:
                accepted[name] = None
            else:
                at = f"{path_prefix}.custom" if path_prefix else "custom"
                violations.append(Violation(at, "WRONG_TYPE", "must be an object", 'Send it like {"plan": "pro"}.'))
            continue
        for path, leaf in _leaves(name, value):
            at = f"{path_prefix}.{path}" if path_prefix else path
            problem = check_path(record_type, path, at) or _check_writable(record_type, path, at)
            if problem is None:
                try:
                    accepted[path] = normalise(record_type, path, leaf)
                except BadValue as bad:
                    problem = Violation(at, bad.reason, bad.message, bad.hint)
            if problem is not None:
                violations.append(problem)
    if sum(path.startswith("custom.") for path in accepted) > MOST_CUSTOM_FIELDS:
        at = f"{path_prefix}.custom" if path_prefix else "custom"
        violations.append(Violation(at, "TOO_MANY_FIELDS", f"has more than {MOST_CUSTOM_FIELDS} fields"))
    return accepted, violations


def missing_fields(record_type: str, fields: Mapping[str, Any], path_prefix: str = "fields") -> list[Violation]:
    """Return a violation for each field that a new record must have and these lack."""
    return [
        Violation(
            f"{path_prefix}.{field.name}" if path_prefix else field.name,
            "REQUIRED",
            f"a new {record_type} needs it",
            field.description,
        )
        for field in STANDARD_FIELDS[record_type].values()
        if field.required and fields.get(field.name) is None
    ]


def normalise(record_type: str, path: str, value: Any) -> Any:
    """Return one value as it is stored; empty text and null are None, which removes the field.

    Raises BadValue.
    """
    if value is None:
        return None
    if path.startswith("custom."):
        return _custom_value(value)
    field = STANDARD_FIELDS[record_type][path]
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


def _leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    nested = isinstance(value, Mapping) and (path == "custom" or path.startswith("custom."))
    if not nested:
        yield path, value
    elif path.count(".") > DEEPEST_CUSTOM:
        yield path, None  # its depth is refused, whatever is in it
    else:
        for key, item in value.items():
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


def _check_writable(record_type: str, path: str, at: str) -> Violation | None:
    field = STANDARD_FIELDS[record_type].get(path)
    if field is None or field.writable:
        return None
    return Violation(at, "READ_ONLY_FIELD", "is set by qualification alone", "Leave it out; call QualifyLead.")


def _bad_key(at: str, key: str) -> Violation:
    message = f"`{key[:80]}` cannot name a field: letters, digits and underscores, a letter first, at most 64"
    return Violation(at, "BAD_FIELD_NAME", message, f"Use {_as_key(key)}.")


def _too_deep(at: str) -> Violation:
    return Violation(at, "TOO_DEEP", f"is nested deeper than {DEEPEST_CUSTOM} levels under custom", "Flatten it.")


def _as_key(text: str) -> str:
    key = re.sub(r"[^A-Za-z0-9]+", "_", text.removeprefix("custom.")).strip("_")[:60] or "plan"
    return key if key[0].isalpha() else f"f_{key}"
