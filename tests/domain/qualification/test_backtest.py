from __future__ import annotations

from collections import Counter
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.enrollment import RecordFacts
from core.domain.qualification.backtest import Backtest, auc, before_the_end, ended, wilson
from core.domain.qualification.score import score
from tests.domain.qualification.test_score import HEAD, MODEL, event, facts

PRO = {"plan": "pro"}
SCORES = st.lists(st.integers(0, 12), max_size=25)


@given(SCORES, SCORES)
def test_the_auc_is_the_share_of_pairs_in_the_right_order(good: list[int], bad: list[int]) -> None:
    pairs = [Fraction(1) if one > other else Fraction(one == other, 2) for one in good for other in bad]
    expected = sum(pairs, Fraction(0)) / len(pairs) if pairs else None
    assert auc(Counter(good), Counter(bad)) == expected


@pytest.mark.parametrize(
    ("positive", "count", "low", "high"),
    [(0, 0, 0, 1), (0, 10, 0, 0.2775), (10, 10, 0.7225, 1), (5, 10, 0.2366, 0.7634), (81, 263, 0.2553, 0.3662)],
)
def test_the_interval_of_a_share_is_wilsons(positive: int, count: int, low: float, high: float) -> None:
    assert wilson(positive, count) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(0, 200), st.integers(0, 200))
def test_the_interval_holds_the_share(positive: int, others: int) -> None:
    low, high = wilson(positive, positive + others)
    assert 0 <= low <= high <= 1
    if positive + others:
        assert low <= positive / (positive + others) <= high


USUAL: frozenset[Any] = frozenset((True, "converted", "won"))


@pytest.mark.parametrize(
    ("path", "value", "positive", "end"),
    [
        ("lead.status", "converted", USUAL, True),
        ("lead.status", "closed", USUAL, False),
        ("lead.status", "working", USUAL, None),  # it is not over
        ("lead.status", "qualified", frozenset({"qualified"}), True),
        ("lead.custom.won", True, USUAL, True),
        ("lead.custom.won", False, USUAL, False),
        ("lead.custom.won", None, USUAL, None),
        ("lead.custom.stage", "Won", USUAL, True),
        ("lead.custom.stage", "lost", USUAL, False),
        ("lead.custom.stage", 1, USUAL, False),  # 1 is not true
        ("lead.custom.stage", 3, frozenset({"3"}), True),
        ("lead.custom.won", True, frozenset({"true"}), True),
        ("lead.custom.stage", ["won"], USUAL, None),
    ],
)
def test_how_a_lead_ended_is_read_off_its_outcome(path: str, value: Any, positive: frozenset[Any], end: bool) -> None:
    assert ended(path, value, positive) is end


@pytest.mark.parametrize(
    ("kind", "outcome", "left"),
    [
        ("lead", "lead.custom.won", {"source": "web", "custom": {"plan": "pro"}}),
        ("contact", "contact.custom.won", {"status": "closed", "tier": "A", "source": "web", "custom": PRO}),
        ("lead", "contact.source", {"source": "web", "custom": {"won": True, "plan": "pro"}}),
    ],
)
def test_what_tells_how_a_lead_ended_is_not_known_before(kind: str, outcome: str, left: dict[str, Any]) -> None:
    told = {"status": "closed", "tier": "A", "source": "web", "custom": {"won": True, **PRO}}
    assert before_the_end(RecordFacts("x", kind, told), outcome).fields == left


def test_a_trial_tells_scores_tiers_and_rules_nobody_met() -> None:
    trial = Backtest(MODEL)
    trial.add(score(MODEL, facts(HEAD, event("demo.requested"))), True)
    trial.add(score(MODEL, facts(HEAD)), False)
    trial.add(score(MODEL, facts({"industry": "competitor"})), False)
    trial.left_out = 2
    report = trial.report()
    assert (report.leads, report.positive, report.auc, report.left_out) == (3, 1, Fraction(1), 2)
    assert [(one.tier, one.count, one.positive) for one in report.calibration] == [
        ("A", 1, 1), ("B", 1, 0), ("C", 0, 0), ("", 1, 0),
    ]  # fmt: skip
    assert sum(one.count for one in report.buckets) == 3
    assert (report.buckets[0].start, report.buckets[-1].end) == (0, MODEL.reachable)
    assert report.unmet == ("pricing", "big_docs")
    assert not report.moves
    assert report.mean_change == 0


def test_what_the_active_version_makes_of_it_is_compared() -> None:
    trial = Backtest(MODEL, MODEL)
    hot, cold = score(MODEL, facts(HEAD, event("demo.requested"))), score(MODEL, facts(HEAD))
    trial.add(hot, True, cold)
    trial.add(cold, False, cold)
    assert (trial.report().moves, trial.report().mean_change) == ((("B", "A", 1),), Fraction(15))
