"""Random workflows and what happens to their contacts, for comparing the simulation with the engine."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

IDS = [f"s{number}" for number in range(7)]
EVENTS = ("a", "b")
CONDITIONS = st.sampled_from(
    [
        'lead.tier == "A"',
        "lead.score > 40",
        "contact.employees > 3",
        "event.fields.x == 1",
        'contact.job_title == "CTO"',
        'contact.lifecycle_stage == "engaged"',
        '"club" in contact.lists',
        "has(contact.custom.n) && contact.custom.n > 1",
        "moment(contact.custom.day) > now",
    ]
)
TEXTS = st.sampled_from(
    ["x", "{{ contact.email }}", "{{ event.fields.x | plus: 1 }}", "{{ 1 | divided_by: event.fields.x }}"]
)
VALUES = st.sampled_from([None, 0, 1, 2, "A", "x", 2.5, [1], {"y": 1}])
HOLDING = ("wait", "wait", "wait_for_event", "approval", "agent_task", "webhook", "message")
PASSING = (
    *("branch", "filter", "split", "update", "update", "create", "list", "emit_event", "score", "assign_owner"),
    *("enroll", "goal", "log", "webhook", "message"),
)


SOMETIMES = st.sampled_from([False, False, True])


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a document that can be published: every other step holds, and only those that hold lead back."""
    made: dict[str, Any] = {"circuit_breaker": "off", "timezone": draw(st.sampled_from(["", "America/New_York"]))}
    made["calendars"] = {"office": {"hours": "09:00-17:00", "closed": ["2026-03-04"]}}
    made["steps"] = [draw(_step(name, number)) for number, name in enumerate(IDS)]
    if draw(SOMETIMES):
        made["goals"] = [draw(_rule("reached"))]
    if draw(SOMETIMES):
        made["exit_on"] = [draw(_rule("left"))]
    if draw(SOMETIMES):
        made["quiet_hours"] = {"from": "20:00", "to": "08:00"}
    if draw(SOMETIMES):
        caps: dict[str, Any] = {"at_most": 1, "per": draw(st.sampled_from(["day", "2d", "week"]))}
        made["frequency_caps"] = caps | draw(st.sampled_from([{}, {"otherwise": "skip"}, {"channel": "dm"}]))
    if draw(SOMETIMES):
        made["entry"] = {"when": draw(CONDITIONS)}
    if draw(SOMETIMES):
        made["triggers"] = draw(st.lists(_trigger(), min_size=1, max_size=2))
        made["reentry"] = draw(st.sampled_from(["once", "after_exit", "after_interval", "concurrent_by_key"]))
        if made["reentry"] == "after_interval":
            made["reentry_interval"] = "1d"
        if made["reentry"] == "concurrent_by_key":
            made["key"] = "string(event.fields.x)"
    return made


