"""Who may be sent what: the newest answer that covers a message decides, and an address can be stopped by itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.messaging import addresses
from core.domain.messaging.consent import (
    EVERY,
    NOTHING_STORED,
    TRANSACTIONAL,
    Answer,
    Cause,
    Consent,
    Suppression,
    objection,
)

START = datetime(2026, 3, 2, 9, tzinfo=UTC)
ADA = "ada@example.com"
ORG = "org_a"


def answer(channel: str, purpose: str, granted: bool, hours: int = 0) -> Answer:
    return Answer(channel, purpose, granted, START + timedelta(hours=hours), "one_click")


def stopped(cause: Cause, purpose: str = EVERY, channel: str = "email", address: str = ADA) -> Consent:
    return Consent((), (Suppression(addresses.key(ORG, channel, address), purpose, cause),), ORG)


def told(
    consent: Consent, channel: str = "email", purpose: str = "marketing", *, unsubscribed: bool = False, to: str = ADA
) -> str:
    found = objection(consent, unsubscribed=unsubscribed, channel=channel, purpose=purpose, address=to)
    return "" if found is None else found.told


@pytest.mark.parametrize(
    ("answers", "channel", "purpose", "may"),
    [
        ([], "email", "marketing", True),
        ([answer("email", "marketing", False)], "email", "marketing", False),
        ([answer("email", "marketing", False)], "email", "news", True),
        ([answer("email", "marketing", False)], "dm", "marketing", True),
        ([answer(EVERY, "marketing", False)], "dm", "marketing", False),
        ([answer("email", EVERY, False)], "email", "news", False),
        ([answer("email", EVERY, False)], "email", TRANSACTIONAL, True),
        ([answer(EVERY, EVERY, False)], "email", TRANSACTIONAL, True),
        ([answer("email", TRANSACTIONAL, False)], "email", TRANSACTIONAL, False),
        # The newest one that covers it, however wide it is.
        ([answer(EVERY, EVERY, False), answer("email", "marketing", True, 1)], "email", "marketing", True),
        ([answer(EVERY, EVERY, False), answer("email", "marketing", True, 1)], "email", "news", False),
        ([answer(EVERY, EVERY, False, 1), answer("email", "marketing", True)], "email", "marketing", False),
        # Of two at once the refusal.
        ([answer(EVERY, EVERY, False), answer("email", "marketing", True)], "email", "marketing", False),
    ],
)
def test_the_newest_answer_that_covers_a_message_decides(
    answers: list[Answer], channel: str, purpose: str, may: bool
) -> None:
    for order in (answers, answers[::-1]):
        assert (told(Consent(tuple(order)), channel, purpose) == "") is may


@pytest.mark.parametrize(
    ("consent", "purpose", "to", "why"),
    [
        (stopped(Cause.UNSUBSCRIBED, "marketing"), "marketing", ADA, "its owner unsubscribed"),
        (stopped(Cause.UNSUBSCRIBED, "marketing"), "news", ADA, ""),
        (stopped(Cause.UNSUBSCRIBED, "marketing"), "marketing", "bob@example.com", ""),
        (stopped(Cause.UNSUBSCRIBED, "marketing"), "marketing", "Ada@EXAMPLE.com ", "its owner unsubscribed"),
        (stopped(Cause.COMPLAINED), "news", ADA, "its owner reported spam"),
        (stopped(Cause.COMPLAINED), TRANSACTIONAL, ADA, ""),
        (stopped(Cause.BOUNCED), TRANSACTIONAL, ADA, "it bounced"),
        (stopped(Cause.ERASED), TRANSACTIONAL, ADA, "its owner was erased"),
    ],
)
def test_a_suppressed_address_gets_nothing_of_its_purpose(consent: Consent, purpose: str, to: str, why: str) -> None:
    found = told(consent, purpose=purpose, to=to)
    assert found == (f"the address is suppressed: {why}" if why else "")


def test_a_suppression_is_of_one_channel() -> None:
    consent = stopped(Cause.BOUNCED, channel="sms", address="+44 20 7946 0000")
    assert told(consent, "sms", to="+442079460000").endswith("it bounced")
    assert told(consent, "voice", to="+442079460000") == ""


def test_the_field_stops_everything_but_what_is_needed() -> None:
    assert told(NOTHING_STORED, unsubscribed=True) == "the contact has unsubscribed"
    assert told(NOTHING_STORED, purpose=TRANSACTIONAL, unsubscribed=True) == ""


def test_the_reason_tells_who_refused_what_and_when() -> None:
    found = objection(
        Consent((answer("email", EVERY, False),)), unsubscribed=False, channel="email", purpose="news", address=ADA
    )
    assert found is not None
    assert found.told == "the contact refused everything by email on 2026-03-02 (one_click)"
    assert found.inputs == {"consent.email.*": False}


WORDS = st.sampled_from(["email", "dm", EVERY])
PURPOSES = st.sampled_from(["marketing", "news", TRANSACTIONAL, EVERY])
ANSWERS = st.lists(st.builds(answer, WORDS, PURPOSES, st.booleans(), st.integers(0, 3)), max_size=6)


@given(ANSWERS, st.sampled_from(["email", "dm"]), st.sampled_from(["marketing", "news"]))
def test_refusing_everything_now_stops_everything_whatever_was_said_before(
    answers: list[Answer], channel: str, purpose: str
) -> None:
    assert told(Consent((*answers, answer(EVERY, EVERY, False, 4))), channel, purpose) != ""
    assert told(Consent((*answers, answer(channel, purpose, True, 4))), channel, purpose) == ""
