"""Tokens of unsubscribe links: only what the organization signed is believed, and no person can be read from one."""

from __future__ import annotations

import base64
import hmac
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.messaging import unsubscribe
from core.domain.messaging.unsubscribe import Link, read, token

SECRET = bytes(range(32))
LINK = Link("org_01ka", "cnt_01kb", "msg_01kc", "email", "marketing")
WORD = st.text("abcdefghijklmnopqrstuvwxyz0123456789_", min_size=1, max_size=40)


@given(st.builds(Link, WORD, WORD, WORD, WORD, WORD), st.binary(min_size=32, max_size=32))
def test_what_was_signed_is_read_again(link: Link, secret: bytes) -> None:
    unproved = read(token(link, secret))
    assert unproved is not None
    assert unproved.prove(secret) == link
    assert unproved.prove(bytes(32) if secret != bytes(32) else SECRET) is None


@given(st.text(max_size=300))
def test_any_text_is_no_token(text: str) -> None:
    unproved = read(text)
    assert unproved is None or unproved.prove(SECRET) is None


@given(st.data())
def test_no_changed_token_is_believed(data: st.DataObject) -> None:
    good = token(LINK, SECRET)
    at = data.draw(st.integers(0, len(good) - 1))
    letter = data.draw(st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"))
    changed = good[:at] + letter + good[at + 1 :]
    unproved = read(changed)
    assert changed == good or unproved is None or unproved.prove(SECRET) is None


def signed(fields: str) -> str:
    body = b"\x01" + fields.encode()
    signature = hmac.new(SECRET, b"dripstone unsubscribe link\x1f" + body, "sha256").digest()[:16]
    return base64.urlsafe_b64encode(body + signature).decode().rstrip("=")


@pytest.mark.parametrize(
    "fields",
    [
        "*\x1fcnt_1\x1fmsg_1\x1femail\x1fmarketing",
        "org_a\x00\x1fcnt_1\x1fmsg_1\x1femail\x1fmarketing",
        "org_a\x1fcnt_1\x1fmsg_1\x1femail",
        "org_a\x1f\x1fmsg_1\x1femail\x1fmarketing",
        "org_a\x1fcnt_1\x1fmsg_1\x1femail\x1fmarketing\x1fmore",
    ],
)
def test_what_names_no_organization_is_read_no_further_however_it_is_signed(fields: str) -> None:
    assert signed("org_a\x1fcnt_1\x1fmsg_1\x1femail\x1fmarketing") == token(
        Link("org_a", "cnt_1", "msg_1", "email", "marketing"), SECRET
    )
    assert read(signed(fields)) is None


def test_a_token_fits_into_a_path_and_tells_of_ids_alone() -> None:
    text = token(LINK, SECRET)
    assert text == "".join(letter for letter in text if letter.isalnum() or letter in "-_")
    readable = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    assert b"\x1f".join([b"org_01ka", b"cnt_01kb", b"msg_01kc", b"email", b"marketing"]) in readable


def test_tokens_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[Any] = []
    monkeypatch.setattr(unsubscribe.hmac, "compare_digest", lambda *both: compared.append(both) or hmac.new is None)
    unproved = read(token(LINK, SECRET))
    assert unproved is not None
    assert unproved.prove(SECRET) is None
    assert len(compared) == 1


def test_links_of_one_contact_differ_by_purpose() -> None:
    assert token(LINK, SECRET) != token(replace(LINK, purpose="news"), SECRET)
