"""E-mails as they go over the wire: hostile names and addresses stay text, and nothing becomes a header."""

from __future__ import annotations

from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.delivery.mime import compose
from core.store.messages.outgoing import ClaimedMessage

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
SENDER = Address("Acme Ltd.", addr_spec="hello@acme.example")
LONG_URL = "https://mail.acme.example/u/" + "aB3-_" * 60
HEADERS = ["From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted"]
BODY = ["Content-Type", "Content-Transfer-Encoding", "MIME-Version"]


def message(**changed: Any) -> ClaimedMessage:
    values: dict[str, Any] = {
        "org_id": "org_a",
        "id": "msg_1",
        "enrollment_id": "enr_1",
        "workflow_id": "nurture",
        "step_id": "mail",
        "contact_id": "cnt_1",
        "channel": "email",
        "purpose": "marketing",
        "recipient": "ada@example.com",
        "subject": "Hello",
        "text": "Hello.\n",
        "html": "",
        "ordinal": 1,
        "awaited": False,
        "terms": {},
        "attempts": 0,
        "outcome": "",
        "created_at": NOW,
        "lease_token": "lse_1",
    }
    return ClaimedMessage(**{**values, **changed})


def sent(**changed: Any) -> tuple[bytes, EmailMessage]:
    raw = compose(message(**changed), SENDER, NOW).as_bytes()
    return raw, BytesParser(EmailMessage, policy=default).parsebytes(raw)


def test_a_plain_mail_has_these_headers_and_no_others() -> None:
    raw, got = sent()
    assert sorted(got.keys()) == sorted([*HEADERS, *BODY])
    assert (got["Message-ID"], got["Auto-Submitted"]) == ("<msg_1@acme.example>", "auto-generated")
    assert raw.isascii()


def test_ways_to_unsubscribe_stay_whole_however_long_they_are() -> None:
    mail = compose(message(unsubscribe_url=LONG_URL), SENDER, NOW, "unsubscribe+acme@acme.example")
    expected = f"<{LONG_URL}>, <mailto:unsubscribe%2Bacme@acme.example?subject=unsubscribe%20msg_1>"
    assert f"\r\nList-Unsubscribe: {expected}\r\n".encode() in mail.as_bytes()
    assert b"\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n" in mail.as_bytes()


def test_a_transactional_mail_offers_no_way_to_unsubscribe() -> None:
    mail = compose(message(unsubscribe_url=LONG_URL, purpose="transactional"), SENDER, NOW, "unsubscribe@acme.example")
    assert "List-Unsubscribe" not in mail


@pytest.mark.parametrize(
    ("subject", "read"),
    [
        ("Hi\r\nBcc: eve@example.com", "Hi Bcc: eve@example.com"),
        ("Hi\n\n<script>", "Hi <script>"),
        ("Hi\x00\x0b\x85\u2028there\u202e", "Hi there"),
        ("=?utf-8?q?Bcc=3A?= eve", "Bcc: eve"),
        ("Grüße \N{SNOWMAN} " + "ä" * 250, "Grüße \N{SNOWMAN} " + "ä" * 250),
        ("x" * 300, "x" * 300),
        ("", ""),
    ],
)
def test_no_subject_becomes_a_header(subject: str, read: str) -> None:
    raw, got = sent(subject=subject)
    assert got["Subject"] == read
    assert sorted(got.keys()) == sorted([*HEADERS, *BODY])
    assert raw.isascii()


@pytest.mark.parametrize(
    "address",
    [
        "ada@example.com\r\nBcc: eve@example.com",
        "ada@example.com, eve@example.com",
        "Ada <ada@example.com>",
        "ada@example.com\nRCPT TO:<eve@example.com>",
        "ada@exa mple.com",
        "<ada@example.com>",
        "@example.com",
        "ada",
        "",
        "ädä@example.com, eve@example.com",
        "ädä@example.com\r\nBcc: eve@example.com",
        "ada@ex\x00ample.com",
    ],
)
def test_what_is_no_single_address_is_no_recipient(address: str) -> None:
    with pytest.raises(ValueError, match="it goes to what is no address"):
        compose(message(recipient=address), SENDER, NOW).as_bytes()


@pytest.mark.parametrize(
    ("address", "read"),
    [
        ('"ada, eve"@example.com', '"ada, eve"@example.com'),
        ("o'brien+x@example.com", "o'brien+x@example.com"),
        ("grüße@example.com", "grüße@example.com"),
        ("ada@bücher.example", "ada@xn--bcher-kva.example"),
    ],
)
def test_unusual_addresses_stay_one_recipient(address: str, read: str) -> None:
    _, got = sent(recipient=address)
    (found,) = got["To"].addresses
    assert found.addr_spec.encode(errors="surrogateescape").decode() == read


def test_hostile_names_of_the_sender_stay_a_name() -> None:
    sender = Address('Acme "Ltd", <eve@example.com>', addr_spec="hello@acme.example")
    mail = BytesParser(EmailMessage, policy=default).parsebytes(compose(message(), sender, NOW).as_bytes())
    assert [one.addr_spec for one in mail["From"].addresses] == ["hello@acme.example"]


TEXTS = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\r\x00"), max_size=200)


@given(TEXTS, TEXTS, TEXTS)
def test_any_text_arrives_in_seven_bits_and_as_it_was(subject: str, text: str, html: str) -> None:
    raw, got = sent(subject=subject, text=text + "\n", html=html)
    assert raw.isascii()
    assert set(got.keys()) <= {*HEADERS, *BODY}
    assert max(map(len, raw.split(b"\r\n"))) <= 998
    body = got.get_body(("plain",))
    assert body is not None
    assert str(body.get_content()).replace("\r\n", "\n") == text + "\n"
