"""Who may enter: the rules in their order, what each says, and the key that tells enrollments apart."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.enrollment import Facts, RecordFacts, State
from core.domain.workflow.entry import LONGEST_KEY, Judgement, Standing, checks, judge, key_of, key_text
from core.domain.workflow.version import Version
from tests.domain.machine_cases import DAY, HOUR, START, WAIT, compiled

RUNNING = Standing(State.ACTIVE, START - DAY)
OVER = Standing(State.EXITED, START - DAY)


def known(*lists: str, **fields: Any) -> Facts:
    lead = RecordFacts("lead_1", "lead", {"tier": "B", "score": 12})
    return Facts(RecordFacts("cnt_1", "contact", fields), lead, lists=frozenset(lists))


def judged(text: str, facts: Facts | None = None, standing: Standing | None = None, **given: Any) -> Judgement:
    options: dict[str, Any] = {"event": None, "variables": {}, "key": "", **given}
    return judge(compiled(f"{text}\n{WAIT}"), facts or known(), START, standing=standing, **options)


def outcome(*args: Any, **given: Any) -> tuple[str, str]:
    found = judged(*args, **given)
    return found.outcome, found.reason


def test_whoever_nothing_keeps_out_enters() -> None:
    assert judged("") == Judgement("enrolled")


@pytest.mark.parametrize(
    ("text", "facts", "expected"),
    [
        ("", known(unsubscribed=True), ("suppressed", "UNSUBSCRIBED")),
        ("entry: {suppress_lists: [customers]}", known("customers"), ("suppressed", "SUPPRESSION_LIST")),
        ("entry: {suppress_lists: [customers]}", known("news"), ("enrolled", "")),
        ('entry: {suppress: contact.country == "US"}', known(country="US"), ("suppressed", "SUPPRESSED")),
        ('entry: {suppress: contact.country == "US"}', known(country="DE"), ("enrolled", "")),
        ('entry: {suppress: contact.country == "US"}', known(), ("enrolled", "")),
        ("entry: {when: contact.employees > 10}", known(employees=11), ("enrolled", "")),
        ("entry: {when: contact.employees > 10}", known(employees=9), ("not_eligible", "ENTRY_CONDITION")),
        ("entry: {when: contact.employees > 10}", known(), ("not_eligible", "ENTRY_CONDITION")),
        ('goals: [{name: rich, when: lead.score > 10}]', known(), ("not_eligible", "GOAL_REACHED")),
        ('goals: [{name: rich, when: lead.score > 99}]', known(), ("enrolled", "")),
        ('goals: [{name: paid, event: paid, when: lead.score > 10}]', known(), ("enrolled", "")),
        ('exit_on: [{name: b, when: lead.tier == "B"}]', known(), ("not_eligible", "EXIT_RULE")),
        ('exit_on: [{name: s, when: vars.gone == true}]', known(), ("enrolled", "")),
    ],
)  # fmt: skip
def test_each_rule_keeps_out_whom_it_should(text: str, facts: Facts, expected: tuple[str, str]) -> None:
    assert outcome(text, facts) == expected


def test_the_first_rule_that_keeps_out_is_told() -> None:
    text = "variables: {n: integer}\nentry: {suppress_lists: [a], suppress: 'true', when: 'false'}"
    both = known("a", unsubscribed=True)
    order = [
        outcome(text, both, RUNNING, variables={"n": "x"}),
        outcome(text, both, RUNNING),
        outcome(text, known("a"), RUNNING),
        outcome(text, known(), RUNNING),
        outcome(text.replace("suppress: 'true', ", ""), known(), RUNNING),
        outcome("", known(), RUNNING),
    ]
    assert [reason for _, reason in order] == [
        "WRONG_TYPE", "UNSUBSCRIBED", "SUPPRESSION_LIST", "SUPPRESSED", "ENTRY_CONDITION", "REENTRY_ONCE",
    ]  # fmt: skip


def test_a_refusal_names_the_condition_and_what_it_looked_at() -> None:
    assert judged("entry: {when: contact.employees > 10}", known(employees=9)) == Judgement(
        "not_eligible",
        "ENTRY_CONDITION",
        "The entry condition contact.employees > 10 does not hold (contact.employees is 9).",
        {"contact.employees": 9},
    )
    unknown = judged("entry: {when: contact.employees > 10}")
    assert unknown.message.endswith("cannot be told, because contact.employees is not known.")


def test_conditions_see_the_event_and_the_variables() -> None:
    text = "variables: {plan: string}\nentry: {when: 'vars.plan == \"pro\" && event.fields.n == 1'}"
    event = {"id": "evt_1", "name": "a", "fields": {"n": 1}}
    assert outcome(text, variables={"plan": "pro"}, event=event) == ("enrolled", "")
    assert outcome(text, variables={"plan": "free"}, event=event)[0] == "not_eligible"


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("string", "x", 1),
        ("integer", 3.0, 3.5),
        ("number", 3, True),
        ("boolean", False, 0),
        ("instant", "2026-03-02T09:00:00Z", "soon"),
        ("date", "2026-03-02", 3),
        ("list", [1], "x"),
        ("map", {"a": 1}, [1]),
        ("any", object, None),
    ],
)
def test_variables_must_fit_what_is_declared(kind: str, good: Any, bad: Any) -> None:
    text = f"variables: {{v: {kind}}}"
    assert judged(text, variables={"v": good}).outcome == "enrolled"
    assert judged(text, variables={"v": None}).outcome == "enrolled"
    if kind != "any":
        refused = judged(text, variables={"v": bad})
        assert (refused.outcome, refused.reason, refused.field) == ("invalid", "WRONG_TYPE", "variables.v")


def test_a_variable_that_is_not_declared_is_refused_with_the_nearest_name() -> None:
    refused = judged("variables: {amount: number}", variables={"amuont": 1})
    assert (refused.outcome, refused.reason, refused.field) == ("invalid", "UNKNOWN_VARIABLE", "variables.amuont")
    assert "Did you mean amount?" in refused.message
    assert judged("", variables={"anything": 1}).outcome == "enrolled"


@pytest.mark.parametrize(
    ("policy", "standing", "enters"),
    [
        ("reentry: once", RUNNING, False),
        ("reentry: once", OVER, False),
        ("reentry: after_exit", RUNNING, False),
        ("reentry: after_exit", OVER, True),
        ("reentry: after_interval\nreentry_interval: 2d", OVER, False),
        ("reentry: after_interval\nreentry_interval: 24h", OVER, True),
        ("reentry: after_interval\nreentry_interval: 24h", RUNNING, False),
        ("reentry: concurrent_by_key\nkey: event.fields.order", RUNNING, False),
        ("reentry: concurrent_by_key\nkey: event.fields.order", OVER, False),
    ],
)
def test_who_was_here_enters_again_as_the_policy_says(policy: str, standing: Standing, enters: bool) -> None:
    found = judged(policy, standing=standing, key="o-1")
    assert found.outcome == ("enrolled" if enters else "already_enrolled")
    assert judged(policy, key="o-1").outcome == "enrolled"


def test_an_interval_tells_when_it_is_over() -> None:
    found = judged("reentry: after_interval\nreentry_interval: 2d", standing=OVER)
    assert "it may enter again from 2026-03-03 09:00 UTC on" in found.message


def test_parallel_enrollments_need_a_key_that_is_known() -> None:
    text = "reentry: concurrent_by_key\nkey: event.fields.order"
    assert outcome(text) == ("not_eligible", "KEY_UNKNOWN")
    assert outcome(text, key="o-1") == ("enrolled", "")


@pytest.mark.parametrize(
    ("value", "key"),
    [
        (None, ""), ("o-1", "o-1"), (" o-1 ", "o-1"), (12, "12"), (12.0, "12"), (1.5, "1.5"), (True, "true"),
        ([1, "a"], '[1,"a"]'), ("a\0b", "ab"), ("x" * 200, "x" * 200),
    ],
)  # fmt: skip
def test_a_key_is_text(value: Any, key: str) -> None:
    assert key_text(value) == key


@given(st.text("ab", min_size=LONGEST_KEY + 1, max_size=260), st.text("ab", min_size=LONGEST_KEY + 1, max_size=260))
def test_long_keys_are_cut_and_stay_apart(one: str, other: str) -> None:
    assert len(key_text(one)) == LONGEST_KEY
    assert (key_text(one) == key_text(other)) == (one == other)


def test_the_key_of_a_trigger_goes_before_the_workflows() -> None:
    version = compiled(f"key: event.fields.a\n{WAIT}")
    event = {"fields": {"a": "1", "b": "2"}}
    own = compiled(f"key: event.fields.b\n{WAIT}").key
    assert key_of(version, known(), event, {}, START) == "1"
    assert key_of(version, known(), event, {}, START, own) == "2"
    assert key_of(version, known(), None, {}, START) == ""
    assert key_of(compiled(WAIT), known(), event, {}, START) == ""


POLICIES = ["once", "after_exit", "after_interval\nreentry_interval: 2d", "concurrent_by_key\nkey: vars.k"]
FIELDS = st.fixed_dictionaries(
    {}, optional={"unsubscribed": st.booleans(), "employees": st.integers(0, 20), "country": st.sampled_from("DU")}
)
STANDINGS = st.none() | st.builds(
    Standing, st.sampled_from(State), st.timedeltas(timedelta(), 5 * DAY).map(lambda ago: START - ago)
)
VERSIONS = {
    policy: compiled(
        f"reentry: {policy}\nvariables: {{k: string}}\n"
        "entry: {when: contact.employees > 3, suppress: 'contact.country == \"U\"', suppress_lists: [out]}\n"
        f"exit_on: [{{name: big, when: contact.employees > 15}}]\n{WAIT}"
    )
    for policy in POLICIES
}


@given(
    st.sampled_from(POLICIES), FIELDS, STANDINGS, st.sampled_from([(), ("out",), ("in",)]), st.sampled_from(["", "a"])
)
def test_a_judgement_is_the_first_check_that_fails(
    policy: str, fields: dict[str, Any], standing: Standing | None, lists: tuple[str, ...], key: str
) -> None:
    version: Version = VERSIONS[policy]
    given_: dict[str, Any] = {"event": None, "variables": {"k": key}, "key": key, "standing": standing}
    facts = known(*lists, **fields)
    found = judge(version, facts, START, **given_)
    failing = [check for check in checks(version, facts, START, **given_) if not check.passes]
    assert (found.outcome == "enrolled") == (not failing)
    if failing:
        assert (found.outcome, found.reason, found.message) == (
            failing[0].outcome, failing[0].rule, failing[0].sentence,
        )  # fmt: skip
    if found.outcome == "enrolled":
        assert not fields.get("unsubscribed")
        assert "out" not in lists
        assert fields.get("country") != "U"
        assert 3 < fields["employees"] <= 15
        assert standing is None or policy.startswith("after_")
        assert standing is None or standing.state.over
    assert judge(version, facts, START, **given_) == found
    if standing is not None and not failing and policy.startswith("after_interval"):
        assert standing.entered_at + 48 * HOUR <= START
