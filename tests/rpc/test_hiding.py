"""What a key with hidden fields is shown of approvals and plans: that they are there, and why, but no value."""

from __future__ import annotations

from typing import Any

import pytest

from core.domain.control.key_limits import KeyLimits
from core.rpc.admission.hiding import shown
from core.rpc.convert import from_struct, to_struct
from dripstone.v1 import approval_pb2, plan_pb2

NO_PHONE = KeyLimits(hidden_fields=frozenset({"contact.phone"}))
PHONE = "+4930123456"


@pytest.mark.parametrize(
    ("kind", "details", "kept"),
    [
        (
            "call",
            {"reason": "Two look", "request": {"fields": {"phone": PHONE}}, "changes": {"phone": {"new": PHONE}}},
            {"reason": "Two look"},
        ),
        (
            "plan",
            {"counts": {"field.phone": 2}, "items": [{"changes": [{"field": "phone", "old": None, "new": PHONE}]}]},
            {"counts": {"field.phone": 2}},
        ),
        ("plan", {"who": PHONE, "changes": [{"field": "phone", "new": PHONE}], "risk": "high"}, {"risk": "high"}),
        ("step", {"phone": PHONE, "question": "May we?"}, {"question": "May we?"}),  # the author's own words stay
    ],
)
def test_an_approval_tells_no_hidden_value(kind: str, details: dict[str, Any], kept: dict[str, Any]) -> None:
    approval = approval_pb2.Approval(subject_kind=kind, title="Ask", details=to_struct(details))
    seen = shown(approval, NO_PHONE)
    assert isinstance(seen, approval_pb2.Approval)
    assert from_struct(seen.details) == kept
    assert seen.title == ("Ask" if kind == "step" else "")


def test_a_plan_is_shown_without_its_title() -> None:
    plan = plan_pb2.Plan(id="pln_1", title=f"Qualify {PHONE}", item_count=1)
    assert shown(plan, NO_PHONE) == plan_pb2.Plan(id="pln_1", item_count=1)
    untouched = plan_pb2.Plan(id="pln_1", title="Qualify")
    assert shown(untouched, KeyLimits()) == plan_pb2.Plan(id="pln_1", title="Qualify")
