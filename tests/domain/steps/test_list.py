"""The step that changes lists."""

from __future__ import annotations

from typing import Any

import pytest

from core.domain.effects import ChangeList
from core.domain.workflow.compile import compile_document
from tests.domain.machine_cases import compiled, entered, told


def test_a_contact_is_put_on_lists_and_taken_off() -> None:
    version = compiled("steps: [{id: mark, kind: list, add: [customers, vip], remove: [trial-users]}]")
    transition = entered(version)
    changes = [one for one in transition.effects if isinstance(one, ChangeList)]
    assert [(one.list_name, one.on, one.contact_id) for one in changes] == [
        ("customers", True, "cnt_1"),
        ("vip", True, "cnt_1"),
        ("trial-users", False, "cnt_1"),
    ]
    assert len({one.id for one in changes}) == 3
    assert told(transition)[1][1:] == ("ok", "The contact is on customers, vip and off trial-users.")
    assert transition.trace[1].effects == tuple(one.id for one in changes)


@pytest.mark.parametrize(
    ("config", "path", "reason", "hint"),
    [
        ({}, "add", "MISSING_KEY", "Write names"),
        ({"add": "customers"}, "add", "WRONG_TYPE", "Write names"),
        ({"add": []}, "add", "WRONG_COUNT", "Write names"),
        ({"add": [f"l{n}" for n in range(21)]}, "add", "WRONG_COUNT", "Write names"),
        ({"add": ["Beta Testers"]}, "add[0]", "BAD_NAME", "Use beta-testers."),
        ({"add": ["a", "a"]}, "add[1]", "DUPLICATE_NAME", "Name it once."),
        ({"add": ["a"], "remove": ["a"]}, "remove", "CONFLICT", "Keep one of them."),
    ],
)
def test_what_is_wrong_with_lists_is_told(config: dict[str, Any], path: str, reason: str, hint: str) -> None:
    problems = compile_document({"steps": [{"id": "a", "kind": "list", **config}]}).problems
    assert [(one.field, one.reason) for one in problems] == [(f"steps[0].{path}", reason)]
    assert problems[0].hint.startswith(hint)
