"""How long SQLite's statements took in this process: by that it is decided which of them run in the loop's thread."""

from __future__ import annotations

import re
from enum import Enum
from functools import cache
from time import perf_counter
from typing import TypeVar

SHORT_SECONDS = 0.001
_FAR_FROM_SHORT = 10
"""So many times longer is long beyond doubt; less may have been the machine, which did something else between."""

_GIVES_WAY_AFTER = 0.0003
"""Seconds that SQLite has in the loop's thread before others have their turn; what surrounds it takes longer still."""

_PROVEN = 3
"""How often an update has to have been short in a thread."""

_MOST_REMEMBERED = 1_000
_READS = re.compile(
    r"\s*(?:SELECT|WITH|VALUES)\b(?!.*\b(?:INSERT|UPDATE|DELETE|REPLACE\s+INTO)\b)", re.IGNORECASE | re.DOTALL
)
_UPDATES = re.compile(r"\s*(?:INSERT|UPDATE|WITH)\b(?!.*\bDELETE\b)", re.IGNORECASE | re.DOTALL)

_T = TypeVar("_T")


class Kind(Enum):
    """What tells beforehand how long a statement will take; the value: how long it goes to a thread after it was long.

    Pages may have come from a slow disk, or there was more to do than usual.
    """

    READ = 1.0
    """Nothing tells; but it can be given up and asked anew."""
    ROWS = 60.0
    """How many rows it is run for, by their keys."""
    UPDATE = 600.0
    """What it did before: it changes what meets a condition, and cannot be given up."""
    OTHER = 0.0
    """Nothing tells. What deletes whatever meets a condition is not short on the day on which there is much of it."""


@cache
def kind_of(sql: str) -> Kind:
    """Return the kind of a statement that is run once."""
    if _READS.match(sql):
        return Kind.READ
    return Kind.UPDATE if _UPDATES.match(sql) else Kind.OTHER


class StatementTimes:
    """What is remembered of statements, by their text."""

    def __init__(self) -> None:
        self._apart_until: dict[str, float] = {}
        self._suspected: dict[str, bool] = {}
        self._proven: dict[str, int] = {}
        self._spent = 0.0

    def is_short(self, sql: str, kind: Kind) -> bool:
        """Tell whether a statement is expected to be short."""
        if kind is Kind.OTHER or perf_counter() < self._apart_until.get(sql, 0.0):
            return False
        return kind is not Kind.UPDATE or self._proven.get(sql, 0) >= _PROVEN

    def took(self, sql: str, kind: Kind, seconds: float) -> None:
        """Note how long it took; the second time in a row that it was not short, it was long."""
        if seconds <= SHORT_SECONDS:
            self._suspected.pop(sql, None)
            if kind is Kind.UPDATE and self._proven.get(sql, 0) < _PROVEN:
                _remember(self._proven, sql, self._proven.get(sql, 0) + 1)
        elif sql in self._suspected or seconds > SHORT_SECONDS * _FAR_FROM_SHORT:
            self.was_long(sql, kind)
        else:
            _remember(self._suspected, sql, True)

    def was_long(self, sql: str, kind: Kind) -> None:
        """Note that it was long: an update has to prove itself anew."""
        self._suspected.pop(sql, None)
        self._proven.pop(sql, None)
        _remember(self._apart_until, sql, perf_counter() + kind.value)

    def was_the_machine(self, sql: str) -> None:
        """Note that what seemed long was not: the machine did something else between."""
        self._apart_until.pop(sql, None)

    def spend(self, seconds: float) -> None:
        """Note what was spent in the loop's thread."""
        self._spent += seconds

    def has_to_give_way(self) -> bool:
        """Tell whether others are to have their turn now, which whoever asks sees to."""
        if self._spent < _GIVES_WAY_AFTER:
            return False
        self._spent = 0.0
        return True


def _remember(memory: dict[str, _T], sql: str, what: _T) -> None:
    memory.pop(sql, None)
    if len(memory) >= _MOST_REMEMBERED:
        del memory[next(iter(memory))]
    memory[sql] = what
