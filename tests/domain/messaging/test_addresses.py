"""Two ways to write an address are one address; a key tells nothing of it; a mask tells its owner alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.messaging import addresses


@pytest.mark.parametrize(
    ("channel", "one", "other"),
    [
        ("email", "Ada@Example.COM", " ada@example.com "),
        ("email", "ada@bücher.example", "ada@xn--bcher-kva.example"),
        ("email", "gru\u0308sse@example.com", "grüsse@example.com"),
        ("sms", "+44 (20) 7946-0000", "+442079460000"),
        ("whatsapp", "+44 20 7946 0000", "+442079460000"),
        ("dm", "@Ada", "@ada"),
    ],
)
def test_two_ways_to_write_an_address_have_one_key(channel: str, one: str, other: str) -> None:
    assert addresses.key("org_a", channel, one) == addresses.key("org_a", channel, other)


def test_a_key_is_of_one_organization_one_channel_and_one_address() -> None:
    keys = {
        addresses.key(org, channel, address)
        for org in ("org_a", "org_b")
        for channel in ("email", "dm")
        for address in ("ada@example.com", "bob@example.com", "ada+news@example.com")
    }
    assert len(keys) == 12
    assert not any("ada" in key for key in keys)


@pytest.mark.parametrize(
    ("address", "mask"),
    [
        ("ada@example.com", "a***@e***.com"),
        ("a@b.co", "a***@b***.co"),
        ("ada@localhost", "a***"),
        ("+442079460000", "***00"),
        ("@ada_l", "@a***"),
        ("", "***"),
    ],
)
def test_a_mask_shows_enough_for_its_owner(address: str, mask: str) -> None:
    assert addresses.masked(address) == mask


@given(st.sampled_from(["email", "sms", "dm"]), st.text(max_size=60))
def test_any_text_has_a_normal_form_that_stays(channel: str, text: str) -> None:
    form = addresses.normal(channel, text)
    assert addresses.normal(channel, form) == form
    assert len(addresses.key("org_a", channel, text)) == 64


def test_a_contact_s_own_keys_are_those_of_its_fields() -> None:
    fields = {"email": "ada@example.com", "phone": None, "custom": {}}
    assert addresses.own_keys("org_a", fields) == {"email": addresses.key("org_a", "email", "ada@example.com")}