@st.composite
def _trigger(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a way in: the clock's strike at odd minutes, so that nothing else is due at that instant."""
    when = {"when": draw(CONDITIONS)} if draw(SOMETIMES) else {}
    of_records = CONDITIONS.filter(lambda one: "event" not in one and "now" not in one)
    audience = draw(st.sampled_from([{"filter": "employees >= 3"}, {"list": "club"}, {"filter": "employees < 20"}]))
    return draw(
        st.sampled_from(
            [
                {"event": "a", **when},
                {"source": "web", **when},
                {"source": "Web form", "event": "b"},
                {"record": "contact", "on": "changed", "fields": ["job_title", "custom"]},
                {"record": "contact", "on": "either", "when": "before.job_title != contact.job_title"},
                {"record": "lead", "on": draw(st.sampled_from(["created", "changed", "either"]))},
                {"segment": draw(of_records)},
                {"schedule": {"cron": "17 9 * * tue"}, "audience": audience},
                {"schedule": {"cron": "23 11 * * wed-thu", "timezone": "Asia/Tokyo"}, "audience": audience},
                {"pool": {"per_day": 1, "at": "10:41"}, "audience": audience},
            ]
        )
    )


@st.composite
def _rule(draw: st.DrawFn, name: str) -> dict[str, Any]:
    made: dict[str, Any] = {"name": name}
    if draw(st.booleans()):
        made["event"] = draw(st.sampled_from(EVENTS))
    if "event" not in made or draw(st.booleans()):
        made["when"] = draw(CONDITIONS)
    return made


@st.composite
def _step(draw: st.DrawFn, name: str, number: int) -> dict[str, Any]:
    holds = number % 2 == 1
    following = IDS[number + 1] if number + 1 < len(IDS) else "end"
    forward = [*IDS[number + 1 :], "end"]
    kind = draw(st.sampled_from(HOLDING if holds else PASSING if forward != ["end"] else (*PASSING, "exit")))
    targets = st.sampled_from([following] * 4 + (IDS if holds else []) + forward)
    config = draw(_holding(kind, targets) if holds else _passing(kind, targets))
    made: dict[str, Any] = {"id": name, "kind": kind, **config}
    if "next" in made:
        made["next"] = following
    if "exits" in made:
        made["exits"][next(iter(made["exits"]))] = following
    if "until" in made or "until_true" in made:  # a date may be past, a condition may hold: neither is sure to hold
        made["exits"] = {name: to if to in forward else following for name, to in made["exits"].items()}
    leads_back = any(to in IDS[: number + 1] for to in made.get("exits", {}).values())
    if draw(SOMETIMES) and not leads_back:  # a wait that fails does not hold
        made["on_error"] = draw(st.sampled_from(["fail", "continue", *IDS[number + 1 :]]))
    if draw(SOMETIMES):
        made["retry"] = {"attempts": 2, "delay": "3h"}
    return made


@st.composite
def _holding(draw: st.DrawFn, kind: str, targets: st.SearchStrategy[str]) -> dict[str, Any]:
    match kind:
        case "wait":
            waits = [
                {"for": "6h"},
                {"for": "1d"},
                {"at": "09:00"},
                {"for": "1d", "at": "10:30"},
                {"on": ["tuesday"], "at": "08:00"},
                {"until": "{{ contact.custom.day }}", "offset": draw(st.sampled_from(["2h", "-1d"]))},
                {"until": {"cel": "moment(contact.custom.day)"}, "at": "09:00"},
                {"for": "3h", "within": "office"},
                {"for": "5h", "counted_in": "office"},
                {"until": "2026-03-05T10:00:00Z", "at": "09:30", "within": "office"},
                {"until_true": draw(CONDITIONS.filter(lambda one: "event" not in one)), "timeout": "1d"},
            ]
            config = draw(st.sampled_from(waits))
            ways = {"until": ("next", "missing", "past"), "until_true": ("next", "timeout")}
            exits = {name: draw(targets) for key, names in ways.items() if key in config for name in names}
            return {**config, "exits": exits} if exits else {**config, "next": draw(targets)}
        case "wait_for_event":
            if draw(st.booleans()):
                made: dict[str, Any] = {"event": draw(st.sampled_from(EVENTS)), "exits": {"matched": draw(targets)}}
            else:
                made = {"any_of": [{"event": "a", "when": draw(CONDITIONS), "exit": "first"}, {"event": "b"}]}
                made["exits"] = {"first": draw(targets), "matched": draw(targets)}
            if draw(SOMETIMES):
                made["since"] = draw(st.sampled_from(["entry", *IDS[:3]]))
            if draw(SOMETIMES):
                made["match"] = {"x": {"cel": draw(st.sampled_from(["1", "event.fields.x", "contact.employees"]))}}
            return {**made, "timeout": "1d", "exits": {**made["exits"], "timeout": draw(targets)}}
        case "approval":
            timeout = {"timeout": "1d"} if draw(st.booleans()) else {}
            exits = {"approved": draw(targets), "rejected": draw(targets)}
            if timeout:
                choices = ("go_to_step", "escalate", "fail", "cancel", "approve")
                timeout |= {"on_timeout": draw(st.sampled_from(choices)), "roles": ["approver"]}
                if timeout["on_timeout"] in choices[:2]:
                    exits["timeout"] = draw(targets)
            asked: dict[str, Any] = {"title": draw(TEXTS), **timeout, "exits": exits}
            if draw(SOMETIMES):
                asked["on_reject"] = draw(st.sampled_from(["fail", "cancel"]))
                del exits["rejected"]
            return asked
        case "agent_task":
            schema = {"type": "object", "properties": {"mood": {"enum": ["good", "bad"]}}, "required": ["mood"]}
            return {
                "title": draw(TEXTS),
                "output_schema": schema,
                "exits": {"answered": draw(targets), "timeout": draw(targets)},
            }
        case "webhook":
            exits = {"delivered": draw(targets), "failed": draw(targets)}
            made = {"event_type": "x.y", "data": {"a": draw(TEXTS)}, "await": True, "exits": exits}
            schema = {"properties": {"mood": {"enum": ["good", "bad"]}}, "required": ["mood"]}
            return {**made, **_timeout(draw, exits, targets), **({"answer_schema": schema} if draw(SOMETIMES) else {})}
        case _:
            exits = {"sent": draw(targets), "failed": draw(targets)}
            return {**_message(draw), "await": True, **_timeout(draw, exits, targets), "exits": exits}


def _timeout(draw: st.DrawFn, exits: dict[str, str], targets: st.SearchStrategy[str]) -> dict[str, Any]:
    """Draw a time limit, or none, and where it leads."""
    if not draw(SOMETIMES):
        return {}
    exits["timeout"] = draw(targets)
    return {"timeout": draw(st.sampled_from(["2h", "1d"]))}


def _message(draw: st.DrawFn) -> dict[str, Any]:
    on = draw(st.sampled_from([{"subject": "Hi"}, {"subject": "{{ contact.city }}"}, {"channel": "dm", "to": "@x"}]))
    empty = {"when_empty": draw(st.sampled_from(["send", "skip", "fail"]))} if draw(SOMETIMES) else {}
    held = {draw(st.sampled_from(["ignore_caps", "ignore_quiet_hours"])): True} if draw(SOMETIMES) else {}
    return {"text": draw(TEXTS), **on, **empty, **held}


@st.composite
def _passing(draw: st.DrawFn, kind: str, targets: st.SearchStrategy[str]) -> dict[str, Any]:
    following = {"next": draw(targets)}
    match kind:
        case "branch":
            cases = [{"name": "one", "when": draw(CONDITIONS)}, {"name": "two", "when": draw(CONDITIONS)}]
            return {"cases": cases, "exits": {name: draw(targets) for name in ("one", "two", "else")}}
        case "filter":
            return {"when": draw(CONDITIONS), "exits": {"next": draw(targets), "otherwise": draw(targets)}}
        case "split":
            return {"ways": {"a": 1, "b": 2}, "by": "contact", "exits": {"a": draw(targets), "b": draw(targets)}}
        case "update":
            fields = [
                {"lifecycle_stage": "engaged"},
                {"job_title": "{{ event.fields.x }}"},
                {"custom.n": {"cel": "event.fields.x"}},
                {"lifecycle_stage": None, "custom.deep.er": 1},
                {"custom.day": "2026-03-05"},
                {"custom.day": {"cel": "event.fields.day"}},
            ]
            return (
                draw(st.sampled_from([{"set": one} for one in fields] + [{"record": "lead", "set": {"tier": "A"}}]))
                | following
            )
        case "create":
            return {"set": {"status": "new", "score": {"cel": "event.fields.x"}}, **following}
        case "list":
            return {draw(st.sampled_from(["add", "remove"])): ["club"], **following}
        case "emit_event":
            return {"event": draw(st.sampled_from(EVENTS)), "fields": {"x": draw(st.sampled_from([1, 2]))}, **following}
        case "score":
            return {"exits": {"next": draw(targets), "qualified": draw(targets)}}
        case "assign_owner":  # one alone: whose turn it is among contacts of the same instant is left open
            return {"among": ["mem_a"], "record": draw(st.sampled_from(["contact", "lead"])), **following}
        case "enroll":
            return {"workflow": "other", "exits": {"next": draw(targets), "not_enrolled": draw(targets)}}
        case "goal":
            return {"name": "got here", **following}
        case "log":
            return {"message": draw(TEXTS), **following}
        case "webhook":
            return {"event_type": "x.y", "data": {"a": draw(TEXTS), "b": {"cel": "event.fields.x"}}, **following}
        case "message":
            return {**_message(draw), **following}
        case _:
            return {"reason": draw(TEXTS)}


DAYS = st.sampled_from(["2026-03-03", "2026-03-04T10:00:00Z", "2026-03-05T01:00:00", "soon"])

CONTACTS = st.lists(
    st.fixed_dictionaries(
        {"employees": st.integers(1, 8)},
        optional={
            "job_title": st.sampled_from(["CTO", "VP"]),
            "timezone": st.sampled_from(["Asia/Tokyo", "Europe/Paris"]),
            "custom": st.fixed_dictionaries({"day": DAYS}),
            "unsubscribed": st.sampled_from([False, False, False, True]),
            "lead": st.fixed_dictionaries({"score": st.integers(0, 100)}, optional={"tier": st.sampled_from("AB")}),
        },
    ),
    min_size=3,
    max_size=3,
)
HAPPENINGS = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from((*EVENTS, "lead.came")),
        st.dictionaries(st.sampled_from(["x", "job_title"]), VALUES, max_size=2) | st.fixed_dictionaries({"day": DAYS}),
    ),
    min_size=4,
    max_size=8,
)
"""Whose, what, and with which fields; when follows from the position."""

ASSUMPTIONS = st.fixed_dictionaries(
    {
        "approvals": st.sampled_from(["approve", {"approve": 0.4, "reject": 0.4, "after": ["1h", "2d"]}, "none"]),
        "deliveries": st.sampled_from(["delivered", {"delivered": 0.5, "failed": 0.3, "after": ["1m", "1d"]}]),
        "messages": st.sampled_from(["sent", {"sent": 0.5, "failed": 0.5, "after": ["1m", "1d"]}]),
        "tasks": st.sampled_from(["answered", "none", {"answered": 0.7, "after": ["1m", "1d"]}]),
    },
    optional={"qualify": st.sampled_from([{"decision": "qualified", "score": 80, "tier": "A"}, "none"])},
)
