"""Nothing leaves a simulation: no row, message, socket, file or thread; and what was given stays as it was."""

from __future__ import annotations

import copy
import sys
import threading
from typing import Any

from tests.simulation.cases import people, tried

EVERYTHING = """
steps:
  - {id: hook, kind: webhook, event_type: a.b, await: true, exits: {delivered: mail, failed: mail}}
  - {id: mail, kind: message, subject: Hi, text: Hello, await: true, exits: {sent: ask, failed: ask}}
  - {id: ask, kind: approval, title: May I?, exits: {approved: think, rejected: think}}
  - {id: think, kind: agent_task, title: Think, output_schema: {type: object}}
  - {id: set, kind: update, set: {lifecycle_stage: engaged, custom.x: 1}}
  - {id: lead, kind: create, set: {status: new}}
  - {id: put, kind: list, add: [club]}
  - {id: say, kind: emit_event, event: a.c}
  - {id: rate, kind: score}
  - {id: give, kind: assign_owner, among: [mem_a]}
  - {id: other, kind: enroll, workflow: other}
  - {id: note, kind: log, message: done}
"""
_OUTSIDE = (
    "socket.",
    "sqlite3.",
    "subprocess.",
    "os.system",
    "os.posix_spawn",
    "os.fork",
    "urllib.",
    "smtplib.",
    "open",
)
_heard: list[str] = []


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if _listening.is_set() and event.startswith(_OUTSIDE):
        writes = event != "open" or any(letter in str(arguments[1] or "r") for letter in "wax+")
        if writes and threading.get_ident() == _thread[0]:
            _heard.append(f"{event} {arguments}")


_listening = threading.Event()
_thread = [0]


def test_nothing_leaves_the_process_and_nothing_given_is_changed() -> None:
    sys.addaudithook(_hear)  # stays for good, and is deaf but for this test
    subjects = people(5)
    before = copy.deepcopy(subjects)
    _thread[0] = threading.get_ident()
    threads = threading.active_count()
    _listening.set()
    try:
        found = tried(EVERYTHING, subjects, assume={"qualify": {"decision": "qualified", "score": 9}})
    finally:
        _listening.clear()
    assert found.states == {"completed": 5}
    assert (found.messages_sent, found.webhooks, found.emitted) == (5, {"a.b": 5}, {"a.c": 5})
    assert _heard == []
    assert threading.active_count() == threads
    assert subjects == before
