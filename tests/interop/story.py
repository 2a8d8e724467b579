"""The flagship story as calls to make one after the other, for whatever program makes them; standard library only.

It knows what the texts of the answers say, as models do: ids and versions are read there, and `next` is followed.

A client process gets a `Spec` as JSON, makes the calls, and prints what it came to as JSON (`told`).
"""

from __future__ import annotations

import json
import re
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
TRUST = {
    "id": "approver-by-agent",
    "description": "The approver's agent decides without asking each time",
    "methods": ["ApprovalService.DecideApproval"],
    "when": 'principal.role == "approver"',
    "effect": "allow",
    "enabled": True,
}
"""The policy by which clients may decide that cannot ask their person."""
SECONDS = 60.0
"""The longest that a client waits for an answer."""

Answer = str
"""What a model reads: the text of a result. Structured content is not looked at."""


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
        self.result: dict[str, str] = {}
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


def _story() -> Generator[Call, Answer, dict[str, str]]:
    """Yield the calls; return what the records are after the last one."""
    listed = yield Call(AGENT, "list-workflows", {})
    _expect(WORKFLOW in listed, listed)

    plan = yield Call(AGENT, "qualify-lead", {"email": LEAD})
    _expect("is needs_approval" in plan and "tier A" in plan, plan)
    waiting = yield _following(AGENT, plan, reason="asked for a demo")
    _expect(waiting.startswith("NOT APPLIED"), waiting)

    approvals = yield Call(APPROVER, "list-approvals", {"state": "pending"})
    decision = {
        "approval_id": _the(r"^(apr_\w+) pending", approvals),
        "subject_hash": _the(r"subject_hash (sha256:\w+)", approvals),
        "decision": "approve",
    }
    shown = yield Call(APPROVER, "decide-approval", decision)
    _expect(shown.startswith("PREVIEW"), shown)
    decided = yield _following(APPROVER, shown)
    _expect(" is approved" in decided, decided)

    done = yield _following(AGENT, waiting)
    _expect(done.startswith("DONE"), done)
    contact = _the(r"\b(cnt_\w+)", done)

    record = yield Call(AGENT, "get-record", {"record_id": contact})
    version = _the(r" version (\d+)", record)
    change = {"record_id": contact, "fields": {"first_name": "Jane"}, "if_version": version}
    seen = yield Call(AGENT, "update-record", {**change, "reason": "said so on the phone"})
    _expect(seen.startswith("PREVIEW"), seen)
    changed = yield _following(AGENT, seen)
    _expect(f"version {int(version) + 1}" in changed, changed)

    preview = yield Call(AGENT, "enroll", {"workflow_id": WORKFLOW, "contacts": [{"email": LEAD}]})
    _expect("would enroll 1 of 1" in preview, preview)
    enrolled = yield _following(AGENT, preview)
    _expect(enrolled.startswith("DONE"), enrolled)

    run = {"workflow_id": EXECUTED, "input": {"email": LEAD, "about": "the demo"}}
    ready = yield Call(AGENT, "execute-workflow", run)
    execution = started = yield _following(AGENT, ready)
    execution_id = _the(r"\b(exe_\w+)", started)
    for _ in range(6):
        if f"{execution_id} succeeded" in execution:
            break
        execution = yield Call(AGENT, "get-execution", {"execution_id": execution_id, "wait": 10})
    _expect(f"{execution_id} succeeded" in execution and "the demo" in execution, execution)
    return {
        "lead_id": _the(r"\b(lead_\w+) is qualified", done),
        "contact_id": contact,
        "enrollment_id": _the(r"^\+ (enr_\w+)", enrolled),
        "execution_id": execution_id,
    }


def _following(who: str, answer: Answer, **more: Any) -> Call:
    """Return the call that an answer names as the next one."""
    line = next(line for line in answer.splitlines() if line.startswith("next: "))
    found = re.search(r"([a-z]+(?:-[a-z]+)*) (\{.*\})", line)
    _expect(found is not None, answer)
    return Call(who, found[1], {**json.loads(found[2]), **more}) if found else Call(who, "", {})


def _the(pattern: str, answer: Answer) -> str:
    """Return what an answer says in a place."""
    found = re.search(pattern, answer, re.MULTILINE)
    _expect(found is not None, answer)
    return found[1] if found else ""


def _expect(holds: bool, seen: Any) -> None:
    if not holds:
        raise AssertionError(f"the story goes another way: {seen}")


def text_of(content: Any) -> Answer:
    """Return the text that a model reads of a result, in whichever of their forms a framework hands it over."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(text_of(part) for part in content)
    return str(content["text"] if isinstance(content, dict) else content.text)


async def played(story: Story, who: str, call: Callable[[str, dict[str, Any]], Awaitable[Answer]]) -> None:
    """Make this principal's calls until the next one is somebody else's, or the story is over."""
    while (pending := story.whose(who)) is not None:
        story.answered(await call(pending.tool, pending.arguments))


def told(story: Story, protocol: str, **more: Any) -> None:
    """Print what the story came to; `protocol` is the revision that was agreed on, if the framework tells."""
    print(json.dumps({"calls": story.made, "protocol": protocol, "result": story.result, **more}))
