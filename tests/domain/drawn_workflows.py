"""Workflows as Hypothesis draws them: any steps, led anywhere, that compile."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from core.domain.workflow.compile import compile_document
from core.domain.workflow.version import Version

IDS = [f"s{number}" for number in range(6)]
CONDITIONS = st.sampled_from(
    ['lead.tier == "A"', "contact.employees > 3", "event.fields.x == 1", "vars.n > 1", "has(lead.id)"]
)
TEXTS = st.sampled_from(["x", "{{ contact.email }}", "{{ event.fields.x | plus: 1 }}", "{{ 1 | divided_by: vars.n }}"])
RULES = [{"when": 'lead.tier == "A"'}, {"event": "b", "when": "contact.employees > 3"}, {"event": "b"}]
RULED = st.sampled_from([False, False, True])
WAITS: list[dict[str, Any]] = [
    {"for": "1s"},
    {"for": "1h"},
    {"for": "2d"},
    {"for": "1d", "at": "09:30"},
    {"on": ["tuesday", "sunday"], "at": "02:30"},
    {"for": "3h", "within": "office"},
    {"for": "12h", "counted_in": "office"},
    {"until": "2026-03-29T01:30:00", "at": "02:30"},
    {"until": "{{ contact.custom.y }}", "offset": "-1d", "at": "09:00"},
    {"until": "{{ contact.custom.y }}", "within": "office"},
]
TIMES: dict[str, Any] = {
    "calendars": {"office": {"hours": "09:00-17:00", "closed": ["2026-03-04"], "holidays": "DE"}},
    "quiet_hours": {"from": "20:00", "to": "08:00"},
    "frequency_caps": [{"at_most": 1, "per": "day"}, {"at_most": 2, "per": "3d", "otherwise": "skip"}],
    "timezone": "America/New_York",
}
DAYS = ["2026-03-03", "2026-03-29T02:30:00", "2020-01-01", "soon"]
SCALARS = st.sampled_from([None, True, 0, 1, 5, "A", "x", 2.5, [1], {"y": 1}])


@st.composite
def step(draw: st.DrawFn, name: str) -> dict[str, Any]:
    """Draw a step with exits anywhere."""
    kind = draw(st.sampled_from([*_ACTING, *_CHOOSING]))
    made: dict[str, Any] = {"id": name, "kind": kind}
    following = IDS[min(IDS.index(name) + 1, len(IDS) - 1)]
    targets = st.sampled_from([following] * 12 + [*IDS, "end"])  # mostly straight on, so that much can be reached
    if draw(st.booleans()):
        made["on_error"] = draw(st.sampled_from(["fail", "continue"]) | targets)
    if draw(st.booleans()):
        made["retry"] = {"attempts": 2, "delay": "1h"}
    return made | draw(_choosing(kind, targets) if kind in _CHOOSING else _acting(kind, targets))


_CHOOSING = ("wait", "wait", "wait", "filter", "branch", "split", "wait_for_event", "approval", "score", "exit")
_ACTING = (
    *("webhook", "message", "update", "create", "list", "agent_task", "emit_event", "enroll", "assign_owner", "goal"),
    "log",
)


@st.composite
def _choosing(draw: st.DrawFn, kind: str, targets: st.SearchStrategy[str]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    match kind:
        case "wait":
            if draw(RULED):
                made |= {"until_true": 'lead.tier == "A"', "exits": {"next": draw(targets)}}
                made |= draw(st.sampled_from([{}, {"timeout": "1h"}]))
            else:
                made |= draw(st.sampled_from(WAITS))
                names = ("next", "past", "missing") if "{{" in str(made.get("until")) else ("next",)
                made["exits"] = {name: draw(targets) for name in names}
        case "branch":
            made |= {"cases": [{"name": "one", "when": draw(CONDITIONS)}]}
            made["exits"] = {"one": draw(targets), "else": draw(targets)}
        case "filter":
            made |= {"when": draw(CONDITIONS), "exits": {"next": draw(targets)}}
            if draw(st.booleans()):
                made["exits"]["otherwise"] = draw(targets)
        case "split":
            made |= {"ways": {"a": draw(st.integers(1, 9)), "b": 1}, "exits": {"a": draw(targets), "b": draw(targets)}}
        case "wait_for_event":
            made |= {"any_of": [{"event": "a", "when": draw(CONDITIONS), "exit": "first"}, {"event": "b"}]}
            made["exits"] = {"first": draw(targets), "matched": draw(targets)}
            if draw(st.booleans()):
                made |= {"timeout": "1h", "exits": {**made["exits"], "timeout": draw(targets)}}
            if draw(st.booleans()):
                made["match"] = {"x": {"cel": "vars.n"}}
            if draw(RULED):
                made["since"] = draw(st.sampled_from(["entry", *IDS]))
        case "approval":
            made |= {"title": draw(TEXTS), "timeout": "1h"}
            made["exits"] = {"approved": draw(targets), "rejected": draw(targets)}
            if draw(st.booleans()):
                late = draw(st.sampled_from(["go_to_step", "escalate", "fail", "cancel", "approve"]))
                made |= {"on_timeout": late, "mode": "quorum", "required_count": 2, "roles": ["approver"]}
            if draw(RULED):
                made["on_reject"] = draw(st.sampled_from(["fail", "cancel"]))
                made["exits"]["timeout"] = made["exits"].pop("rejected")
                made |= {"on_timeout": "escalate", "roles": ["approver"]}
        case "score":
            made["exits"] = {"next": draw(targets), "qualified": draw(targets)}
        case "exit":
            made |= {"reason": draw(TEXTS), "result": {"a": {"cel": draw(CONDITIONS)}}}
    return made


@st.composite
def _acting(draw: st.DrawFn, kind: str, targets: st.SearchStrategy[str]) -> dict[str, Any]:
    made: dict[str, Any] = {"next": draw(targets)}
    match kind:
        case "webhook":
            made |= {"event_type": "x.y", "data": {"a": draw(TEXTS), "b": {"cel": draw(CONDITIONS)}}}
            if draw(st.booleans()):
                made = {**made, "await": True, "exits": {"delivered": draw(targets), "failed": draw(targets)}}
                del made["next"]
                made |= draw(st.sampled_from([{}, {"timeout": "1h"}, {"answer_schema": {"type": "object"}}]))
        case "message":
            by_mail = draw(st.booleans())
            made |= {"subject": draw(TEXTS)} if by_mail else {"channel": "dm", "to": draw(TEXTS)}
            made |= {"text": draw(TEXTS), "when_empty": draw(st.sampled_from(["send", "skip", "fail"]))}
            if draw(st.booleans()):
                made = {**made, "await": True, "exits": {"sent": draw(targets), "failed": draw(targets)}}
                made |= draw(st.sampled_from([{}, {"timeout": "1h"}]))
                del made["next"]
        case "update":
            made |= {"set": {"employees": {"cel": "vars.n"}, "job_title": draw(TEXTS)}}
        case "create":
            made |= {"set": {"source": draw(TEXTS)}}
        case "list":
            made |= {"add": ["one"], "remove": ["two"]}
        case "agent_task":
            made |= {"title": draw(TEXTS), "output_schema": {"type": "object"}, "timeout": "1h"}
            made["exits"] = {"answered": made.pop("next"), "timeout": draw(targets)}
        case "emit_event":
            made |= {"event": "a", "fields": {"x": {"cel": "vars.n"}}}
        case "assign_owner":
            made |= {"among": ["mem_a", "mem_b"]}
        case "enroll":
            made |= {"workflow": "other", "variables": {"n": {"cel": "vars.n"}}}
        case "goal":
            made |= {"name": "won"}
        case "log":
            made |= {"message": draw(TEXTS)}
    return made


@st.composite
def version(draw: st.DrawFn, number: int = 1, rules: st.SearchStrategy[bool] = RULED) -> Version:
    """Draw a version: whatever of a random graph can be published."""
    head: dict[str, Any] = {}
    for key in ("goals", "exit_on"):
        if draw(rules):
            head[key] = [
                {"name": "rule", **draw(st.sampled_from(RULES)), **draw(st.sampled_from([{}, {"event": "b"}]))}
            ]
    head |= {key: value for key, value in TIMES.items() if key == "calendars" or draw(rules)}
    document = {**head, "steps": [draw(step(name)) for name in IDS]}
    while True:
        compiled = compile_document(document, workflow_id="w", number=number)
        if compiled.version is not None:
            return compiled.version
        document = {**head, **_repaired(document, {problem.field for problem in compiled.problems})}


def _repaired(document: dict[str, Any], wrong: set[str]) -> dict[str, Any]:
    """Turn a step at fault into a wait, or remove it when nothing leads to it."""
    kept: list[dict[str, Any]] = []
    for index, one in enumerate(document["steps"]):
        fields = {field for field in wrong if field.startswith(f"steps[{index}]")}
        reachable = f"steps[{index}]" not in wrong or one["kind"] != "wait"
        if not fields:
            kept.append(one)
        elif reachable:
            kept.append({"id": one["id"], "kind": "wait", "for": "1h", "next": "end"})
    ids = {one["id"] for one in kept}
    for one in kept:
        if one.get("next") not in (None, "end", *ids):
            one["next"] = "end"
        one.update({"exits": {k: v if v in ids else "end" for k, v in one["exits"].items()}} if "exits" in one else {})
        if one.get("on_error") not in (None, "fail", "continue", "end", *ids):
            one["on_error"] = "continue"
    return {"steps": kept}
