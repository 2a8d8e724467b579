"""Workflow documents for property tests: every step kind, every setting, every common key, in random company."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from core.domain import steps
from tests.domain.steps.test_step_kinds import GOOD

HEAD: dict[str, list[Any]] = {
    "title": ["Care", "Nachfass-Reihe"],
    "description": ["What it is for"],
    "timezone": ["Europe/Berlin", "UTC"],
    "reentry": ["once", "after_exit", "concurrent_by_key"],
    "key": ["event.fields.order_id", 'contact.email + "/" + string(event.fields.n)'],
    "event_fields": [{"order_id": "string", "n": "integer", "x": "any", "plan": "string"}],
    "variables": [{"plan": "string", "order_id": "string", "x": "any", "amount": "number"}],
    "entry": [
        {"when": "has(contact.email)"},
        {"suppress": 'contact.country == "XX"', "suppress_lists": ["customers", "no-mail"]},
    ],
    "goals": [
        [{"name": "won", "event": "deal.won"}],
        [{"events": ["a", "b"], "when": "contact.employees > 5"}, {"name": "tier", "when": 'lead.tier == "A"'}],
    ],
    "exit_on": [[{"event": "reply.received"}], [{"name": "gone", "when": "contact.unsubscribed == true"}]],
    "calendars": [
        {"office": {"days": ["monday", "fri"], "hours": "09:00-17:00", "holidays": ["DE-BY"]}},
        {"shop": {"hours": {"saturday": ["10:00-12:00", "13:00-16:00"]}, "closed": ["2026-12-24"], "timezone": "UTC"}},
    ],
    "quiet_hours": ["21:00-08:00", [{"from": "20:00", "to": "24:00", "days": "sat"}, "21:00-08:00"]],
    "frequency_caps": [
        {"at_most": 1, "per": "day"},
        [{"at_most": 3, "per": "7d", "channel": "email", "otherwise": "skip"}],
    ],
    "circuit_breaker": ["off", {"percent": 5.5, "of_last": 20}, {}],
    "require_default_approval_gate": [True, False],
    "triggers": [
        [{"event": "form.submitted", "when": "event.fields.x == 1", "key": "event.id"}],
        [{"source": "stripe", "event": "invoice.paid"}, {"record": "lead", "on": "changed", "fields": ["tier"]}],
        [{"segment": "contact.employees > 50"}],
        [{"schedule": {"cron": "0 9 * * mon", "timezone": "UTC"}, "audience": {"list": "warm"}}],
        [{"pool": {"per_day": 5, "at": "10:00", "days": ["mon"]}, "audience": {"filter": 'country = "DE"'}}],
    ],
}
RETRIES: list[Any] = [{"attempts": 3}, {"attempts": 5, "delay": "30s", "factor": 1.5}]


@st.composite
def documents(draw: Any) -> dict[str, Any]:
    """Return a document that ought to compile: a chain of steps, and any of the settings."""
    chosen = draw(st.lists(st.sampled_from(sorted(HEAD)), unique=True))
    document: dict[str, Any] = {key: draw(st.sampled_from(HEAD[key])) for key in chosen}
    if document.get("reentry") == "concurrent_by_key":
        document["key"] = HEAD["key"][0]
    kinds = draw(st.lists(st.sampled_from(sorted(GOOD)), min_size=1, max_size=4))
    document["steps"] = [_step(draw, kind, f"s{index}") for index, kind in enumerate(kinds)]
    document["steps"].append({"id": "last", "kind": "exit"})
    return document


def _step(draw: Any, kind: str, name: str) -> dict[str, Any]:
    # A way to the last step from everywhere keeps the rest reachable: `exit` steps stand where on_error can lead.
    config = draw(st.sampled_from(GOOD[kind]))
    step: dict[str, Any] = {"id": name, "kind": kind, **config}
    required = steps.BY_NAME[kind].required_exits
    if required:
        step["exits"] = dict.fromkeys(required, "last")
    if draw(st.booleans()):
        step["retry"] = draw(st.sampled_from(RETRIES))
    if draw(st.booleans()):
        step["on_error"] = draw(st.sampled_from(["fail", "continue", "last"]))
    if "title" not in config and draw(st.booleans()):
        step["title"] = "A step"
    return step


SCALARS: Any = (
    st.booleans()
    | st.integers(-3, 2_000)
    | st.floats(-2, 100, allow_nan=False)
    | st.sampled_from(["", "a", "end", "last", "1d", "{{ x", "{{ now }}", "09:00", "true", "no", "2026-01-01", "email"])
)
VALUES: Any = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["cel", "a", "name", "when"]), inner),
    max_leaves=4,
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Return every map or list in a document with each of its keys."""
    if isinstance(value, dict):
        inner = [(value, key) for key in value]
        return inner + [place for item in value.values() for place in places(item)]
    if isinstance(value, list):
        inner = [(value, index) for index in range(len(value))]
        return inner + [place for item in value for place in places(item)]
    return []
