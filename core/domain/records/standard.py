"""The types of records that every organization has, with their standard fields: to add a type, add it here.

What an organization adds of its own, fields below `custom` and types of its own objects, is in schema.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Literal

from core.domain.frozen import frozen

Kind = Literal["string", "integer", "number", "boolean", "instant", "date", "reference", "money"]

ExpressionKind = Literal["string", "integer", "number", "boolean", "instant", "date", "reference"]

LONGEST_TEXT = 20_000
"""Characters of a note or of what was said in a call."""


@frozen
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
    found_by: bool = False
    """FindRecords looks at its words."""

    @property
    def expression_kind(self) -> ExpressionKind:
        """Return how expressions see it."""
        return "string" if self.kind == "money" else self.kind


@frozen
class StandardType:
    """A type of records that every organization has."""

    name: str
    plural: str
    id_prefix: str
    description: str
    title_fields: tuple[str, ...]
    """The fields that name a record to people; those that it has are put together."""
    fields: Mapping[str, Field] = field(default_factory=dict)

    @property
    def display_name(self) -> str:
        """Return its name to people."""
        return self.name.capitalize()


LEAD_STATUSES = ("new", "working", "nurture", "qualified", "disqualified", "converted", "closed")
CLOSED_LEAD_STATUSES = frozenset({"disqualified", "converted", "closed"})
"""A contact with a lead of another status than these gets no second one from an event."""

DECISIONS = ("qualified", "nurture", "disqualified", "needs_info", "needs_approval")
OPPORTUNITY_STATUSES = ("open", "won", "lost")
TASK_STATUSES = ("open", "in_progress", "done", "cancelled")
ACTIVITY_KINDS = ("call", "email", "meeting", "message", "visit", "other")


def _named(*fields: Field) -> dict[str, Field]:
    return {one.name: one for one in fields}


def _reference(name: str, prefix: str, description: str, *, required: bool = False) -> Field:
    return Field(name, "reference", description, required, prefix=prefix)


_OWNER = _reference("owner_id", "mem", "The member who is responsible.")
_ABOUT = (
    _reference("contact_id", "cnt", "The person it is about."),
    _reference("company_id", "cmp", "The company it is about."),
    _reference("lead_id", "lead", "The lead it is about."),
    _reference("opportunity_id", "opp", "The opportunity it is about."),
)

_CONTACT = _named(
    Field("email", "string", "E-mail address; unique among contacts.", max_length=320, found_by=True),
    Field("first_name", "string", "Given name.", found_by=True),
    Field("last_name", "string", "Family name.", found_by=True),
    Field("phone", "string", "Phone number; with a leading + it also identifies the person.", False, 40, found_by=True),
    Field("company_name", "string", "Name of the employer, as the person gave it.", found_by=True),
    _reference("company_id", "cmp", "The company's record."),
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
    _OWNER,
    Field("unsubscribed", "boolean", "True when the person wants no more messages."),
)
_COMPANY = _named(
    Field("name", "string", "Name.", required=True, found_by=True),
    Field("domain", "string", "Main domain, such as `example.com`.", max_length=253, found_by=True),
    Field("website", "string", "Web address.", max_length=2048),
    Field("phone", "string", "Phone number.", max_length=40, found_by=True),
    Field("industry", "string", "Industry."),
    Field("country", "string", "Country, by preference its two-letter code."),
    Field("city", "string", "City."),
    Field("employees", "integer", "Number of people."),
    Field("annual_revenue", "number", "Yearly revenue."),
    Field("timezone", "string", "IANA time zone."),
    _OWNER,
    Field("source", "string", "Where it came from."),
)
_LEAD = _named(
    _reference("contact_id", "cnt", "The person.", required=True),
    Field("status", "string", "Where it stands.", choices=LEAD_STATUSES),
    Field("score", "integer", "Points in all."),
    Field("fit", "integer", "Points for who the person is."),
    Field("engagement", "integer", "Points for what the person did."),
    Field("tier", "string", "Grade by score, such as `A`.", max_length=20),
    Field("decision", "string", "What the last qualification decided.", choices=DECISIONS),
    _OWNER,
    Field("source", "string", "Where it came from."),
    Field("lead_ref", "string", "The sender's own name of this lead.", found_by=True),
    Field("model_id", "string", "The scoring model of the last qualification.", writable=False),
    Field("model_version", "integer", "Its version.", writable=False),
    Field("qualified_at", "instant", "When it was last qualified.", writable=False),
)
_OPPORTUNITY = _named(
    Field("name", "string", "Name, such as `Example GmbH, 40 seats`.", required=True, found_by=True),
    Field("pipeline_id", "string", "The pipeline; the oldest one unless told.", max_length=63),
    Field("stage_id", "string", "The stage in it; the first one unless told.", max_length=63),
    Field("amount", "money", "What it is worth, such as `1200.50 EUR`."),
    Field("close_date", "date", "When it is expected to close, or did."),
    Field("probability", "number", "Chance of winning, that of its stage when it came there.", writable=False),
    Field("status", "string", "What its stage means.", writable=False, choices=OPPORTUNITY_STATUSES),
    _reference("contact_id", "cnt", "The person to deal with."),
    _reference("company_id", "cmp", "The company that buys."),
    _reference("lead_id", "lead", "The lead it came from."),
    _OWNER,
    Field("source", "string", "Where it came from."),
)
_ACTIVITY = _named(
    Field("kind", "string", "What happened.", required=True, choices=ACTIVITY_KINDS),
    Field("subject", "string", "What it was about, in a line.", required=True, max_length=500, found_by=True),
    Field("text", "string", "What was said.", max_length=LONGEST_TEXT, found_by=True),
    Field("at", "instant", "When it happened."),
    *_ABOUT,
    _OWNER,
)
_TASK = _named(
    Field("title", "string", "What is to be done, in a line.", required=True, max_length=500, found_by=True),
    Field("text", "string", "More about it.", max_length=LONGEST_TEXT, found_by=True),
    Field("status", "string", "Where it stands; open unless told.", choices=TASK_STATUSES),
    Field("due_at", "instant", "When it is due."),
    *_ABOUT,
    _OWNER,
)
_NOTE = _named(
    Field("text", "string", "What is noted.", required=True, max_length=LONGEST_TEXT, found_by=True),
    *_ABOUT,
    _OWNER,
)

STANDARD_TYPES: tuple[StandardType, ...] = (
    StandardType("contact", "Contacts", "cnt", "A person.", ("first_name", "last_name", "email", "phone"), _CONTACT),
    StandardType("company", "Companies", "cmp", "An organization that people work for.", ("name",), _COMPANY),
    StandardType("lead", "Leads", "lead", "A person's interest, as it is qualified.", ("lead_ref",), _LEAD),
    StandardType(
        "opportunity", "Opportunities", "opp", "A sale on its way through a pipeline.", ("name",), _OPPORTUNITY
    ),
    StandardType("activity", "Activities", "act", "Something that happened with somebody.", ("subject",), _ACTIVITY),
    StandardType("task", "Tasks", "todo", "Something that a person is to do.", ("title",), _TASK),
    StandardType("note", "Notes", "note", "Something to remember.", ("text",), _NOTE),
)
"""Every type that there is in every organization."""

STANDARD_FIELDS: Mapping[str, Mapping[str, Field]] = {one.name: one.fields for one in STANDARD_TYPES}
"""Record type to its standard fields, by name."""

RECORD_TYPES = tuple(STANDARD_FIELDS)

KNOWN_TO_WORKFLOWS = ("contact", "lead", "company", "opportunity")
"""Those that conditions of workflows name, and that their triggers listen to, beside an organization's own types."""


def is_known_to_workflows(record_type: str) -> bool:
    """Tell whether conditions of workflows may name records of a type."""
    return record_type in KNOWN_TO_WORKFLOWS or record_type not in STANDARD_FIELDS


OBJECT_PREFIX = "obj"
"""First part of the ids of an organization's own objects."""

OBJECT_FIELDS: Mapping[str, Field] = _named(
    Field("name", "string", "Its name.", found_by=True),
    _reference("contact_id", "cnt", "The person it belongs to."),
    _reference("company_id", "cmp", "The company it belongs to."),
    _OWNER,
)
"""What every object of an organization's own types has beside its own fields."""

ID_PREFIXES: Mapping[str, str] = {one.name: one.id_prefix for one in STANDARD_TYPES}
"""Standard type to the first part of its records' ids."""

DEFAULTS: Mapping[str, Mapping[str, str]] = {"task": {"status": "open"}}
"""What new records have unless told."""


def plural(record_type: str) -> str:
    """Return what several records of a type are called, such as `leads`."""
    return next((one.plural.lower() for one in STANDARD_TYPES if one.name == record_type), "objects")
