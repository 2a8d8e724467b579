#!/usr/bin/env python3
"""Tell what differs between the preview that a person agreed to and the one that a commit would carry out now.

Takes two structured answers of one tool as JSON files. What changes from preview to preview by itself is left out:
`next`, keys, plan ids, versions, expiry times. Prints {"same": …, "differences": [{path, before, after}]}.
Exit code 0: the same, the agreement still holds; 1: show it again; 2: not readable.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

IGNORED = (
    "next", "idempotency_key", "plan_id", "plan_expires", "etag", "version", "if_version", "replayed", "mode", "undo",
)  # fmt: skip
NAMES = (
    "record_id", "rule_id", "fact", "contact", "contact_id", "enrollment_id", "delivery_id", "step_id", "id", "path",
)  # fmt: skip
MOST = 200


def differences(before: Any, after: Any, path: str = "") -> list[dict[str, Any]]:
    """Return every place where two answers differ."""
    if isinstance(before, dict) and isinstance(after, dict):
        keys = [*before, *(key for key in after if key not in before)]
        return [
            one
            for key in keys
            if key not in IGNORED
            for one in differences(before.get(key), after.get(key), f"{path}.{key}" if path else key)
        ]
    if isinstance(before, list) and isinstance(after, list):
        return _lists(before, after, path)
    same = before == after and isinstance(before, bool) == isinstance(after, bool)
    return [] if same else [{"path": path, "before": before, "after": after}]


def _lists(before: list[Any], after: list[Any], path: str) -> list[dict[str, Any]]:
    """Compare entries by what names them, so that one more at the front is one difference; else by their place."""
    first, second = _named(before), _named(after)
    if first is None or second is None:
        first = {str(place): entry for place, entry in enumerate(before)}
        second = {str(place): entry for place, entry in enumerate(after)}
    names = [*first, *(name for name in second if name not in first)]
    return [one for name in names for one in differences(first.get(name), second.get(name), f"{path}[{name}]")]


def _named(entries: list[Any]) -> dict[str, Any] | None:
    found: dict[str, Any] = {}
    for entry in entries:
        if not isinstance(entry, dict):
            return None
        name = " ".join(str(entry[key]) for key in (*NAMES, "field") if entry.get(key) not in (None, ""))
        if not name or name in found:
            return None
        found[name] = entry
    return found


def main() -> int:
    """Run the command line and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", help="the answer that the person saw, as JSON")
    parser.add_argument("after", help="the answer of the new preview, as JSON")
    given = parser.parse_args()
    answers = []
    try:
        for name in (given.before, given.after):
            with open(name, encoding="utf-8") as file:
                answers.append(json.load(file))
    except (OSError, ValueError, RecursionError) as error:
        print(json.dumps({"same": False, "error": str(error)}))
        return 2
    found = differences(*answers)
    told = {"same": not found, "count": len(found), "differences": found[:MOST]}
    print(json.dumps(told, ensure_ascii=False, indent=2))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
