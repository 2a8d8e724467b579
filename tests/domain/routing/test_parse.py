"""Routing documents: everything that is wrong is told at once, with its line and the way out."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from core.domain.errors import Invalid
from core.domain.routing import lint
from core.domain.routing.lint import Member
from core.domain.routing.parse import compiled
from core.domain.routing.schema import routing_schema
from core.domain.workflow import source

WHOLE = """
title: Inbound
description: Who gets what comes in.
sla: {respond_within: 4h}
rules:
  - id: known
    when: has(account.owner_id)
    method: account_match
    match: [company_owner, domain_owner]
  - {id: where, method: territory, territory: contact.country, sla: {respond_within: 30m, reroute: 2}}
  - id: big
    when: company.employees >= 500 && lead.score > 20
    method: weighted
    members: [{member: ada@example.com, weight: 3}, mem_bob]
  - {id: german, method: capacity, team: {role: editor, skills: [german]}, within_hours: true}
catch_all: {members: [Ada@Example.com]}
"""

WRONG = """
title: Inbound
ruels: []
sla: {respond_within: soon}
rules:
  - {id: Big, when: contact.emplyees > 5, members: [ada]}
  - {id: catch_all, method: best, members: []}
  - {id: known, method: account_match, members: [a@x.de], match: [owner]}
  - {id: where, method: territory, team: {role: viewer}}
  - {id: turns, members: [a@x.de, {member: a@x.de, weight: 2}]}
"""

PROBLEMS = {
    ("ruels", "UNKNOWN_KEY", 3),
    ("sla.respond_within", "BAD_DURATION", 4),
    ("sla.respond_within", "TOO_SHORT", 4),
    ("rules[0].id", "BAD_ID", 6),
    ("rules[0].when", "EXPRESSION_UNKNOWN_NAME", 6),
    ("rules[0].members[0]", "NOT_A_MEMBER", 6),
    ("rules[1].id", "BAD_ID", 7),
    ("rules[1].method", "UNKNOWN_VALUE", 7),
    ("rules[1].members", "REQUIRED", 7),
    ("rules[2].members", "NOT_ALLOWED", 8),
    ("rules[2].match[0]", "UNKNOWN_VALUE", 8),
    ("rules[3].territory", "REQUIRED", 9),
    ("rules[3].team.role", "UNKNOWN_VALUE", 9),
    ("rules[4].members[1].weight", "NOT_ALLOWED", 10),
    ("rules[4].members[1]", "DUPLICATE", 10),
    ("catch_all", "REQUIRED", 0),
}


def problems(text: str) -> list[tuple[str, str, int]]:
    with pytest.raises(Invalid) as refused:
        compiled(text)
    found = []
    for one in refused.value.violations:
        line = one.message.partition(": ")[0].removeprefix("line ")
        found.append((one.field, one.reason, int(line) if line.isdigit() else 0))
    return found


def test_a_document_with_everything_in_it_is_read() -> None:
    routing = compiled(WHOLE)
    assert [rule.id for rule in routing.rules] == ["known", "where", "big", "german", "catch_all"]
    assert routing.names == {"ada@example.com", "mem_bob"}
    assert [rule.sla.reroutes if rule.sla else None for rule in routing.rules] == [0, 2, 0, 0, 0]
    assert (routing.has_teams, routing.reads_company) == (True, True)


def test_everything_that_is_wrong_is_told_at_once_with_its_line() -> None:
    assert set(problems(WRONG)) == PROBLEMS


def test_the_nearest_name_is_in_the_hint() -> None:
    with pytest.raises(Invalid) as refused:
        compiled(WRONG)
    hints = {one.field: one.hint for one in refused.value.violations}
    assert "rules" in hints["ruels"]
    assert "contact.employees" in hints["rules[0].when"]


UNREACHABLE = [
    ("{id: a, when: false, members: [a@x.de]}", ["rules[0].when"]),
    ("{id: a, members: [a@x.de, b@x.de]}, {id: b, when: lead.score > 9, members: [b@x.de]}", ["rules[1]"]),
    ("{id: a, when: lead.score > 9, team: {}}, {id: b, when: lead.score > 9, team: {}}", ["rules[1]"]),
    ("{id: a, within_hours: true, members: [a@x.de]}, {id: b, members: [a@x.de]}", []),
    ("{id: a, members: [a@x.de]}, {id: b, members: [a@x.de, b@x.de]}", []),
    ("{id: a, when: lead.score > 9, members: [a@x.de]}, {id: b, members: [a@x.de]}", []),
    ("{id: a, method: account_match}, {id: b, method: account_match, match: [company_owner]}", ["rules[1]"]),
    ("{id: a, method: territory, territory: contact.country}, {id: b, team: {}}", []),
]


@pytest.mark.parametrize(("rules", "fields"), UNREACHABLE)
def test_a_rule_that_never_has_anybody_else_is_refused(rules: str, fields: list[str]) -> None:
    text = f"title: T\nrules: [{rules}]\ncatch_all: {{members: [c@x.de]}}"
    if fields:
        assert [(field, reason) for field, reason, _ in problems(text)] == [(one, "UNREACHABLE_RULE") for one in fields]
    else:
        assert compiled(text)


def test_members_who_cannot_own_leads_are_refused() -> None:
    routing = compiled("title: T\ncatch_all: {members: [ada@x.de, adda@x.de, bob@x.de, eve@x.de, mem_ada]}")
    people = [
        Member("mem_ada", "ada@x.de", "editor"),
        Member("mem_bob", "bob@x.de", "editor", removed=True),
        Member("mem_eve", "eve@x.de", "viewer"),
    ]
    known = {name: one for one in people for name in (one.id, one.email)}
    found = [(one.field, one.reason) for one in lint.members(routing, known, ["ada@x.de"])]
    assert found == [
        ("catch_all.members[1]", "UNKNOWN_MEMBER"),
        ("catch_all.members[2]", "REMOVED_MEMBER"),
        ("catch_all.members[3]", "MEMBER_IS_VIEWER"),
        ("catch_all.members[4]", "DUPLICATE"),
    ]


def test_what_compiles_fits_the_schema_and_the_schema_in_the_docs_is_this_one() -> None:
    schema = routing_schema()
    Draft202012Validator.check_schema(schema)
    assert list(Draft202012Validator(schema).iter_errors(source.parse(WHOLE))) == []
    written = Path(__file__).parents[3] / "docs" / "routing.schema.json"
    assert json.loads(written.read_text()) == schema


values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(("id", "when", "method", "members", "team", "sla", "territory", "match", "member", "role")),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(("title", "rules", "catch_all", "sla", "x")), values, max_size=4))
def test_any_document_compiles_or_is_refused_with_reasons(document: dict[str, object]) -> None:
    with suppress(Invalid):
        assert compiled(json.dumps(document)).rules
