"""Scopes: what a key may do, in words that the contract's methods ask for, and who gets which by default."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from core.domain.errors import Invalid, Violation, invalid
from core.domain.nearest import did_you_mean

SCOPES: Mapping[str, str] = {
    "agents:read": "See deployed agents.",
    "agents:write": "Deploy agents.",
    "approvals:decide": "Approve or reject what others ask for.",
    "approvals:read": "See what waits for a decision and what was decided.",
    "audit:read": "See the audit log and check its chain.",
    "connections:read": "See the connections that carry messages.",
    "connections:write": "Create, change and test connections.",
    "enrollments:read": "See enrollments, their traces and why they stand where they stand.",
    "enrollments:write": "Enroll contacts, cancel and delete enrollments, redrive what failed.",
    "events:admin": "Create and change the sources that events come from.",
    "events:read": "See events and their sources.",
    "events:write": "Send events in.",
    "executions:read": "See executions.",
    "executions:write": "Execute agents and workflows.",
    "keys:admin": "Mint, change, rotate and revoke API keys; set the identity provider.",
    "leads:assign": "Give leads to owners, accept and decline them.",
    "leads:qualify": "Qualify leads: preview and commit.",
    "models:read": "See scoring models.",
    "models:write": "Publish scoring models.",
    "organization:read": "See the organization, its members and its projects.",
    "organization:write": "Add, change and remove members; change projects and the organization itself.",
    "plans:apply": "Apply and cancel plans.",
    "plans:read": "See plans and what they change.",
    "policies:admin": "Set policies and budgets.",
    "policies:read": "See policies and budgets.",
    "records:erase": "Erase people for good.",
    "records:export": "Take records out in bulk.",
    "records:import": "Take files of records in.",
    "records:read": "See contacts, companies, leads and their history.",
    "records:write": "Create and change contacts, companies and leads.",
    "routing:read": "See routings, assignments and who is available.",
    "routing:write": "Publish routings, say who is available.",
    "schema:write": "Define record types, fields and pipelines.",
    "tasks:read": "See the tasks that workflows hand to agents.",
    "tasks:write": "Claim, answer and release tasks.",
    "usage:read": "See what was done and what it cost.",
    "webhooks:read": "See endpoints, deliveries and event types.",
    "webhooks:write": "Create and change endpoints, rotate their secrets, redeliver.",
    "workflows:read": "See workflows and step kinds.",
    "workflows:write": "Create, publish, pause, resume, migrate and archive workflows.",
}
"""Every scope and what it allows."""

ALL_SCOPES = frozenset(SCOPES)
READ_SCOPES = frozenset(scope for scope in SCOPES if scope.endswith(":read"))

AGENT_SCOPES = READ_SCOPES | {
    "leads:qualify",
    "records:write",
    "enrollments:write",
    "executions:write",
    "tasks:write",
}
"""What an agent's key gets unless told: works with records and workflows, decides and administers nothing."""

_OF_ADMINS = frozenset({"approvals:decide", "keys:admin", "organization:write", "policies:admin"})
"""What says who may do what, and the decisions of people: whoever is held by it must not change it."""

SERVICE_SCOPES = ALL_SCOPES - _OF_ADMINS
"""What a service's key gets unless told: everything but deciding and administering."""

_ROLES: Mapping[str, frozenset[str]] = {
    "admin": ALL_SCOPES,
    "editor": ALL_SCOPES - _OF_ADMINS,
    "viewer": READ_SCOPES,
    "approver": READ_SCOPES | {"approvals:decide"},
}


def role_scopes(role: str) -> frozenset[str]:
    """Return what a member with a role (`admin`, `editor`, `viewer`, `approver`) may do.

    Raises Invalid for another role.
    """
    scopes = _ROLES.get(role.lower())
    if scopes is None:
        hint = did_you_mean(role, _ROLES) or f"Use {', '.join(_ROLES)}."
        raise invalid("role", "UNKNOWN_ROLE", f"there is no role `{role[:40]}`", hint)
    return scopes


def check_scopes(names: Iterable[str], field: str = "scopes") -> None:
    """Check that every name is a scope.

    Raises Invalid with a violation for each that is none, and when there is no name at all.
    """
    given = list(names)
    violations = [
        Violation(
            f"{field}[{index}]",
            "UNKNOWN_SCOPE",
            f"there is no scope `{name[:80]}`",
            did_you_mean(name, SCOPES) or f"Scopes: {', '.join(SCOPES)}.",
        )
        for index, name in enumerate(given)
        if name not in SCOPES
    ]
    if not given:
        violations.append(Violation(field, "REQUIRED", "a key without scopes can do nothing", "Name at least one."))
    if violations:
        raise Invalid(*violations)
