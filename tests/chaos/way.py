"""Whether a trace is a way through the graph of its versions, read as a person would read it: entry by entry."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from core.domain.trace import BESIDE
from core.domain.workflow.version import Version

RUNNING = ("active", "awaiting_approval")
_ENTERED = re.compile(r"Enrolled by .+ into version (\d+)\.")
_MOVED = re.compile(r"Moved by .+ from version \d+ to (\d+), from (\S+) to (\S+); its? ")
_AGAIN = re.compile(r".+ lets (\S+) be tried again\.")
_TRIED_AGAIN = "the next is at"
"""What the reason of a failure says when another try follows."""


def wrong_turns(versions: Mapping[int, Version], enrollment: Any, entries: Sequence[Any]) -> Iterator[str]:
    """Yield what is wrong with the trace of an enrollment, be they rows or domain objects."""
    seqs = [entry.seq for entry in entries]
    if seqs != list(range(1, enrollment.trace_count + 1)):
        yield f"{enrollment.id} counts {enrollment.trace_count} entries and has {seqs}"
        return
    number, expected = 0, ""
    for entry in entries:
        if entry.kind in BESIDE:
            continue
        told = f"{enrollment.id} entry {entry.seq} ({entry.kind} {entry.step_id}, {entry.outcome})"
        if entry.kind == "enrollment" and entry.outcome == "entered":
            number, expected, wrong = _begins(versions, entry, number, expected)
            if wrong:
                yield f"{told}: {wrong}"
            continue
        if expected == "over":
            yield f"{told} comes after the end"
            return
        through = entry.kind == "enrollment" and entry.reason.startswith("Went through")
        if (expected != "end") if through else (entry.step_id != expected):
            yield f"{told} stands where the way leads to {expected}"
        if entry.outcome == "ended" or entry.kind in ("engine", "step"):
            expected = "over"
            continue
        node = versions[number].steps.get(entry.step_id)
        if node is None or node.step.kind != entry.kind:
            yield f"{told} is no step of version {number}"
            return
        expected = _leads_to(node, entry, expected)
    over = enrollment.state not in RUNNING
    if (expected == "over") != over:
        yield f"{enrollment.id} is {enrollment.state}, and its trace {'goes on' if over else 'is over'}"
    if expected not in ("over", enrollment.step_id):
        yield f"{enrollment.id} stands at {enrollment.step_id}, and its trace leads to {expected}"
    if number != enrollment.version:
        yield f"{enrollment.id} has version {enrollment.version}, and its trace {number}"


def fails(entry: Any) -> bool:
    """Tell whether an entry says that the enrollment failed for good."""
    final = not entry.exit and _TRIED_AGAIN not in entry.reason
    return entry.outcome == "failed" and final and entry.kind not in BESIDE


def _leads_to(node: Any, entry: Any, expected: str) -> str:
    if entry.exit:
        return str(node.exits.get(entry.exit, "end"))
    if fails(entry):
        return "over" if node.on_error == "fail" else "end"
    return expected


def _begins(versions: Mapping[int, Version], entry: Any, number: int, expected: str) -> tuple[int, str, str]:
    """Return version and step after an entry that begins something, and what is wrong with it."""
    if first := _ENTERED.fullmatch(entry.reason):
        number = int(first[1])
        start = versions[number].entry
        return number, start, "" if entry.seq == 1 and entry.step_id == start else "nobody enters here"
    if moved := _MOVED.match(entry.reason):
        return int(moved[1]), moved[3], "" if expected == moved[2] else f"the way had led to {expected}"
    if again := _AGAIN.fullmatch(entry.reason):
        return number, again[1], "" if expected == "over" else "nothing had failed"
    return number, expected, f"nobody knows what it begins: {entry.reason}"
