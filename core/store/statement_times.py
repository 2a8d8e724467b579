"""How long SQLite's statements took in this process: by that it is decided which of them run in the loop's thread."""

from __future__ import annotations

import re
from enum import Enum
from functools import cache
from math import inf
from time import perf_counter

SHORT_SECONDS = 0.001
_READ_APART_SECONDS = 1.0
_ROWS_APART_SECONDS = 60.0
_PROVEN = 3
"""How often in a row a change has to have been short in a thread."""

_MOST_REMEMBERED = 1_000
_WRITES = re.compile(r"\b(?:INSERT|UPDATE|DELETE|REPLACE)\b")


class Kind(Enum):
    """What tells beforehand how long a statement will take."""

    READ = "read"
    """Nothing; but it can be given up and asked anew. One that was not short goes to a thread for a second."""
    ROWS = "rows"
    """How many rows it is run for, by their keys. One that was not short all the same goes to a thread for a minute."""
    CHANGE = "change"
    """What it did before: it changes what meets a condition. One that was not short goes to a thread ever after."""


@cache
def kind_of(sql: str) -> Kind:
    """Return the kind of a statement that is run once."""
    return Kind.CHANGE if _WRITES.search(sql) else Kind.READ


class StatementTimes:
    """What is remembered of statements, by their text."""

    def __init__(self) -> None:
        self._apart_until: dict[str, float] = {}
        self._suspected: set[str] = set()
        self._proven: dict[str, int] = {}

    def is_short(self, sql: str, kind: Kind) -> bool:
        """Tell whether a statement is expected to be short."""
        if sql in self._apart_until and perf_counter() < self._apart_until[sql]:
            return False
        return kind is not Kind.CHANGE or self._proven.get(sql, 0) >= _PROVEN

    def took(self, sql: str, kind: Kind, seconds: float) -> None:
        """Note how long it took; the first time in a row that it was long, the machine may have done something else."""
        if seconds <= SHORT_SECONDS:
            self._suspected.discard(sql)
            if kind is Kind.CHANGE and self._proven.get(sql, 0) < _PROVEN and len(self._proven) < _MOST_REMEMBERED:
                self._proven[sql] = self._proven.get(sql, 0) + 1
        elif sql in self._suspected:
            self.was_long(sql, kind)
        elif len(self._suspected) < _MOST_REMEMBERED:
            self._suspected.add(sql)

    def was_long(self, sql: str, kind: Kind) -> None:
        """Note that it was long, whatever the machine did."""
        if len(self._apart_until) >= _MOST_REMEMBERED:
            self._apart_until.clear()
        apart = {Kind.READ: _READ_APART_SECONDS, Kind.ROWS: _ROWS_APART_SECONDS, Kind.CHANGE: inf}[kind]
        self._apart_until[sql] = perf_counter() + apart
