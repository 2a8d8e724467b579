"""The JSON Schema of routing documents, so that editors complete and check them.

It says what a document looks like. What only the compiler can tell (expressions, members, rules never reached) is not
in it.
"""

from __future__ import annotations

from typing import Any

from core.domain.routing import parse
from core.domain.routing.availability import LONGEST_NAME
from core.domain.routing.document import MATCHES, METHODS
from core.domain.steps.shapes import Condition, Duration
from core.domain.workflow.calendar import calendar_schema

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def routing_schema() -> dict[str, Any]:
    """Return the JSON Schema, draft 2020-12, of a routing document."""
    rule: dict[str, Any] = {
        "id": {"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]{0,62}$", "description": "Names the rule."},
        "when": {"$ref": "#/$defs/cel", "description": "For which leads; all when nothing is said."},
        "method": {"enum": list(METHODS), "description": "How one of several is chosen; round_robin by default."},
        "members": {"$ref": "#/$defs/members"},
        "team": {"$ref": "#/$defs/team"},
        "territory": {"$ref": "#/$defs/cel", "description": "What gives the territory, such as contact.country."},
        "match": {
            "type": "array",
            "minItems": 1,
            "uniqueItems": True,
            "items": {"enum": list(MATCHES)},
            "description": "Where account_match looks for an owner, in this order; everywhere by default.",
        },
        "within_hours": {"type": "boolean", "description": "Whoever is outside their working hours is passed over."},
        "sla": {"$ref": "#/$defs/sla"},
    }
    rest = {key: rule[key] for key in parse.CATCH_ALL_KEYS}
    catch_all = {**rest, "method": {**rest["method"], "enum": list(parse.PLAIN_METHODS)}}
    return {
        "$schema": DIALECT,
        "title": "Dripstone routing",
        "description": "Who gets a lead: rules in order, and what catches everything else.",
        **_map(
            {
                "title": {"type": "string", "minLength": 1, "maxLength": 200, "description": "What it is called."},
                "description": {"type": "string", "maxLength": 2_000, "description": "What it is for."},
                "sla": {"$ref": "#/$defs/sla", "description": "What counts for rules that say nothing else."},
                "rules": {
                    "type": "array",
                    "maxItems": parse.MOST_RULES,
                    "items": _map(rule, "id"),
                    "description": "Asked in this order; the first that has somebody decides.",
                },
                "catch_all": {**_map(catch_all), "description": "Who gets what no rule gives to anybody."},
            },
            *("title", "catch_all"),
        ),
        "$defs": {
            "cel": {**Condition().schema(), "description": "A CEL expression over contact, lead, company, account."},
            "members": _members(),
            "team": _team(),
            "sla": _sla(),
        },
    }


def _map(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**found, "required": list(required)} if required else found


def _members() -> dict[str, Any]:
    member = {"type": "string", "description": "The e-mail of a member, or their id."}
    weighed = {"member": member, "weight": {"type": "integer", "minimum": 1, "maximum": parse.MOST_WEIGHT}}
    return {
        "type": "array",
        "minItems": 1,
        "maxItems": parse.MOST_MEMBERS,
        "items": {"anyOf": [member, _map(weighed, "member")]},
        "description": "Whom it may choose.",
    }


def _team() -> dict[str, Any]:
    word = {"type": "string", "minLength": 1, "maxLength": LONGEST_NAME}
    team = {
        "role": {"enum": list(parse.ROLES), "description": "Only members with this role."},
        "skills": {"type": "array", "maxItems": parse.MOST_SKILLS, "items": word, "description": "All are needed."},
        "territory": {**word, "description": "Only who covers it."},
    }
    return {**_map(team), "description": "Whom it may choose, by what they are."}


def _sla() -> dict[str, Any]:
    sla = {
        "respond_within": {**Duration().schema(), "description": "How soon the owner must respond."},
        "calendar": {**calendar_schema(), "description": "Only its hours count; all hours when nothing is said."},
        "reroute": {
            "type": "integer",
            "minimum": 0,
            "maximum": parse.MOST_REROUTES,
            "description": "How often the lead goes to somebody else before people are told.",
        },
    }
    return {**_map(sla, "respond_within"), "description": "How soon somebody must respond."}
