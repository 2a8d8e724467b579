"""What is wrong between the settings of a step is told in the same breath as what is wrong with one of them."""

from __future__ import annotations

import pytest

from core.domain import steps
from core.domain.articles import with_article
from core.domain.steps.base import Step
from core.domain.steps.unread import UNREAD, LookedIntoUnread
from core.domain.workflow.compile import compile_document
from core.domain.workflow.source import parse


def _problems(step: str) -> list[tuple[str, str, str]]:
    document = parse(f"calendars: {{office: {{hours: {{monday: '09:00-17:00'}}}}}}\nsteps: [{{id: a, {step}}}]")
    return [
        (one.field.removeprefix("steps[0]."), one.reason, one.message) for one in compile_document(document).problems
    ]


@pytest.mark.parametrize(
    ("step", "problems"),
    [
        ("kind: wait, for: soon, until: 2027-01-01", [("for", "NOT_A_DURATION"), ("until", "CONFLICT")]),
        ("kind: wait, offset: soon, for: 1d, until: 2027-01-01", [("offset", "NOT_A_DURATION"), ("until", "CONFLICT")]),
        (
            "kind: update, record: lead, set: {score: '{{ contact.emial }}', teir: A}",
            [("set.score", "TEMPLATE_UNKNOWN_NAME"), ("set.teir", "UNKNOWN_FIELD")],
        ),
        (
            "kind: update, set: {teir: {cel: 'lead.'}}",
            [("set.teir.cel", "EXPRESSION_SYNTAX"), ("set.teir", "UNKNOWN_FIELD")],
        ),
        (
            "kind: message, channel: dm, subject: Hi, text: '{{ contact.emial }}'",
            [("text", "TEMPLATE_UNKNOWN_NAME"), ("subject", "NOT_FOR_CHANNEL"), ("to", "MISSING_KEY")],
        ),
        (
            "kind: message, channel: dm, subject: Hi",
            [("text", "MISSING_KEY"), ("subject", "NOT_FOR_CHANNEL"), ("to", "MISSING_KEY")],
        ),
        (
            "kind: wait, until_true: contact.citty == '', for: soon",
            [("for", "NOT_A_DURATION"), ("until_true", "EXPRESSION_UNKNOWN_NAME")],
        ),
        ("kind: wait, until_true: vars.n == 1, for: 1d", [("until_true", "NO_RECORD"), ("until_true", "CONFLICT")]),
        ("kind: webhook, event_type: Big, timeout: 1d", [("event_type", "BAD_EVENT_TYPE"), ("timeout", "CONFLICT")]),
        (
            "kind: wait_for_event, event: a, any_of: [{event: b}], timeout: soon",
            [("timeout", "NOT_A_DURATION"), ("any_of", "CONFLICT")],
        ),
    ],
)
def test_both_are_told(step: str, problems: list[tuple[str, str]]) -> None:
    assert [(field, reason) for field, reason, _ in _problems(step)] == problems


@pytest.mark.parametrize(
    ("step", "problem"),
    [
        ("kind: wait, for: soon", ("for", "NOT_A_DURATION")),  # not also: it needs to know for how long
        ("kind: wait, fro: 1d", ("fro", "UNKNOWN_KEY")),
        ("kind: wait, at: '25:00', within: office", ("at", "NOT_A_TIME")),  # not also: never open then
        ("kind: create, record: company, set: {name: '{{ contact.emial }}'}", ("set.name", "TEMPLATE_UNKNOWN_NAME")),
        ("kind: create, record: company, set: [name]", ("set", "WRONG_TYPE")),
        ("kind: update, record: leed, set: {teir: A}", ("record", "UNKNOWN_VALUE")),
        ("kind: list, ad: [customers]", ("ad", "UNKNOWN_KEY")),
        ("kind: list, add: 5, remove: [customers]", ("add", "WRONG_TYPE")),
        ("kind: assign_owner, among: 5", ("among", "WRONG_TYPE")),
    ],
)
def test_nothing_is_made_of_a_setting_that_could_not_be_read(step: str, problem: tuple[str, str]) -> None:
    assert [(field, reason) for field, reason, _ in _problems(step)] == [problem]


@pytest.mark.parametrize("kind", steps.KINDS, ids=lambda kind: kind.kind)
def test_every_kind_is_called_by_its_article(kind: type[Step]) -> None:
    told = _problems(f"kind: {kind.kind}, zzz: 1")[0]
    vowel = kind.kind[0] in "aeiou"
    assert told == ("zzz", "UNKNOWN_KEY", f"{'an' if vowel else 'a'} {kind.kind} step has no zzz")


def test_articles_go_by_how_a_word_begins() -> None:
    assert [with_article(word) for word in ("update step", "Integer", "uint", "list")] == [
        "an update step", "an Integer", "a uint", "a list",
    ]  # fmt: skip


def test_an_unread_setting_is_there_and_says_nothing() -> None:
    assert UNREAD is not None
    for look in (bool, len, str, iter, hash, lambda one: one == 1, lambda one: one.kind, lambda one: f"{one}"):
        with pytest.raises(LookedIntoUnread):
            look(UNREAD)
