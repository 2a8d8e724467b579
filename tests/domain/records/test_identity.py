"""Who is who."""

from __future__ import annotations

import pytest

from core.domain.records.identity import Conflict, choose, external, keeps_apart, normalise


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("email", " Ada@Example.com ", ("email", "ada@example.com")),
        ("phone", "+44 (20) 7946-0000", ("phone", "+442079460000")),
        ("phone", "020 7946 0000", None),
        ("person_id", " U-17 ", ("person_id", "U-17")),
        ("person_id", 17, ("person_id", "17")),
        ("person_id", True, None),
        (external(" HubSpot "), "42", ("ext:hubspot", "42")),
        ("email", "not an address", None),
        ("person_id", "x" * 400, None),
        *(
            ("person_id", junk, None)
            for junk in ("", "null", "undefined", "Guest", "ANONYMOUS", "n/a", "test", "0", "none", "[object Object]")
        ),
    ],
)
def test_identifiers_have_one_form_and_junk_has_none(kind: str, value: object, expected: object) -> None:
    assert normalise(kind, value) == expected


@pytest.mark.parametrize(
    ("found", "chosen", "conflicts"),
    [
        ({}, None, ()),
        ({("email", "a@b.co"): "A"}, "A", ()),
        ({("phone", "+1"): "B", ("email", "a@b.co"): "A"}, "A", ()),
        ({("person_id", "7"): "B", ("email", "a@b.co"): "A"}, "A", (Conflict("person_id", "7", "B"),)),
        ({("email", "a@b.co"): "A", ("ext:crm", "1"): "C"}, "C", (Conflict("email", "a@b.co", "A"),)),
        ({("ga_client_id", "g"): "G", ("event_id", "e"): "E"}, "E", ()),
    ],
)
def test_the_first_in_order_decides_and_strong_ones_that_disagree_are_conflicts(
    found: dict[tuple[str, str], str], chosen: str | None, conflicts: tuple[Conflict, ...]
) -> None:
    assert choose(found) == (chosen, conflicts)


def test_a_shared_phone_never_joins_two_people() -> None:
    assert keeps_apart(("phone", "+441"), "ada@b.co", "bob@b.co")
    assert not keeps_apart(("phone", "+441"), "ada@b.co", None)
    assert not keeps_apart(("person_id", "7"), "ada@b.co", "bob@b.co")
