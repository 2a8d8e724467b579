"""The launch gate: an approval that publication puts before a workflow's first step, where somebody wants one.

The organization wants one for every workflow that does not say `require_default_approval_gate: false`, which only who
sets policies may publish; a workflow can want one by itself. The gate is an ordinary step of the published version, to
be seen and explained like any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

KEY = "require_default_approval_gate"
GATE = "launch_gate"

_STEP: Mapping[str, Any] = {
    "id": GATE,
    "kind": "approval",
    "title": "May this contact enter the workflow?",
    "details": {"why": "The workflow, or the organization, asks for an approval before anything happens."},
    "timeout": "3d",
    "roles": ["admin", "approver"],
    "on_reject": "cancel",
    "on_timeout": "cancel",
}


_ENDS = ("fail", "cancel")


def is_wanted(document: Mapping[str, Any], organization_wants: bool) -> bool:
    """Tell whether a document is to begin with a gate; one that begins with such an approval of its own has one."""
    said = document.get(KEY)
    steps = document.get("steps")
    first = steps[0] if isinstance(steps, list) and steps and isinstance(steps[0], Mapping) else {}
    if _holds(first):
        return False
    return said if isinstance(said, bool) else organization_wants


def is_refused(document: Mapping[str, Any], organization_wants: bool) -> bool:
    """Tell whether a document leaves out a gate that the organization wants."""
    return organization_wants and document.get(KEY) is False and is_wanted({**document, KEY: True}, True)


def _holds(first: Mapping[str, Any]) -> bool:
    """Tell whether nobody passes a step without an approval: neither by time nor by a rejection that leads on."""
    exits = first.get("exits")
    exits = exits if isinstance(exits, Mapping) else {}
    rejected_ends = first.get("on_reject") in _ENDS or exits.get("rejected") == "end"
    led = first.get("on_timeout") != "approve" and exits.get("timeout", exits.get("rejected")) == "end"
    late_ends = first.get("timeout") is None or first.get("on_timeout") in _ENDS or led
    return first.get("kind") == "approval" and rejected_ends and late_ends


def with_gate(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document that begins with the gate."""
    return {**document, "steps": [dict(_STEP), *document["steps"]]}
