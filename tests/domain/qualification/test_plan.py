from __future__ import annotations

import pytest

from core.domain.control.digest import digest
from core.domain.qualification.plan import difference

PLAN = {"score": 70, "tier": "A", "owner_id": "mem_1", "contributions": [["size", 70]], "changes": []}


def test_the_hash_does_not_depend_on_the_order_of_keys() -> None:
    assert digest(PLAN) == digest(dict(reversed(PLAN.items())))
    assert digest(PLAN).startswith("sha256:")
    assert digest(PLAN) != digest({**PLAN, "score": 71})


@pytest.mark.parametrize(
    ("change", "clause"),
    [
        ({}, ""),
        ({"score": 75}, "score was 70, is 75"),
        ({"score": 75, "contributions": [["size", 75]]}, "score was 70, is 75"),
        ({"owner_id": "mem_2"}, "the owner has changed"),
        ({"tier": ""}, "tier was A, is none"),
        ({"changes": [["lead_1", "status", None, "qualified"]]}, "what would be set has changed"),
    ],
)
def test_a_stale_plan_says_what_changed(change: dict[str, object], clause: str) -> None:
    assert difference(PLAN, {**PLAN, **change}) == clause
