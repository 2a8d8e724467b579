from __future__ import annotations

import pytest

from core.domain.control.scopes import (
    AGENT_SCOPES,
    ALL_SCOPES,
    READ_SCOPES,
    SCOPES,
    SERVICE_SCOPES,
    check_scopes,
    role_scopes,
)
from core.domain.errors import Invalid


def test_they_are_exactly_those_that_the_contract_asks_for() -> None:
    from core.rpc.methods import SERVICES
    from dripstone.v1 import options_pb2

    asked = {
        method.GetOptions().Extensions[options_pb2.scope]
        for contract, *_ in SERVICES
        for service in contract.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    assert asked - {"caller"} == set(SCOPES)


def test_an_agent_works_but_neither_decides_nor_administers() -> None:
    assert READ_SCOPES | {"leads:qualify", "records:write", "enrollments:write", "executions:write"} <= AGENT_SCOPES
    assert not AGENT_SCOPES & {"approvals:decide", "keys:admin", "webhooks:write", "models:write", "workflows:write"}


def test_only_admins_and_approvers_decide_unless_told() -> None:
    assert {role for role in ("admin", "editor", "viewer", "approver") if "approvals:decide" in role_scopes(role)} == {
        "admin",
        "approver",
    }
    assert "approvals:decide" not in SERVICE_SCOPES
    assert role_scopes("Admin") == ALL_SCOPES
    assert role_scopes("viewer") == READ_SCOPES


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(Invalid) as caught:
        check_scopes(["records:read", "lead:qualify", "root"])
    assert [one.field for one in caught.value.violations] == ["scopes[1]", "scopes[2]"]
    assert caught.value.violations[0].hint == "Did you mean leads:qualify?"
    with pytest.raises(Invalid):
        check_scopes([])
    with pytest.raises(Invalid):
        role_scopes("owner")
    check_scopes(sorted(ALL_SCOPES))
