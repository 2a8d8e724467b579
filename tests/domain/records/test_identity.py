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
        ("phone", "+44 (0)20 7946 0000", ("phone", "+442079460000")),
        ("phone", "+49\u2010170\u20111234-567", ("phone", "+491701234567")),
        ("phone", "0049 170 1234567", None),
        ("phone", "+1 111 111 1111", None),
        ("phone", "+44 0000000000", None),
        ("phone", "+1234567890", None),
        ("phone", "+44 20 7946 0000 ext. 12", None),
        ("email", "test@test.com", None),
        ("email", "test@driftrock.com", ("email", "test@driftrock.com")),
        ("email", "NoReply@example.com", None),
        ("email", "{{ contact.email }}", None),
        ("email", "*|EMAIL|*@example.com", None),
        ("person_id", "%user_id%", None),
        ("person_id", "${id}", None),
        ("person_id", "[id]", None),
        ("person_id", "xxxxxxx", None),
        ("person_id", "0000", None),
        ("person_id", "00000000-0000-0000-0000-000000000000", None),
        ("person_id", "ffffffff-ffff-ffff-ffff-ffffffffffff", None),
        ("person_id", "1111", ("person_id", "1111")),
        ("person_id", "100", ("person_id", "100")),
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
