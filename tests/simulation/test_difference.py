"""Two versions on the same contacts: who goes another way, and what that makes of the numbers."""

from __future__ import annotations

from core.simulation.difference import Difference, Divergence, diff
from tests.simulation.cases import NURTURE, people, tried

EARLIER = NURTURE.replace("lead.score >= 60", "lead.score >= 50")
SILENT = NURTURE.replace(
    "timeout: 5d, exits: {matched: mark, timeout: mark}", "timeout: 5d, exits: {matched: mark, timeout: end}"
)


def test_the_same_version_differs_in_nothing() -> None:
    found = diff(tried(NURTURE), tried(NURTURE))
    assert found == Difference(3, 0, (), {}, {}, {}, {})


def test_whoever_goes_another_way_is_named_with_the_place_where_the_ways_part() -> None:
    found = diff(tried(EARLIER, people(6)), tried(NURTURE, people(6)))
    assert found.contacts == (Divergence("p5@example.com", "pause", "which: hot", "which: else"),)
    assert (found.same, found.entered) == (5, {"call": 1})


def test_numbers_are_here_minus_there() -> None:
    found = diff(tried(SILENT), tried(NURTURE))
    assert found.entered == {"mark": -3, "tell": -3}
    assert found.contacts[0] == Divergence("p1@example.com", "reply", "completed at reply", "mark: next")
    assert (found.messages, found.states) == ({}, {})


def test_a_contact_that_only_one_version_lets_in_goes_another_way() -> None:
    closed = NURTURE.replace("contact.employees > 5", "contact.employees > 50")
    found = diff(tried(closed), tried(NURTURE))
    assert found.contacts[0] == Divergence("p1@example.com", "", "excluded", "pause: next")
    assert (found.messages, found.states) == ({"email": -3}, {"completed": -3})
