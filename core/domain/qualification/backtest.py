"""How a model would have done: gathered lead by lead in constant memory, whatever their number."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from core.domain.enrollment import RecordFacts
from core.domain.frozen import frozen
from core.domain.qualification.model import ScoringModel
from core.domain.qualification.score import Score
from core.domain.records.fields import CLOSED_LEAD_STATUSES

POSITIVE = (True, "converted", "won")
"""What means a good end where nothing is said."""

OUTCOMES = frozenset(
    {"status", "score", "fit", "engagement", "tier", "decision", "model_id", "model_version", "qualified_at"}
)
"""Fields of a lead that tell what became of it."""

BUCKETS = 10
_QUANTILE = 1.959963984540054
"""Of the normal distribution, for 95 %."""


@frozen
class Bucket:
    """Leads with a score in a range, both ends within."""

    start: int
    end: int
    count: int
    positive: int


@frozen
class Calibration:
    """How often a tier ended well."""

    tier: str
    """Empty for leads that a rule disqualified."""
    count: int
    positive: int
    rate: float
    low: float
    high: float


@frozen
class Report:
    """What came of it."""

    leads: int
    positive: int
    auc: Fraction | None
    buckets: tuple[Bucket, ...]
    calibration: tuple[Calibration, ...]
    moves: tuple[tuple[str, str, int], ...]
    """Tier by the active version, tier by this one, leads; only those that moved."""
    mean_change: Fraction
    left_out: int
    unmet: tuple[str, ...]


@dataclass(slots=True)
class Backtest:
    """A trial on its way."""

    model: ScoringModel
    active: ScoringModel | None = None
    """What it is compared with; None when there is nothing, or it is this one."""
    left_out: int = 0
    _by_score: dict[bool, Counter[int]] = field(default_factory=lambda: {True: Counter(), False: Counter()})
    _by_tier: dict[bool, Counter[str]] = field(default_factory=lambda: {True: Counter(), False: Counter()})
    _moves: Counter[tuple[str, str]] = field(default_factory=Counter)
    _change: int = 0
    _met: set[str] = field(default_factory=set)

    def add(self, result: Score, positive: bool, active: Score | None = None) -> None:
        """Take in what a lead scored, how it ended, and what the active version makes of it."""
        self._by_score[positive][result.score] += 1
        self._by_tier[positive][result.tier] += 1
        self._met.update(one.rule_id for one in (*result.contributions, *result.disqualifiers))
        if active is not None:
            self._change += result.score - active.score
            if active.tier != result.tier:
                self._moves[active.tier, result.tier] += 1

    def report(self) -> Report:
        """Return what came of it so far."""
        positive, negative = self._by_score[True], self._by_score[False]
        leads = positive.total() + negative.total()
        return Report(
            leads=leads,
            positive=positive.total(),
            auc=auc(positive, negative),
            buckets=tuple(_buckets(positive, negative, self.model.reachable)),
            calibration=tuple(self._calibration()),
            moves=tuple((*tiers, count) for tiers, count in sorted(self._moves.items())),
            mean_change=Fraction(self._change, leads) if leads and self.active is not None else Fraction(0),
            left_out=self.left_out,
            unmet=tuple(rule.id for rule in self.model.rules if rule.id not in self._met),
        )

    def _calibration(self) -> Iterable[Calibration]:
        positive, negative = self._by_tier[True], self._by_tier[False]
        for tier in (*self.model.tier_names, ""):
            count = positive[tier] + negative[tier]
            if count or tier:
                rate = positive[tier] / count if count else 0.0
                yield Calibration(tier, count, positive[tier], rate, *wilson(positive[tier], count))


def auc(positive: Mapping[int, int], negative: Mapping[int, int]) -> Fraction | None:
    """Return the share of pairs of a good and a bad end in which the good one scored higher, ties counted half.

    Exact: the area under the ROC curve. `positive` and `negative` say how many had each score.
    """
    pairs = sum(positive.values()) * sum(negative.values())
    if not pairs:
        return None
    halves = below = 0
    for score in sorted({*positive, *negative}):
        here = negative.get(score, 0)
        halves += positive.get(score, 0) * (2 * below + here)
        below += here
    return Fraction(halves, 2 * pairs)


def wilson(positive: int, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share by Wilson's score, which holds for small numbers as well."""
    if not count:
        return 0.0, 1.0
    share, square = positive / count, _QUANTILE**2 / count
    middle = (share + square / 2) / (1 + square)
    reach = _QUANTILE / (1 + square) * math.sqrt(share * (1 - share) / count + square / (4 * count))
    low = 0.0 if positive == 0 else max(0.0, middle - reach)
    return low, 1.0 if positive == count else min(1.0, middle + reach)


def ended(path: str, value: Any, positive: frozenset[Any]) -> bool | None:
    """Return whether a value of the outcome field means a good end; None while it means none.

    A lead's status means an end only where it closes the lead, or where it is named as a good one.
    """
    if value is None or isinstance(value, list | dict):
        return None
    if is_among(value, positive):
        return True
    if path == "lead.status" and value not in CLOSED_LEAD_STATUSES:
        return None
    return False


def is_among(value: Any, positive: frozenset[Any]) -> bool:
    """Tell whether a value is one of those that mean a good end; as text it is compared without case."""
    if isinstance(value, bool):
        return value in {one for one in positive if isinstance(one, bool)} or str(value).lower() in positive
    return str(value).lower() in {str(one).lower() for one in positive if not isinstance(one, bool)}


def before_the_end(facts: RecordFacts, outcome: str) -> RecordFacts:
    """Return a record as it was made, without what tells how it ended: an import sets both at once."""
    kind, _, field = outcome.partition(".")
    hidden = {*(OUTCOMES if facts.type == "lead" else ()), *([field] if facts.type == kind else ())}
    fields = {name: value for name, value in facts.fields.items() if name not in hidden}
    own = {f"custom.{name}": name for name in fields.get("custom") or {}}
    if told := own.keys() & hidden:
        fields["custom"] = {name: fields["custom"][name] for path, name in own.items() if path not in told}
    return RecordFacts(facts.id, facts.type, fields)


def _buckets(positive: Counter[int], negative: Counter[int], most: int) -> Iterable[Bucket]:
    width = max(1, -(-(most + 1) // BUCKETS))
    for start in range(0, most + 1, width):
        end = min(start + width - 1, most)
        inside = range(start, end + 1)
        good = sum(positive[score] for score in inside)
        yield Bucket(start, end, good + sum(negative[score] for score in inside), good)
