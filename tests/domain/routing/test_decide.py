"""Deciding who gets a lead: rules in order, people passed over with their reasons, the same decision again."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.enrollment import RecordFacts
from core.domain.routing import environment, sight
from core.domain.routing.decide import Decision, decide, respond_by
from core.domain.routing.parse import compiled
from core.domain.routing.sight import Person, Sight, judged
from core.domain.workflow.zones import Zone

MONDAY = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
ADA = Person("mem_ada", "ada@example.com", "Ada", "editor")
BOB = Person("mem_bob", "bob@example.com", "Bob", "editor")
CAT = Person("mem_cat", "cat@example.com", "Cat", "admin")
REST = "catch_all: {members: [cat@example.com]}"


def routing_of(rule: str = "") -> str:
    return f"title: Inbound\n{f'rules: [{rule}]' if rule else ''}\n{REST}\n"


def decided(text: str, *people: Person, lead: dict[str, Any] | None = None, **seen: Any) -> Decision:
    routing = compiled(text)
    unmet, territory = judged(routing, environment.values(RecordFacts("cnt_1", "contact", lead or {}), None, None, ""))
    return decide(routing, Sight(MONDAY, people, unmet, territory, **seen))


def outcome(decision: Decision) -> tuple[str, str, str]:
    assert decision.person is not None
    assert decision.rule is not None
    return decision.person.id, decision.rule.id, decision.method


BOTH = "members: [ada@example.com, bob@example.com]"

UNABLE = [
    (replace(ADA, removed=True), "was removed from the organization"),
    (replace(ADA, role="viewer"), "is a viewer, who cannot own leads"),
    (replace(ADA, away="is out of office until 2026-03-09 08:00"), "is out of office until 2026-03-09 08:00"),
    (replace(ADA, working=False), "is outside working hours"),
    (replace(ADA, today=5, daily_capacity=5), "has had 5 of 5 leads today"),
    (replace(ADA, open=9, open_capacity=9), "has 9 of 9 open leads"),
]  # fmt: skip


@pytest.mark.parametrize(("unable", "reason"), UNABLE)
def test_whoever_cannot_take_a_lead_is_passed_over_with_the_reason(unable: Person, reason: str) -> None:
    decision = decided(routing_of(f"{{id: all, within_hours: true, {BOTH}}}"), unable, BOB, CAT)
    assert outcome(decision) == ("mem_bob", "all", "round_robin")
    assert [(one.member, one.reason) for one in decision.passed] == [("mem_ada", reason)]
    assert decision.turns is not None
    assert decision.turns.last == {"mem_bob": 1}


def test_working_hours_count_only_where_the_rule_says_so() -> None:
    decision = decided(routing_of(f"{{id: all, {BOTH}}}"), replace(ADA, working=False), BOB, CAT)
    assert outcome(decision)[0] == "mem_ada"


def test_a_rule_that_has_nobody_or_does_not_match_says_so_and_the_next_is_asked() -> None:
    text = routing_of(
        """
        {id: big, when: contact.employees >= 500, members: [bob@example.com]},
        {id: german, when: 'contact.country == "DE"', members: [bob@example.com]},
        {id: known, method: account_match},
        {id: away, members: [ada@example.com, gone@example.com]}
        """
    )
    decision = decided(text, replace(ADA, away="is out of office"), BOB, CAT, lead={"employees": 3})
    assert outcome(decision) == ("mem_cat", "catch_all", "catch_all")
    assert decision.skipped_rules == (
        "big: its condition does not hold",
        "german: contact.country is not known",
        "known: nobody owns the company or the company's open opportunity or another contact of the same domain",
        "away: nobody it names can take a lead now",
    )
    assert [(one.member, one.reason) for one in decision.passed] == [
        ("gone@example.com", "is not a member of the organization"),
        ("mem_ada", "is out of office"),
    ]


def test_nobody_at_all_is_an_answer_too() -> None:
    decision = decided(routing_of(), replace(CAT, today=1, daily_capacity=1))
    assert (decision.person, decision.method, decision.turns) == (None, "", None)
    assert decision.skipped_rules == ("catch_all: nobody it names can take a lead now",)


def test_by_capacity_whoever_has_most_room_gets_it() -> None:
    rule = f"{{id: room, method: capacity, {BOTH}}}"
    full, roomy = replace(ADA, today=3, daily_capacity=5), replace(BOB, open=2, open_capacity=6)
    assert outcome(decided(routing_of(rule), full, roomy, CAT))[0] == "mem_bob"
    assert outcome(decided(routing_of(rule), replace(ADA, open=4), replace(BOB, open=3), CAT))[0] == "mem_bob"
    assert outcome(decided(routing_of(rule), full, replace(BOB, open=3), CAT))[0] == "mem_bob"  # no limit is most room


def test_a_team_is_found_by_role_skill_and_territory() -> None:
    rule = "{id: dach, team: {role: editor, skills: [german], territory: dach}}"
    ada = replace(ADA, skills=("german", "french"), territories=("dach",))
    bob = replace(BOB, skills=("french",), territories=("dach",))
    eve = replace(ADA, id="mem_eve", email="eve@example.com", skills=("german",))
    decision = decided(routing_of(rule), ada, bob, CAT, eve)
    assert outcome(decision) == ("mem_ada", "dach", "round_robin")
    assert [(one.member, one.reason) for one in decision.passed] == [
        ("mem_bob", "does not have the skill german"),
        ("mem_eve", "does not cover the territory dach"),
    ]


def test_a_territory_is_given_by_one_value_so_that_no_lead_has_two() -> None:
    rule = "{id: where, method: territory, territory: contact.country}"
    ada, bob = replace(ADA, territories=("DE", "AT")), replace(BOB, territories=("US",))
    assert outcome(decided(routing_of(rule), ada, bob, CAT, lead={"country": "AT"})) == (
        "mem_ada",
        "where",
        "territory",
    )
    nowhere = decided(routing_of(rule), ada, bob, CAT)
    assert nowhere.skipped_rules == ("where: the territory is not known",)
    elsewhere = decided(routing_of(rule), ada, bob, CAT, lead={"country": "FR"})
    assert outcome(elsewhere)[1] == "catch_all"
    assert elsewhere.passed[0].reason == "does not cover the territory FR"


def test_the_owner_of_the_account_gets_it_in_the_order_of_the_rule() -> None:
    account = {"company_owner": "mem_ada", "domain_owner": "mem_bob"}
    rule = "{id: known, method: account_match, match: [domain_owner, company_owner]}"
    assert outcome(decided(routing_of(rule), ADA, BOB, CAT, account=account)) == ("mem_bob", "known", "account_match")
    away = decided(routing_of(rule), ADA, replace(BOB, away="is out of office"), CAT, account=account)
    assert outcome(away)[0] == "mem_ada"


def test_whoever_had_the_lead_does_not_get_it_again() -> None:
    decision = decided(routing_of(f"{{id: all, {BOTH}}}"), ADA, BOB, CAT, excluded={"mem_ada": "had the lead"})
    assert outcome(decision)[0] == "mem_bob"
    assert [(one.member, one.reason) for one in decision.passed] == [("mem_ada", "had the lead")]


def test_an_address_that_somebody_else_has_now_means_whoever_has_it_now() -> None:
    before = replace(ADA, id="mem_zoe", removed=True)
    assert outcome(decided(routing_of(f"{{id: all, {BOTH}}}"), ADA, BOB, CAT, before))[0] == "mem_ada"


people = st.builds(
    Person,
    id=st.sampled_from(["mem_ada", "mem_bob", "mem_cat", "mem_dan"]),
    email=st.sampled_from(["ada@example.com", "bob@example.com", "cat@example.com"]),
    name=st.just("Somebody"),
    role=st.sampled_from(["admin", "editor", "approver", "viewer"]),
    removed=st.booleans(),
    away=st.sampled_from(["", "is out of office"]),
    working=st.booleans(),
    today=st.integers(0, 3),
    open=st.integers(0, 3),
    daily_capacity=st.integers(0, 3),
    open_capacity=st.integers(0, 3),
    territories=st.sampled_from([(), ("DE",)]),
)
EVERY_METHOD = compiled(
    routing_of(
        f"""
        {{id: known, method: account_match}}, {{id: where, method: territory, territory: contact.country}},
        {{id: room, method: capacity, within_hours: true, team: {{role: editor}}}},
        {{id: turns, when: contact.employees > 1, {BOTH}}},
        {{id: shares, method: weighted, members: [{{member: ada@example.com, weight: 3}}, bob@example.com]}}
        """
    )
)


@given(
    st.lists(people, max_size=5, unique_by=lambda one: one.id),
    st.sampled_from([{}, {"country": "DE", "employees": 4}]),
    st.sampled_from([{}, {"company_owner": "mem_ada"}]),
)
def test_what_was_seen_decides_the_same_again_and_nobody_unable_ever_gets_a_lead(
    there: list[Person], contact: dict[str, Any], account: dict[str, str]
) -> None:
    known = environment.values(RecordFacts("cnt_1", "contact", contact), None, None, "")
    seen = Sight(MONDAY, tuple(there), *judged(EVERY_METHOD, known), account)
    decision = decide(EVERY_METHOD, seen)
    kept = sight.from_json(json.loads(json.dumps(seen.as_json)))
    assert (kept, decide(EVERY_METHOD, kept)) == (seen, decision)
    if decision.person is not None:
        person = decision.person
        assert not person.removed and person.role != "viewer" and not person.away  # noqa: PT018 -- one thought
        assert person.room is None or person.room > 0
        assert person.id not in {one.member for one in decision.passed if one.reason.startswith("has")}


def test_the_time_to_respond_counts_in_business_hours_across_a_change_of_the_clock() -> None:
    sla = (
        compiled(
            """
        title: Hours
        sla: {respond_within: 2h, calendar: {days: [monday, friday], hours: 09:00-17:00}}
        catch_all: {members: [cat@example.com]}
        """
        )
        .rules[0]
        .sla
    )
    berlin = Zone("Europe/Berlin", "organization")
    friday = datetime(2026, 3, 27, 15, 30, tzinfo=UTC)  # 16:30 there; on Sunday the clock goes forward
    assert respond_by(sla, friday, berlin) == datetime(2026, 3, 30, 8, 30, tzinfo=UTC)  # Monday 10:30
    assert respond_by(None, friday, berlin) is None
    plain = replace(sla, calendar=None) if sla is not None else None
    assert respond_by(plain, friday, berlin) == friday + timedelta(hours=2)
