"""The two shapes of a workflow document: flat as authors write it, and with `config` apart as the contract has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.domain.errors import Invalid, Violation
from core.domain.workflow import source

END = "end"
"""The target that completes an enrollment."""

DOCUMENT_KEYS = (
    "title",
    "description",
    "timezone",
    "reentry",
    "reentry_interval",
    "key",
    "variables",
    "event_fields",
    "entry",
    "goals",
    "exit_on",
    "calendars",
    "quiet_hours",
    "frequency_caps",
    "circuit_breaker",
    "require_default_approval_gate",
    "triggers",
    "steps",
)
SETTINGS = tuple(
    key for key in DOCUMENT_KEYS if key not in ("title", "description", "timezone", "reentry", "triggers", "steps")
)
"""What the contract carries as one structure, `settings`."""

STEP_KEYS = ("id", "kind", "title", "next", "exits", "retry", "on_error")
"""What every step may have; everything else is its kind's configuration."""

REENTRY = ("once", "after_exit", "after_interval", "concurrent_by_key")

parse_source = source.parse
render_source = source.render


def to_wire(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document with each step's configuration apart; what is malformed in a draft is left out."""
    steps = document.get("steps")
    triggers = document.get("triggers")
    return {
        **{key: _text(document.get(key)) for key in ("title", "description", "timezone", "reentry")},
        "settings": {key: document[key] for key in SETTINGS if document.get(key) is not None},
        "triggers": [
            {
                "event": _text(trigger.get("event")),
                "when": _text(trigger.get("when")),
                "config": {key: value for key, value in trigger.items() if key not in ("event", "when")},
            }
            for trigger in (triggers if isinstance(triggers, list) else ())
            if isinstance(trigger, Mapping)
        ],
        "steps": [
            _step_to_wire(step) for step in (steps if isinstance(steps, list) else ()) if isinstance(step, Mapping)
        ],
    }


def _step_to_wire(step: Mapping[str, Any]) -> dict[str, Any]:
    exits = step.get("exits")
    targets = {str(name): _text(target) for name, target in exits.items()} if isinstance(exits, Mapping) else {}
    if step.get("next") is not None:
        targets.setdefault("next", _text(step["next"]))
    config = {key: value for key, value in step.items() if key not in ("id", "kind", "next", "exits")}
    return {"id": _text(step.get("id")), "kind": _text(step.get("kind")), "config": config, "exits": targets}


def from_wire(wire: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document that authors would write for one of the contract.

    Raises Invalid when a configuration uses a name that belongs to the step itself.
    """
    document: dict[str, Any] = {key: wire[key] for key in ("title", "description", "timezone", "reentry") if wire[key]}
    settings: Mapping[str, Any] = wire.get("settings") or {}
    problems: list[Violation] = [
        Violation(f"document.settings.{key}", "RESERVED_NAME", f"{key} has a field of its own", "Put it there.")
        for key in settings
        if key in DOCUMENT_KEYS and key not in SETTINGS
    ]
    document |= settings
    if wire["triggers"]:
        document["triggers"] = [
            {**{key: trigger[key] for key in ("event", "when") if trigger[key]}, **(trigger.get("config") or {})}
            for trigger in wire["triggers"]
        ]
    steps = []
    for index, step in enumerate(wire["steps"]):
        taken = [key for key in step["config"] if key in ("id", "kind", "next", "exits")]
        problems += [
            Violation(f"document.steps[{index}].config.{key}", "RESERVED_NAME", f"{key} is not configuration", _APART)
            for key in taken
        ]
        exits = dict(step["exits"])
        following = {"next": exits.pop("next")} if set(exits) == {"next"} else {}
        steps.append(
            {
                "id": step["id"],
                "kind": step["kind"],
                **step["config"],
                **({"exits": exits} if exits else {}),
                **following,
            }
        )
    if problems:
        raise Invalid(*problems)
    return {**document, "steps": steps}


_APART = "Put it beside `config`: id, kind and exits are the step's own."


def _text(value: Any) -> str:
    return "" if value is None or isinstance(value, Mapping | list) else str(value)
