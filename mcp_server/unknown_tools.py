"""A tool that is not there: what hides it, or which one was meant, with the arguments that fit it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from mcp_server import reach
from mcp_server.corrections import LONGEST, Validate, fitting, nearest, renamed, told
from mcp_server.identifiers import shown_by
from mcp_server.refusals import Refusal

_READS = frozenset(
    "get list find search show read fetch look lookup query describe check explain view retrieve browse count".split()
)
_NOUNS: Mapping[str, tuple[str, str]] = {
    **dict.fromkeys(("contact", "lead", "company", "record", "person", "people"), ("find-records", "get-record")),
    "workflow": ("list-workflows", "get-workflow"),
    "sequence": ("list-workflows", "get-workflow"),
    "campaign": ("list-workflows", "get-workflow"),
    "enrollment": ("explain-enrollment", "get-enrollment"),
    "execution": ("get-execution", "get-execution"),
    "run": ("get-execution", "get-execution"),
    **dict.fromkeys(("delivery", "webhook"), ("find-deliveries", "find-deliveries")),
    "approval": ("list-approvals", "list-approvals"),
    "call": ("get-call", "get-call"),
}
"""What finds things of a kind, and what reads one of them."""
_WRITES: Mapping[str, str] = {
    **dict.fromkeys(
        ("create-contact", "add-contact", "upsert-contact", "create-record", "create-lead", "add-lead", "score-lead"),
        "qualify-lead",
    ),
    **dict.fromkeys(("update-contact", "edit-record", "set-field", "update-lead", "assign-owner"), "update-record"),
    **dict.fromkeys(("run-workflow", "start-workflow", "trigger-workflow"), "execute-workflow"),
    **dict.fromkeys(("add-to-workflow", "enroll-contact", "enroll-contacts", "start-sequence"), "enroll"),
    **dict.fromkeys(("unenroll", "cancel-enrollment", "remove-from-workflow", "stop-sequence"), "end-enrollment"),
    **dict.fromkeys(("publish-workflow", "deploy-workflow"), "propose-workflow"),
    **dict.fromkeys(("create-workflow", "update-workflow", "validate-workflow", "edit-workflow"), "draft-workflow"),
    **dict.fromkeys(("approve", "reject", "approve-request"), "decide-approval"),
    **dict.fromkeys(("undo", "revert", "revert-changes", "rollback"), "undo-changes"),
    **dict.fromkeys(("resend", "retry-delivery", "replay-delivery", "retry-webhook"), "redeliver"),
    **dict.fromkeys(("merge", "merge-contacts", "find-duplicates", "list-duplicates"), "merge-records"),
    "cancel-execution": "undo-changes",
    "list-tasks": "claim-task",
}
"""What other programs call the tools that change something."""

Taking = Callable[[str], tuple[Mapping[str, Any], Validate]]
"""Returns the schema of a tool, and what checks arguments against it."""


def unknown_tool(name: str, given: Mapping[str, Any], known: Mapping[str, bool], taking: Taking) -> Refusal:
    """Refuse a tool that is not there; `known` are those that are, and whether they only read.

    One that exists elsewhere is told by what hides it, and no other is proposed in its place. What reads is never
    answered with what writes.
    """
    plain = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name[:LONGEST]).replace("_", "-").lower()
    for one in (name, plain):
        if why := reach.missing(one):
            return Refusal(
                reason="UNKNOWN_TOOL",
                message=f"{one} is not here: a call of it {why}.",
                next="Tell the person; do not try another tool in its place.",
            )
    near = _meant(plain, given, known)
    if not near:
        shown = next(filter(None, map(shown_by, given.values())), "")
        return Refusal(
            reason="UNKNOWN_TOOL",
            message=f"There is no tool {name[:80]}.",
            hint=f"Tools: {', '.join(sorted(known))}.",
            next=shown or "tools/list",
        )
    schema, validate = taking(near)
    arguments, _ = renamed(given, near, schema)
    return Refusal(
        reason="UNKNOWN_TOOL",
        message=f"There is no tool {name[:80]}.",
        hint=f"Did you mean {near}?",
        next=told(near, fitting(arguments, validate, schema), {}),
    )


def _meant(plain: str, given: Mapping[str, Any], known: Mapping[str, bool]) -> str:
    if plain in known:
        return plain
    if _WRITES.get(plain, "") in known:
        return _WRITES[plain]
    parts = plain.split("-")
    reads = parts[0] in _READS
    if near := nearest(plain, [one for one, only_reads in known.items() if only_reads or not reads]):
        return near
    if reads:
        one = any(name.endswith("_id") or name == "id" for name in given)
        nouns = [re.sub("ies$", "y", part).removesuffix("s") for part in parts]
        found = next((_NOUNS[noun][one] for noun in nouns if noun in _NOUNS), "")
        return found if found in known else ""
    writing = [one for one, only_reads in known.items() if not only_reads]
    return nearest(plain, writing, cutoff=0.6)
