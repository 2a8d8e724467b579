"""The JSON Schema of scoring models, by which editors complete and check them; only compiling tells everything."""

from __future__ import annotations

from typing import Any

from core.domain.qualification import parse
from core.domain.qualification.tiers import LONGEST_NAME, MOST_TIERS
from core.domain.workflow import durations
from core.domain.workflow.schema import DIALECT


def document_schema() -> dict[str, Any]:
    """Return the JSON Schema, draft 2020-12, of a scoring model."""
    properties = {
        "title": _text("What people call it.", 200),
        "description": _text("What it is for.", 2_000),
        "cap": _points("Points that fit and engagement give together at most.", parse.MOST_SCORE),
        "qualified_at": _points("The score from which a lead is qualified.", parse.MOST_SCORE),
        "nurture_at": _points("The score below which a lead is disqualified; 0 without it.", parse.MOST_SCORE, 0),
        "tiers": {
            "description": "Grades of the score, the highest first; or a matrix of fit and engagement.",
            "oneOf": [_grades("From a score upwards."), _matrix()],
        },
        "qualified_tiers": _names("Tiers that are qualified, in place of qualified_at.", 1),
        "nurture_tiers": _names("Tiers that are nurtured; without it all that are not qualified."),
        "fresh_for": {
            "description": "How old a fact may be; for all facts, or by fact with `default` for the others.",
            "oneOf": [_ref("duration"), {"type": "object", "additionalProperties": _ref("duration")}],
        },
        "evidence": _object(
            "What is made of claims by agents.",
            {
                "min_confidence": {
                    "type": "number",
                    "minimum": 0,
                    "maximum": 1,
                    "description": f"From where on a claim counts; {parse.DEFAULT_CONFIDENCE} without it.",
                }
            },
        ),
        "disqualify": _rules("Who is no customer, whatever the score.", "disqualify_rule"),
        "fit": _object(
            "Who somebody is.",
            {
                "cap": _points(f"Points at most; {parse.DEFAULT_CAP} without it."),
                "half_life": _ref("duration", "The age of a fact at which half of its rule's points are left."),
                "rules": _rules("In order: when the cap cuts, those further down get less.", "fit_rule"),
            },
        ),
        "engagement": _object(
            "What somebody did.",
            {
                "cap": _points(f"Points at most; {parse.DEFAULT_CAP} without it."),
                "window": _ref("duration", "How far back events count; 90d without it."),
                "half_life": _ref("duration", "The age of an event at which half of its points are left."),
                "rules": _rules("In order: when the cap cuts, those further down get less.", "engagement_rule"),
            },
        ),
        "routing": {
            "description": "Who owns qualified leads: the id of a routing, or members in turn.",
            "oneOf": [{"type": "string", "minLength": 1, "maxLength": 63}, _routing()],
        },
        "approval": _object(
            "When a person must agree before a decision is applied.",
            {"when": _ref("cel"), "reason": _text("What the person is told.", 300)},
            ["when"],
        ),
        "on_qualified": _object(
            "What else a qualified lead gets.",
            {"set": {"type": ["object", "null"], "description": "Lead fields to set."}},
        ),
        "on_tier": {
            "type": "object",
            "description": "What happens when a lead comes into a tier.",
            "additionalProperties": {
                **_object(
                    "At least one of the two.",
                    {
                        "enroll": _text("The workflow that the contact is enrolled in.", 63),
                        "event": _text("The event that is noted about the contact.", 200),
                    },
                ),
                "minProperties": 1,
            },
        },
    }
    return {
        "$schema": DIALECT,
        "title": "Dripstone scoring model",
        "description": "How leads are scored: who they are, what they did, what speaks against them, what follows.",
        **_object("", properties, ["title", "tiers"]),
        "oneOf": [{"required": ["qualified_at"]}, {"required": ["qualified_tiers"]}],
        "$defs": _definitions(),
    }


def _definitions() -> dict[str, Any]:
    name = {"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]{0,62}$", "description": "Tells the rule from others."}
    condition = _ref("cel", "When it holds. What is not known counts neither for nor against.")
    given = _points("Points it gives.")
    half_life = _ref("duration", "In place of the group's.")
    return {
        "cel": {"type": ["string", "boolean"], "description": 'A CEL expression, such as contact.country == "DE".'},
        "duration": {"type": "string", "pattern": durations.PATTERN, "description": "A length of time."},
        "disqualify_rule": _object("A reason against a lead.", {"id": name, "when": condition}, ["id", "when"]),
        "fit_rule": _object(
            "A reason for points.",
            {"id": name, "when": condition, "points": given, "half_life": half_life},
            ["id", "when", "points"],
        ),
        "engagement_rule": _object(
            "Points for an event.",
            {
                "id": name,
                "event": _text("Name of the event.", 200),
                "when": _ref("cel", "What must hold of the event, or the contact, besides."),
                "points": given,
                "per": {"enum": ["once", "each"], "description": "Whether every event gives points; once without it."},
                "max_points": _points("With `per: each`: points at most."),
                "at_least": _points("Events without which it gives nothing; 1 without it.", parse.MOST_TIMES),
                "window": _ref("duration", "In place of the group's."),
                "half_life": half_life,
            },
            ["id", "event", "points"],
        ),
    }


def _grades(says: str) -> dict[str, Any]:
    grade = _object(
        "A grade.",
        {"name": _name(), "from": _points("Points from which on.", parse.MOST_SCORE, 0)},
        ["name", "from"],
    )
    return {"type": "array", "description": says, "minItems": 1, "maxItems": MOST_TIERS, "items": grade}


def _matrix() -> dict[str, Any]:
    row = {"type": "array", "minItems": 1, "maxItems": MOST_TIERS, "items": _name()}
    return _object(
        "A tier for each grade of fit and grade of engagement.",
        {
            "fit": _grades("Grades of fit, the highest first."),
            "engagement": _grades("Grades of engagement, the highest first."),
            "matrix": {
                "type": "array",
                "description": "Tiers: a row for each grade of fit. Without it both names are joined, such as A1.",
                "minItems": 1,
                "maxItems": MOST_TIERS,
                "items": row,
            },
        },
        ["fit", "engagement"],
    )


def _routing() -> dict[str, Any]:
    members = {
        "type": "array",
        "description": "E-mails of members, in the order of their turns.",
        "minItems": 1,
        "maxItems": parse.MOST_MEMBERS,
        "items": {"type": "string"},
    }
    method = {"const": "round_robin", "description": "In turn."}
    return _object("Members in turn.", {"method": method, "members": members}, ["method", "members"])


def _object(says: str, properties: dict[str, Any], required: list[str] | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**({"description": says} if says else {}), **found, **({"required": required} if required else {})}


def _ref(name: str, says: str = "") -> dict[str, Any]:
    return {"$ref": f"#/$defs/{name}", **({"description": says} if says else {})}


def _text(says: str, longest: int) -> dict[str, Any]:
    return {"type": ["string", "integer"], "minLength": 1, "maxLength": longest, "description": says}


def _name() -> dict[str, Any]:
    return _text("What the tier is called.", LONGEST_NAME)


def _points(says: str, most: int = parse.MOST_POINTS, least: int = 1) -> dict[str, Any]:
    return {"type": "integer", "minimum": least, "maximum": most, "description": says}


def _names(says: str, least: int = 0) -> dict[str, Any]:
    return {"type": "array", "description": says, "minItems": least, "items": {"type": ["string", "integer"]}}


def _rules(says: str, kind: str) -> dict[str, Any]:
    return {"type": "array", "description": says, "maxItems": parse.MOST_RULES, "items": _ref(kind)}
