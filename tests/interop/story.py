"""The flagship story as calls to make one after the other, for whatever program makes them; standard library only.

A client process gets a `Spec` as JSON, makes the calls, and prints what it came to as JSON (`told`).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass, field
from typing import Any

AGENT, APPROVER = "agent", "approver"
LEAD, WORKFLOW, EXECUTED = "jane@example.com", "inbound-nurture", "brief"
BRIEF = """
title: Brief the salesperson
steps:
  - {id: noted, kind: log, message: "{{ contact.email }} asks about {{ vars.about }}"}
  - {id: done, kind: exit, reason: briefed, result: {about: "{{ vars.about }}"}}
"""
"""The workflow that is executed."""
REQUEST = {
    "event_type": "lead",
    "event_name": "demo.requested",
    "source_id": "website",
    "fields": {"email": LEAD, "job_title": "Head of Revenue", "employees": 120, "country": "DE"},
}
"""How the lead comes in."""
SECONDS = 60.0
"""The longest that a client waits for an answer."""

Answer = dict[str, Any]


@dataclass(frozen=True)
class Call:
    """A tool call, and whose it is."""

    who: str
    tool: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Door:
    """How one principal reaches the server: by `url` and `key`, or by a command on standard input and output."""

    url: str = ""
    key: str = ""
    command: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)

    @property
    def headers(self) -> dict[str, str]:
        """Return what each request over HTTP carries."""
        return {"Authorization": f"Bearer {self.key}"}


@dataclass(frozen=True)
class Spec:
    """What a client process is to do."""

    mode: str
    """The protocol's era, as clients of the SDK call it: `auto` or `legacy`."""
    doors: dict[str, Door]


def spec() -> Spec:
    """Return what this process was told to do."""
    given = json.loads(sys.argv[1])
    return Spec(given["mode"], {who: Door(**door) for who, door in given["doors"].items()})


class Story:
    """The calls still to make: `pending` is the next one, None when the story is over."""

    def __init__(self) -> None:
        self._calls = _story()
        self.made = 0
        self.result: Answer = {}
        self.pending: Call | None = next(self._calls)

    def answered(self, answer: Answer) -> None:
        """Take the answer of the pending call."""
        self.made += 1
        try:
            self.pending = self._calls.send(answer)
        except StopIteration as ended:
            self.pending, self.result = None, ended.value

    def whose(self, who: str) -> Call | None:
        """Return the pending call if it is this principal's."""
        return self.pending if self.pending is not None and self.pending.who == who else None


def _story() -> Generator[Call, Answer, Answer]:
    """Yield the calls; return what the records are after the last one."""
    listed = yield Call(AGENT, "list-workflows", {})
    _expect(WORKFLOW in {one["workflow_id"] for one in listed["workflows"]}, listed)

    plan = yield Call(AGENT, "qualify-lead", {"email": LEAD})
    _expect((plan["decision"], plan["tier"]) == ("needs_approval", "A"), plan)
    commit = {"plan_id": plan["plan_id"], "mode": "commit", "reason": "asked for a demo"}
    waiting = yield Call(AGENT, "qualify-lead", {**commit, "idempotency_key": "q1"})
    _expect(waiting["applied"] is False, waiting)

    approvals = (yield Call(APPROVER, "list-approvals", {"state": "pending"}))["approvals"]
    _expect(len(approvals) == 1, approvals)
    decision = {
        "approval_id": approvals[0]["approval_id"],
        "subject_hash": approvals[0]["subject_hash"],
        "decision": "approve",
    }
    shown = yield Call(APPROVER, "decide-approval", decision)
    _expect(shown["mode"] == "preview", shown)
    decided = yield Call(APPROVER, "decide-approval", {**decision, "mode": "commit", "idempotency_key": "a1"})
    _expect(decided["state"] == "approved", decided)

    done = yield Call(AGENT, "qualify-lead", {**commit, "idempotency_key": "q2"})
    _expect(done["applied"] is True, done)

    change = {"record_id": done["contact_id"], "fields": {"first_name": "Jane"}, "reason": "said so on the phone"}
    seen = yield Call(AGENT, "update-record", change)
    _expect(seen["mode"] == "preview", seen)
    record = yield Call(AGENT, "get-record", {"record_id": done["contact_id"]})
    change["if_version"] = record["version"]
    changed = yield Call(AGENT, "update-record", {**change, "mode": "commit", "idempotency_key": "u1"})
    _expect(changed["version"] != record["version"], changed)

    enroll = {"workflow_id": WORKFLOW, "contacts": [{"email": LEAD}]}
    preview = yield Call(AGENT, "enroll", enroll)
    _expect((preview["enrolled_count"], preview["enrolled"]) == (1, []), preview)
    enrolled = yield Call(AGENT, "enroll", {**enroll, "mode": "commit", "idempotency_key": "e1"})
    _expect(len(enrolled["enrolled"]) == 1, enrolled)

    run = {"workflow_id": EXECUTED, "input": {"email": LEAD, "about": "the demo"}}
    yield Call(AGENT, "execute-workflow", run)
    started = yield Call(AGENT, "execute-workflow", {**run, "mode": "commit", "idempotency_key": "x1"})
    execution = started
    for _ in range(6):
        if execution["state"] not in ("running", "waiting"):
            break
        watch = {"execution_id": started["execution_id"], "wait": 10}
        execution = yield Call(AGENT, "get-execution", watch)
    _expect(execution["state"] == "succeeded", execution)
    return {
        "lead_id": done["lead_id"],
        "contact_id": done["contact_id"],
        "enrollment_id": enrolled["enrolled"][0]["enrollment_id"],
        "execution_id": started["execution_id"],
    }


def _expect(holds: bool, seen: Any) -> None:
    if not holds:
        raise AssertionError(f"the story goes another way: {seen}")


async def played(story: Story, who: str, call: Callable[[str, dict[str, Any]], Awaitable[Answer]]) -> None:
    """Make this principal's calls until the next one is somebody else's, or the story is over."""
    while (pending := story.whose(who)) is not None:
        story.answered(await call(pending.tool, pending.arguments))


def told(story: Story, protocol: str, **more: Any) -> None:
    """Print what the story came to; `protocol` is the revision that was agreed on, if the framework tells."""
    print(json.dumps({"calls": story.made, "protocol": protocol, "result": story.result, **more}))
