"""What changed between two documents is told step by step, and where steps lead as it works out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.domain.workflow.difference import Change, differences
from core.domain.workflow.source import parse
from core.templates import templates

BASE = """
title: Nurture
timezone: Europe/Berlin
triggers:
  - {event: form.submitted}
  - {event: trial.started}
steps:
  - {id: pause, kind: wait, for: 2d}
  - {id: note, kind: log, message: hello}
"""


def _changes(after: str, before: str = BASE) -> list[Change]:
    return list(differences(parse(before), parse(after)))


def test_nothing_changed_where_only_comments_and_layout_did() -> None:
    assert _changes(BASE.replace("for: 2d}", "'for':   2d}   # two days")) == []


@pytest.mark.parametrize(
    ("old", "new", "change"),
    [
        ("title: Nurture", "title: Care", Change("setting", "changed", "title", "", "Nurture", "Care")),
        ("timezone: Europe/Berlin\n", "", Change("setting", "removed", "timezone", before="Europe/Berlin")),
        ("title:", "reentry: after_exit\ntitle:", Change("setting", "added", "reentry", after="after_exit")),
        ("for: 2d", "for: 3d", Change("step", "changed", "pause", "for", "2d", "3d")),
        ("for: 2d", "for: 2d, at: '09:00'", Change("step", "changed", "pause", "at", None, "09:00")),
        (
            "  - {event: trial.started}\n",
            "",
            Change("trigger", "removed", "1", before={"event": "trial.started"}),
        ),
        ("for: 2d", "for: 2d, next: end", Change("step", "rewired", "pause", "next", "note", "end")),
    ],
)
def test_a_change_says_what_it_is_of(old: str, new: str, change: Change) -> None:
    assert change in _changes(BASE.replace(old, new))


def test_the_order_of_triggers_means_nothing() -> None:
    lines = BASE.splitlines()
    lines[4], lines[5] = lines[5], lines[4]
    assert _changes("\n".join(lines)) == []


def test_a_step_put_between_two_rewires_the_one_before_it() -> None:
    between = BASE.replace("  - {id: note", "  - {id: more, kind: wait, for: 1d}\n  - {id: note")
    assert _changes(between) == [
        Change("step", "rewired", "pause", "next", "note", "more"),
        Change("step", "added", "more", after={"id": "more", "kind": "wait", "for": "1d"}),
    ]
    assert [change.sentence for change in _changes(between)] == [
        "step pause: next leads to more, no longer to note",
        "step more is new: a wait step",
    ]


def test_a_removed_step_and_a_new_entry_are_told() -> None:
    without = BASE.replace("  - {id: pause, kind: wait, for: 2d}\n", "")
    assert [change.sentence for change in _changes(without)] == [
        "step (entry): it leads to note, no longer to pause",
        "step pause is gone: a wait step",
    ]


def test_true_and_one_are_not_the_same() -> None:
    flag = "steps: [{id: a, kind: webhook, event_type: x.y, await: %s}]"
    (change,) = _changes(flag % "true", flag % "1")
    assert (change.before, change.after) == (1, True)


def test_a_draft_that_does_not_compile_is_compared_as_it_is_written() -> None:
    broken = BASE.replace("kind: log, message: hello", "kind: lgo, next: nowhere")
    assert [change.sentence for change in _changes(broken)] == [
        "step note: kind is lgo, no longer log",
        "step note: message is not set, no longer hello",
        "step note: next leads to nowhere, no longer to end",
    ]


@pytest.mark.parametrize("template", templates(), ids=lambda template: template.id)
def test_a_document_does_not_differ_from_itself(template: Any) -> None:
    assert differences(parse(template.source), parse(template.source)) == ()


ANYTHING: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["a", "b", "end", "wait"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "kind", "next", "exits", "event", "steps", "triggers"]), inner)
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(*[st.dictionaries(st.sampled_from(["title", "steps", "triggers", "goals"]), ANYTHING)] * 2)
def test_no_two_documents_make_it_raise(before: dict[str, Any], after: dict[str, Any]) -> None:
    for change in differences(before, after):
        assert change.sentence
