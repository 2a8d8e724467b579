"""The message step: what it sends, holds and skips, and why."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from core.domain import machine
from core.domain.effects import KeepDeadLetter, SendMessage, WithdrawMessages
from core.domain.enrollment import Facts, MessageEnded, Sent, TimerFired
from core.domain.messaging import addresses
from core.domain.messaging import terms as sending_terms
from core.domain.messaging.consent import Answer, Cause, Consent, Suppression
from core.domain.messaging.terms import Terms
from core.domain.trace import Transition
from core.domain.workflow.compile import compile_document
from core.domain.workflow.version import Version
from core.domain.workflow.zones import Zone
from tests.domain.machine_cases import DAY, HOUR, START, compiled, entered, known, moved, told

MAIL = {"subject": "Hello {{ contact.first_name }}", "text": "Dear {{ contact.first_name }},\n\nhello."}
EVENING = datetime(2026, 3, 2, 21, 30, tzinfo=UTC)


def version_of(config: dict[str, Any], **head: Any) -> Version:
    steps = [{"id": "mail", "kind": "message", **config}, {"id": "done", "kind": "log", "message": "done"}]
    result = compile_document({**head, "steps": steps}, workflow_id="nurture", number=1)
    assert result.version is not None, result.problems
    return result.version


def sent_by(transition: Transition) -> list[SendMessage]:
    return [effect for effect in transition.effects if isinstance(effect, SendMessage)]


def first(transition: Transition) -> tuple[str, str]:
    return next((entry.outcome, entry.reason) for entry in transition.trace if entry.step_id == "mail" and entry.exit)


def after(*ago: timedelta, channel: str = "email", **fields: Any) -> Facts:
    return replace(known(**fields), sent=tuple(Sent(channel, START - one) for one in ago))


def test_an_email_goes_to_the_contact_with_its_texts_filled_in() -> None:
    transition = entered(version_of(MAIL), known(first_name="Ada"))
    (message,) = sent_by(transition)
    assert (message.channel, message.purpose, message.to) == ("email", "marketing", "ada@example.com")
    assert (message.subject, message.text) == ("Hello Ada", "Dear Ada,\n\nhello.")
    assert (message.contact_id, message.ordinal, message.awaited, message.id[:4]) == ("cnt_1", 1, False, "msg_")
    assert transition.enrollment.outputs["mail"] == {"message_id": message.id}
    assert transition.enrollment.messages == {"email": 1}
    assert [entry.outcome for entry in transition.trace] == ["entered", "ok", "ok", "ended"]
    assert entered(version_of(MAIL), known(first_name="Ada")) == transition


def test_a_value_that_is_not_known_leaves_a_gap_and_the_reason_says_so() -> None:
    transition = entered(version_of({**MAIL, "subject": "Hi {{ contact.first_name }}\n there"}), known(first_name=None))
    assert sent_by(transition)[0].subject == "Hi there"
    assert first(transition) == (
        "ok",
        "Sends message 1 on email to ada@example.com. Left empty: contact.first_name is not known.",
    )


def test_values_are_escaped_in_html_and_nowhere_else() -> None:
    config = {**MAIL, "html": "<p>{{ contact.first_name }}</p>"}
    (message,) = sent_by(entered(version_of(config), known(first_name="<b>Ada</b>")))
    assert message.html == "<p>&lt;b&gt;Ada&lt;/b&gt;</p>"
    assert message.subject == "Hello <b>Ada</b>"


def test_messages_of_an_enrollment_are_counted_by_channel() -> None:
    dm = {"kind": "message", "channel": "dm", "to": "@ada", "text": "hi"}
    steps = [{"id": "a", **dm}, {"id": "b", "kind": "message", **MAIL}, {"id": "c", **dm}]
    result = compile_document({"steps": steps})
    assert result.version is not None
    sent = sent_by(entered(result.version))
    assert [(one.channel, one.ordinal) for one in sent] == [("dm", 1), ("email", 1), ("dm", 2)]
    assert len({one.id for one in sent}) == 3


@pytest.mark.parametrize(
    ("config", "fields", "reason"),
    [
        ({}, {"email": None}, "There is no address to send to: contact.email is empty."),
        ({"to": "{{ vars.address }}"}, {}, "There is no address to send to: vars.address is empty."),
        ({"to": "Ada <ada@example.com>, b@example.com"}, {}, "Ada <ada@example.com>, b@example.com is not an e-mail"),
        ({}, {"unsubscribed": True}, "The contact has unsubscribed, and this is marketing."),
        ({"purpose": "news"}, {"unsubscribed": True}, "The contact has unsubscribed, and this is news."),
    ],
)
def test_a_message_that_must_not_or_cannot_go_is_skipped_with_the_reason(
    config: dict[str, Any], fields: dict[str, Any], reason: str
) -> None:
    transition = entered(version_of({**MAIL, **config}), known(**fields))
    outcome, why = first(transition)
    assert (outcome, sent_by(transition)) == ("skipped", [])
    assert why.startswith(reason)
    assert transition.enrollment.outputs["mail"] == {"sent": False, "outcome": "skipped"}


REFUSED = Consent((Answer("email", "marketing", False, START, "one_click"),))
DEAD = Consent((), (Suppression(addresses.key("org_1", "email", "ada@example.com"), "*", Cause.BOUNCED),), "org_1")


@pytest.mark.parametrize(
    ("config", "consent", "reason"),
    [
        ({}, REFUSED, "The contact refused marketing by email on 2026-03-02 (one_click), and this is marketing."),
        ({"purpose": "news"}, REFUSED, ""),
        ({"purpose": "news"}, DEAD, "The address is suppressed: it bounced, and this is news."),
        ({"purpose": "transactional"}, DEAD, "The address is suppressed: it bounced, and this is transactional."),
        ({"to": "Ada@Example.COM"}, DEAD, "The address is suppressed: it bounced, and this is marketing."),
        ({"to": "bob@example.com"}, DEAD, ""),
    ],
)
def test_what_the_contact_or_the_address_must_not_get_is_skipped_with_the_reason(
    config: dict[str, Any], consent: Consent, reason: str
) -> None:
    version = version_of({**MAIL, **config})
    assert "consent" in version.needs
    transition = entered(version, replace(known(), consent=consent))
    outcome, why = first(transition)
    assert (outcome, why) == ("skipped", reason) if reason else outcome == "ok"
    assert len(sent_by(transition)) == (0 if reason else 1)


def test_a_message_that_was_held_is_looked_at_again_when_its_time_comes() -> None:
    version = version_of(MAIL, quiet_hours="21:00-08:00", timezone="UTC")
    held = entered(version, known(), now=EVENING)
    assert held.trace[-1].outcome == "held"
    morning = EVENING + timedelta(hours=10, minutes=30)
    over = machine.advance(version, held.enrollment, TimerFired(), replace(known(), consent=REFUSED), morning)
    assert over is not None
    assert first(over)[0] == "skipped"
    assert sent_by(over) == []


def test_a_transactional_message_reaches_who_unsubscribed() -> None:
    assert sent_by(entered(version_of({**MAIL, "purpose": "transactional"}), known(unsubscribed=True)))


@pytest.mark.parametrize(
    ("config", "exits", "taken"),
    [
        ({}, {}, "next"),
        ({"await": True}, {}, "failed"),
        ({}, {"skipped": "done"}, "skipped"),
        ({"await": True}, {"skipped": "done"}, "skipped"),
    ],
)
def test_who_is_skipped_goes_the_way_written_for_it(config: dict[str, Any], exits: dict[str, str], taken: str) -> None:
    transition = entered(version_of({**MAIL, **config, "exits": exits}), known(email=None))
    assert next(entry.exit for entry in transition.trace if entry.step_id == "mail" and entry.exit) == taken


def test_quiet_hours_hold_a_message_until_they_end_in_the_contacts_zone() -> None:
    version = version_of(MAIL, quiet_hours="22:00-08:00", timezone="UTC")
    facts = known(timezone="Europe/Berlin", first_name="Ada")
    held = entered(version, facts, now=EVENING)
    assert (held.trace[-1].outcome, sent_by(held)) == ("held", [])
    assert held.trace[-1].reason == (
        "Held through quiet hours, until 2026-03-03 08:00 (Europe/Berlin, the contact's zone)."
    )
    assert held.enrollment.due_at == datetime(2026, 3, 3, 7, tzinfo=UTC)
    assert sent_by(moved(version, held.enrollment, TimerFired(), held.enrollment.due_at, facts))
    assert sent_by(entered(version, known(first_name="Ada"), now=EVENING))  # 21:30 in the workflow's zone
    assert sent_by(entered(version_of({**MAIL, "ignore_quiet_hours": True}, quiet_hours="22:00-08:00"), now=EVENING))


def test_what_happens_during_quiet_hours_counts_when_they_end() -> None:
    version = version_of(MAIL, quiet_hours="21:00-08:00")
    held = entered(version, known(), now=EVENING)
    assert held.enrollment.due_at is not None
    transition = moved(version, held.enrollment, TimerFired(), held.enrollment.due_at, known(unsubscribed=True))
    assert first(transition)[0] == "skipped"
    overdue = replace(held.enrollment, skipping=True)
    passed = moved(version, overdue, TimerFired(), held.enrollment.due_at)
    assert first(passed) == ("skipped", "Passed over: it fell due while the workflow was paused.")


def test_a_frequency_cap_holds_a_message_too_many_and_says_how_many_went() -> None:
    version = version_of(MAIL, frequency_caps=[{"at_most": 2, "per": "24h"}])
    assert sent_by(entered(version, after(HOUR)))
    held = entered(version, after(HOUR, 20 * HOUR, channel="dm"))
    assert held.trace[-1].outcome == "held"
    assert held.trace[-1].reason == (
        "Held until 2026-03-02 13:00 (UTC, as no zone is set): at most 2 messages in 1 day, "
        "and 2 have gone out, the last at 2026-03-02 08:00 (UTC, as no zone is set)."
    )
    assert held.trace[-1].inputs["contact.messages"] == [
        {"channel": "dm", "at": "2026-03-01T13:00:00+00:00"},
        {"channel": "dm", "at": "2026-03-02T08:00:00+00:00"},
    ]
    assert held.enrollment.due_at == START + 4 * HOUR
    later = moved(version, held.enrollment, TimerFired(), START + 4 * HOUR, after(HOUR, 20 * HOUR))
    assert sent_by(later)
    again = moved(version, held.enrollment, TimerFired(), START + 4 * HOUR, after(HOUR, -HOUR))
    assert (again.trace[-1].outcome, again.enrollment.due_at) == ("held", START + 23 * HOUR)


def test_a_frequency_cap_may_skip_instead() -> None:
    cap = {"at_most": 1, "per": "day", "channel": "email", "otherwise": "skip"}
    outcome, reason = first(entered(version_of(MAIL, frequency_caps=[cap]), after(HOUR)))
    assert (outcome, reason[:62]) == ("skipped", "Too many: at most 1 message on email a day, and 1 has gone out")
    assert sent_by(entered(version_of(MAIL, frequency_caps=[cap]), after(HOUR, channel="dm")))
    assert sent_by(entered(version_of({**MAIL, "ignore_caps": True}, frequency_caps=[cap]), after(HOUR)))


def test_an_awaited_message_goes_on_with_its_own_outcome_alone() -> None:
    version = version_of({**MAIL, "await": True, "exits": {"sent": "done", "failed": "end"}})
    waits = entered(version)
    (message,) = sent_by(waits)
    assert waits.enrollment.waiting is not None
    assert (waits.enrollment.waiting.kind, waits.enrollment.waiting.subject) == ("message", message.id)
    assert (message.awaited, waits.enrollment.due_at) == (True, None)
    sent = moved(version, waits.enrollment, MessageEnded(message.id, True, "250 OK"), START + HOUR)
    assert told(sent)[0] == ("mail", "ok", "The message on email was sent.")
    failed = moved(version, waits.enrollment, MessageEnded(message.id, False, "550 no such user"), START + HOUR)
    assert told(failed)[0] == ("mail", "failed", "The message on email was not sent: 550 no such user.")
    assert [entry.step_id for entry in failed.trace] == ["mail", "mail"]
    assert failed.enrollment.outputs["mail"]["outcome"] == "550 no such user"


def test_time_alone_does_not_move_an_awaited_message() -> None:
    version = version_of({**MAIL, "await": True, "exits": {"sent": "done", "failed": "end"}})
    assert machine.advance(version, entered(version).enrollment, TimerFired(), known(), START + DAY) is None


RETRY = {"retry": {"attempts": 2, "delay": "1h"}}


@pytest.mark.parametrize(
    ("more", "outcome", "entry", "way", "letters"),
    [
        ({}, "550 no", ("failed", ""), ["mail"], ["NOT_SENT"]),
        ({"on_error": "continue"}, "550 no", ("failed", "failed"), ["mail", "done", "sorry"], ["NOT_SENT"]),
        ({"on_error": "sorry"}, "550 no", ("failed", "error"), ["mail", "sorry"], ["NOT_SENT"]),
        ({"exits": {"failed": "sorry"}}, "550 no", ("failed", "failed"), ["mail", "sorry"], []),
        (RETRY, "550 no", ("failed", ""), ["mail"], []),
        ({**RETRY, "exits": {"failed": "sorry"}}, "550 no", ("failed", ""), ["mail"], []),
        ({}, "skipped: the contact was deleted", ("skipped", "failed"), ["mail", "done", "sorry"], []),
        ({"exits": {"skipped": "sorry"}}, "skipped: deleted", ("skipped", "skipped"), ["mail", "sorry"], []),
        ({"timeout": "2h"}, "", ("failed", ""), ["mail"], ["TIMEOUT"]),
        ({"timeout": "2h", "exits": {"failed": "sorry"}}, "", ("failed", "timeout"), ["mail", "sorry"], []),
    ],
)
def test_an_awaited_message_that_was_not_sent_is_tried_again_led_on_or_failed_as_its_author_says(
    more: dict[str, Any], outcome: str, entry: tuple[str, str], way: list[str], letters: list[str]
) -> None:
    logs = [{"id": name, "kind": "log", "message": name} for name in ("done", "sorry")]
    compiled = compile_document({"steps": [{"id": "mail", "kind": "message", **MAIL, "await": True, **more}, *logs]})
    assert compiled.version is not None, compiled.problems
    waits = entered(compiled.version)
    (message,) = sent_by(waits)
    stimulus = MessageEnded(message.id, False, outcome) if outcome else TimerFired()
    ended = moved(compiled.version, waits.enrollment, stimulus, START + 2 * HOUR)
    assert (ended.trace[0].outcome, ended.trace[0].exit) == entry
    assert list(dict.fromkeys(one.step_id for one in ended.trace)) == way
    assert [effect.failure for effect in ended.effects if isinstance(effect, KeepDeadLetter)] == letters
    assert (ended.enrollment.waiting is not None) == ("retry" in more)
    assert ended.enrollment.outputs.get("mail", {}).get("sent", False) is False
    taken_back = [effect.message_id for effect in ended.effects if isinstance(effect, WithdrawMessages)]
    assert taken_back == ([] if outcome else [message.id])


@pytest.mark.parametrize(
    ("outcome", "told_as", "letters"),
    [
        (MessageEnded("msg_1", True, "250 ok", "mail", "message 1 on email to a@x.y"), "ok", 0),
        (MessageEnded("msg_1", False, "554 no", "mail", "message 1 on email to a@x.y", 3), "failed", 1),
        (MessageEnded("msg_1", False, "skipped: deleted", "mail", "message 1 on email to a@x.y"), "skipped", 0),
    ],
)
def test_what_became_of_a_message_that_nobody_waited_for_is_one_line_more_even_after_the_end(
    outcome: MessageEnded, told_as: str, letters: int
) -> None:
    over = entered(version_of(MAIL)).enrollment
    after = moved(version_of(MAIL), over, outcome, START + HOUR)
    (line,) = after.trace
    assert (line.seq, line.step_id, line.kind, line.outcome, line.exit) == (5, "mail", "outcome", told_as, "")
    assert line.reason.startswith("Message 1 on email to a@x.y was ")
    assert after.enrollment == replace(over, rev=over.rev + 1, trace_count=5)
    assert [effect.message_id for effect in after.effects if isinstance(effect, KeepDeadLetter)] == ["msg_1"] * letters
    assert (after.ends, after.kind) == (False, "moved")


@pytest.mark.parametrize(
    ("when_empty", "outcome", "messages"), [("send", "ok", 1), ("skip", "skipped", 0), ("fail", "failed", 0)]
)
def test_a_message_with_gaps_is_sent_skipped_or_fails_as_its_author_says(
    when_empty: str, outcome: str, messages: int
) -> None:
    transition = entered(version_of({**MAIL, "when_empty": when_empty}), known(first_name=None))
    (line,) = [entry for entry in transition.trace if entry.step_id == "mail" and entry.kind == "message"]
    assert (line.outcome, len(sent_by(transition))) == (outcome, messages)
    assert "contact.first_name is not known" in line.reason
    whole = entered(version_of({**MAIL, "when_empty": when_empty}), known(first_name="Ada"))
    assert len(sent_by(whole)) == 1


def test_a_message_takes_with_it_when_it_may_leave() -> None:
    caps = [{"at_most": 2, "per": "day"}, {"at_most": 1, "per": "7d", "channel": "dm"}]
    version = version_of(MAIL, quiet_hours="21:00-08:00", frequency_caps=caps)
    (message,) = sent_by(entered(version, known(timezone="Europe/Berlin")))
    terms = sending_terms.from_data(json.loads(json.dumps(message.terms)))
    assert terms == Terms(Zone("Europe/Berlin", "contact"), version.quiet_hours, version.frequency_caps[:1])
    (free,) = sent_by(entered(version_of({**MAIL, "ignore_quiet_hours": True}, quiet_hours="21:00-08:00")))
    assert free.terms == {}


@pytest.mark.parametrize(
    ("config", "path", "reason"),
    [
        ({"text": "x"}, "subject", "MISSING_KEY"),
        ({"subject": "x"}, "text", "MISSING_KEY"),
        ({"text": "x", "channel": "dm"}, "to", "MISSING_KEY"),
        ({"text": "x", "channel": "pigeon_post"}, "to", "MISSING_KEY"),
        ({"text": "x", "channel": "sms", "html": "<p>"}, "html", "NOT_FOR_CHANNEL"),
        ({"text": "x", "channel": "sms", "subject": "x"}, "subject", "NOT_FOR_CHANNEL"),
        ({**MAIL, "channel": "E-Mail"}, "channel", "BAD_NAME"),
        ({**MAIL, "purpose": 3}, "purpose", "WRONG_TYPE"),
        ({**MAIL, "html": "{{ contact.frist_name }}"}, "html", "TEMPLATE_UNKNOWN_NAME"),
        ({**MAIL, "await": "yes"}, "await", "WRONG_TYPE"),
    ],
)
def test_what_a_message_lacks_is_told_where_it_is_missing(config: dict[str, Any], path: str, reason: str) -> None:
    problems = compile_document({"steps": [{"id": "a", "kind": "message", **config}]}).problems
    assert [(one.field, one.reason) for one in problems] == [(f"steps[0].{path}", reason)]


def test_a_loop_of_messages_alone_is_refused() -> None:
    text = "steps: [{id: a, kind: message, subject: x, text: x, next: a}]"
    with pytest.raises(AssertionError, match="LOOP"):
        compiled(text)


def test_a_text_message_goes_to_the_phone() -> None:
    config = {"channel": "sms", "text": "hi"}
    assert sent_by(entered(version_of(config), known(phone="+44 20 7946 0000")))[0].to == "+44 20 7946 0000"
    assert first(entered(version_of(config)))[0] == "skipped"
