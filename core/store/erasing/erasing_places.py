"""Where a person's data is: for each table, how its rows hang on a person and which columns lose what they say.

Rows that hang on a person are blanked, or go, as the person is erased. What merely mentions an address of theirs, in a
payload or in a note about somebody else, is searched for and blanked as well. Every table is named here or in NOTHING,
and a test holds that: who adds a table says what it keeps of people.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Literal

from core.domain.frozen import frozen

Link = Literal["contact", "record", "enrollment", "message", "delivery", "merge", "plan", "task"]
"""What of a person the value in a column is the id of."""

ERASED = "[erased]"
"""What stands where something of a person stood that must not be empty."""


@frozen
class Place:
    """What one table keeps of people."""

    table: str
    links: Mapping[str, Link] = field(default_factory=dict)
    """Column to what it is the id of: such rows are the person's. An index is searched for them, with the columns below
    before it, for the person's locks are held meanwhile."""
    blanks: Mapping[str, Any] = field(default_factory=dict)
    """Column to what it says afterwards."""
    goes: bool = False
    """The person's rows are deleted."""
    searched: tuple[str, ...] = ()
    """Columns that may mention somebody; a row that does is blanked, or goes."""
    replaced: bool = False
    """A row that mentions the person is not theirs: only the words that name them are taken out of it."""
    by_name: bool = False
    """Their full name is searched for as well; what has nothing else of them keeps what it says, without the name."""
    before: Mapping[str, str] = field(default_factory=dict)
    """Column that stands before it in the index, to the table of the few ids that it has."""
    only: Mapping[str, str] = field(default_factory=dict)
    """The same, to the one value that such rows have."""
    sliced: tuple[str, ...] = ()
    """Columns with the ids of records that no index serves: rows with the person's are found as mentions are."""


def _place(table: str, links: Mapping[str, Link], blanks: Mapping[str, Any], *searched: str) -> Place:
    return Place(table, links, blanks, searched=searched)


def _gone(table: str, links: Mapping[str, Link], *searched: str) -> Place:
    return Place(table, links, goes=True, searched=searched)


