"""What attempts leave behind in an endpoint, and what is no fault of its own."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from core.domain.webhooks import faults, throttle
from core.domain.webhooks.classify import Outcome
from core.domain.webhooks.faults import ResolverWatch
from core.domain.webhooks.gates import GateReason
from core.domain.webhooks.health import Attempted, Health, after
from tests.conftest import START

OK = Attempted(True, 200)
BAD = Attempted(False, 500)
HOUR = timedelta(hours=1)


def test_failures_count_from_the_first_one_until_an_answer() -> None:
    failed = after(Health(), [BAD, BAD], START)
    assert failed == Health(failing_since=START, failures=2)
    assert after(failed, [BAD], START + HOUR) == Health(failing_since=START, failures=3)
    assert after(failed, [BAD, OK], START + HOUR) == Health()
    assert after(failed, [OK, BAD], START + HOUR) == Health(failing_since=START + HOUR, failures=1)


def test_the_tenth_failure_opens_the_breaker_and_each_single_attempt_moves_it_on() -> None:
    opened = after(Health(), [BAD] * 10, START)
    assert (opened.gate_reason, opened.gate_until) == (GateReason.BREAKER, START + timedelta(seconds=30))
    trying = replace(opened, gate_until=START + timedelta(seconds=75))  # as the claim leaves it: until the lease ends
    again = after(trying, [BAD], START + timedelta(seconds=31))
    assert (again.failures, again.gate_until) == (11, START + timedelta(seconds=91))
    assert after(trying, [OK], START) == Health()


def test_a_pause_that_the_receiver_asked_for_outlasts_a_good_answer_and_a_shorter_one() -> None:
    asked = after(Health(), [Attempted(False, 429, retry_after=HOUR)], START)
    assert (asked.gate_reason, asked.gate_until, asked.pace) == (GateReason.RETRY_AFTER, START + HOUR, 0.5)
    shorter = after(asked, [Attempted(False, 503, retry_after=timedelta(seconds=1))], START)
    assert shorter.gate_until == START + HOUR
    answered = after(asked, [OK], START)
    assert (answered.gate_until, answered.failures) == (START + HOUR, 0)


def test_an_hour_of_an_unverified_endpoint_is_not_cut_short() -> None:
    unverified = Health(gate_until=START + HOUR, gate_reason=GateReason.UNVERIFIED)
    assert after(unverified, [OK], START) == unverified
    assert after(unverified, [BAD], START).gate_until == START + HOUR


@pytest.mark.parametrize("status", sorted(throttle.THROTTLING))
def test_answers_that_throttle_halve_the_pace_once_however_many_come_together(status: int) -> None:
    assert after(Health(), [Attempted(False, status)] * 4, START).pace == 0.5
    assert after(Health(), [BAD] * 4, START).pace == 1


def test_what_is_our_fault_changes_nothing_but_when_it_is_tried_again() -> None:
    health = after(Health(failures=3, failing_since=START), [Attempted(False, our_fault=HOUR)], START)
    assert health == Health(START, 3, gate_until=START + HOUR, gate_reason=GateReason.OUR_FAULT)


def test_names_that_nobody_resolves_are_our_own_outage_and_single_dead_ones_are_not() -> None:
    watch = ResolverWatch()
    for number in range(20):
        watch.saw("https://dead.example/hook", Outcome.DNS_FAILED, START)
        watch.saw(f"https://dead{number % 4}.example/", Outcome.DNS_FAILED, START)
    assert watch.is_out(START)
    watch.saw("https://203.0.113.7/", Outcome.DELIVERED, START)
    assert watch.is_out(START), "an address needs no resolver"
    watch.saw("https://alive.example/", Outcome.HTTP_STATUS, START)
    assert not watch.is_out(START)
    for number in range(5):
        watch.saw(f"https://dead{number}.example/", Outcome.DNS_FAILED, START)
    assert not watch.is_out(START + timedelta(seconds=31)), "it forgets"


@pytest.mark.parametrize(
    ("outcome", "resolver_is_out", "age", "wait"),
    [
        (Outcome.DESTINATION_NOT_ALLOWED, False, timedelta(), faults.FORBIDDEN_FOR),
        (Outcome.DESTINATION_NOT_ALLOWED, False, faults.GIVEN_UP_AFTER, None),
        (Outcome.KEY_MISSING, False, timedelta(), faults.LOCKED_FOR),
        (Outcome.DNS_FAILED, True, timedelta(), faults.UNRESOLVED_FOR),
        (Outcome.DNS_FAILED, False, timedelta(), None),
        (Outcome.TIMEOUT, True, timedelta(), None),
        (Outcome.DELIVERED, True, timedelta(), None),
    ],
)
def test_only_our_own_faults_are_not_counted(
    outcome: Outcome, resolver_is_out: bool, age: timedelta, wait: timedelta | None
) -> None:
    assert faults.wait_of(outcome, START - age, START, resolver_is_out=resolver_is_out) == wait
