from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from core.domain.qualification.model import Routing
from core.domain.qualification.routing import Candidate, Choice, Skipped, choose, keep

EMAILS = ("ada@example.com", "bob@example.com", "cyd@example.com")
ROUTING = Routing("round_robin", EMAILS)
TEAM = {email: Candidate(f"mem_{email[:3]}", email, email[:3].title()) for email in EMAILS}


def test_members_take_turns() -> None:
    first = choose(ROUTING, TEAM, 0)
    second = choose(ROUTING, TEAM, first.cursor)
    third = choose(ROUTING, TEAM, second.cursor)
    assert [one.member_id for one in (first, second, third)] == ["mem_ada", "mem_bob", "mem_cyd"]
    assert choose(ROUTING, TEAM, third.cursor) == first


def test_who_cannot_take_a_lead_is_passed_over_with_a_reason() -> None:
    away = {**TEAM, "ada@example.com": Candidate("mem_ada", "ada@example.com", "Ada", "is away until Monday")}
    del away["bob@example.com"]
    assert choose(ROUTING, away, 0) == Choice(
        "mem_cyd",
        "Cyd",
        "round_robin",
        (
            Skipped("mem_ada", "is away until Monday"),
            Skipped("bob@example.com", "is not a member of the organization"),
        ),
        0,
    )


def test_nobody_left_is_said_and_costs_no_turn() -> None:
    choice = choose(ROUTING, {}, 2)
    assert (choice.member_id, choice.method, len(choice.skipped), choice.cursor) == ("", "", 3, 2)


def test_a_lead_with_an_owner_is_kept_and_costs_no_turn() -> None:
    assert keep("mem_zoe", "Zoe") == Choice("mem_zoe", "Zoe", "kept", ())


@given(st.sets(st.sampled_from(EMAILS), min_size=1), st.integers(0, 50), st.integers(1, 40))
def test_leads_are_shared_out_evenly_from_any_cursor(there: set[str], cursor: int, leads: int) -> None:
    counts = Counter({f"mem_{email[:3]}": 0 for email in there})
    for _ in range(leads):
        choice = choose(ROUTING, {email: TEAM[email] for email in there}, cursor)
        cursor = choice.cursor
        counts[choice.member_id] += 1
    assert max(counts.values()) - min(counts.values()) <= 1
    assert set(counts) == {f"mem_{email[:3]}" for email in there}