PLACES: tuple[Place, ...] = (
    Place("records", searched=("fields",), replaced=True),  # the person's own are tombstones by then
    Place(
        "record_changes",
        {"record_id": "record"},
        {"old_value": None, "new_value": None},
        searched=("old_value", "new_value", "cause"),
        replaced=True,
    ),
    _gone("record_identifiers", {"record_id": "record"}),
    _gone("record_unique_values", {"record_id": "record"}),
    _gone("record_words", {}),  # they go as the tombstones are saved
    _gone("identity_conflicts", {"chosen_id": "record", "other_id": "record"}, "value"),
    _gone("duplicate_pairs", {"first_id": "record", "second_id": "record"}, "reasons"),
    _gone("duplicate_keys", {"record_id": "record"}),
    Place("sync_links", {"record_id": "record"}, before={"connection_id": "connections"}, goes=True),
    Place("sync_items", sliced=("record_id",), goes=True, searched=("error", "conflicts")),
    _gone("list_members", {"contact_id": "contact"}),
    _gone("consents", {"contact_id": "contact"}),
    _place("consent_changes", {"contact_id": "contact"}, {"reason": "", "cause": ""}, "reason"),
    _place(
        "events",
        {"contact_id": "contact"},
        {"fields": {}, "identity_conflict": None, "match_due_at": None, "message_id": ""},
        "fields",
        "message_id",
    ),
    _gone("event_dedup", {}, "message_id"),
    _place(
        "quarantine",
        {},
        {"body": b"", "headers": {}, "query": {}, "message": "", "message_id": "", "state": "discarded"},
        "body",
        "headers",
        "query",
        "message",
        "message_id",
    ),
    Place(
        "enrollments",
        {"id": "enrollment"},
        {"data": {}, "wait_key": None, "end_reason": ERASED},
        searched=("data", "key", "end_reason"),
        replaced=True,
    ),
    _place(
        "trace_entries",
        {"enrollment_id": "enrollment"},
        {"inputs": {}, "effects": [], "reason": ""},
        "inputs",
        "reason",
    ),
    Place(
        "entry_refusals",
        {"contact_id": "contact"},
        before={"workflow_id": "workflows"},
        goes=True,
        searched=("inputs", "message"),
    ),
    _place("assignments", {"lead_id": "record"}, {"reason": "", "seen": {}}, "reason", "seen"),
    _place("dead_letters", {"enrollment_id": "enrollment"}, {"reason": ERASED}, "reason"),
    _place(
        "outgoing_messages",
        {"contact_id": "contact"},
        {"recipient": "", "subject": "", "text": "", "html": "", "provider_id": "", "outcome": ERASED},
        "outcome",
        "recipient",
        "subject",
        "text",
        "html",
    ),
    Place("messages", {"id": "message"}, goes=True, searched=("payload",), by_name=True),
    Place("deliveries", {"id": "delivery"}, {"payload": None}, searched=("payload",), by_name=True),
    _place("delivery_attempts", {"delivery_id": "delivery"}, {"response": "", "error": ""}, "response", "error"),
    Place("executions", blanks={"input": {}}, sliced=("contact_id",), searched=("input",)),
    _place(
        "agent_tasks",
        {"enrollment_id": "enrollment"},
        {"title": ERASED, "instructions": "", "input": {}, "output": None},
        "title",
        "instructions",
        "input",
        "output",
    ),
    Place(
        "approvals",
        {"subject_id": "enrollment"},
        {"title": ERASED, "details": {}, "comment": ""},
        only={"subject_kind": "step"},
        searched=("title", "details", "comment"),
    ),
    _place("approval_votes", {}, {"comment": ""}, "comment"),
    # A plan that lost what it was about cannot be weighed again: it is stale.
    _place("plans", {}, {"title": ERASED, "body": {}, "hash": ERASED}, "title", "body"),
    Place(
        "plan_items",
        blanks={"title": ERASED, "changes": []},
        sliced=("record_id",),
        searched=("title", "changes"),
    ),
    _place("merges", {}, {"conflicts": []}, "conflicts"),
    _gone("merge_moves", {"merge_id": "merge"}, "row_key", "before", "after"),
    Place(
        "import_rows",
        blanks={"said": None, "key": "", "source_id": "", "faults": []},
        sliced=("record_id",),
        searched=("said", "key", "faults"),
    ),
    _place("suppressions", {}, {"address": "", "contact_id": ""}, "address"),  # those that were lifted; see erasing
    Place("erasures", searched=("reason",), replaced=True),
    Place("idempotency_keys", blanks={"reply": None}, searched=("reply",), by_name=True),
)

NOTHING: Mapping[str, str] = {
    "organizations": "the organization itself",
    "members": "people of the organization, who leave by RemoveMember",
    "api_keys": "keys of the organization",
    "projects": "names of groups of workflows",
    "identity_providers": "addresses of services",
    "workflows": "documents",
    "credentials": "what signs in to other systems, sealed",
    "syncs": "positions and counts",
    "workflow_drafts": "documents",
    "workflow_versions": "documents",
    "workflow_listeners": "names of events",
    "workflow_schedules": "instants and contact ids",
    "scoring_models": "documents",
    "scoring_model_versions": "documents",
    "routing_cursors": "places in a turn",
    "routings": "documents",
    "routing_versions": "documents",
    "routing_turns": "members and their turns",
    "member_availability": "people of the organization",
    "policies": "rules",
    "budgets": "limits",
    "budget_use": "counts",
    "record_schemas": "definitions",
    "record_types": "definitions",
    "record_fields": "definitions",
    "pipelines": "definitions",
    "agents": "documents",
    "agent_templates": "documents",
    "execution_costs": "counts",
    "usage_days": "counts",
    "usage_deltas": "counts",
    "connections": "addresses of services",
    "endpoints": "addresses of services",
    "event_types": "schemas",
    "event_type_versions": "schemas",
    "sources": "mappings",
    "inbound_urls": "hashes of tokens",
    "delivery_numbers": "counters",
    "replays": "choices of deliveries",
    "audit_entries": "ids and digests; what may name a person is a digest before it is written",
    "audit_heads": "hashes",
    "step_outcomes": "counts",
    "step_statistics": "counts",
    "unsubscribe_secrets": "secrets",
    "imports": "counts and names of columns; members of the organization",
    "duplicate_searches": "cursors",
}
"""Tables that keep nothing of the people who are contacts, and what they keep."""
