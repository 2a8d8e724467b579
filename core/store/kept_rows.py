"""Rows of records that a transaction on SQLite has read and need not read again before it changes them.

On PostgreSQL a row may be another one by the time it is locked. SQLite has one writer: while that is this transaction,
what it has read is so until it writes itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from core.store.statement_times import Kind, kind_of

_ONE_TABLE = re.compile(r"\s*(?:INSERT|UPDATE|DELETE|WITH)\b(?!.*\brecords\b)", re.IGNORECASE | re.DOTALL)


@cache
def _leaves_records_alone(sql: str) -> bool:
    """Tell whether a statement certainly changes no record: nothing but the tables it names, and no trigger does."""
    return kind_of(sql) is Kind.READ or _ONE_TABLE.match(sql) is not None


class KeptRows:
    """Rows of records as they were read last, by organization and id, until a statement may change any."""

    def __init__(self) -> None:
        self.rows: Mapping[tuple[str, str], Sequence[Any]] = {}
        self._keeps = True

    def keep(self, rows: Iterable[Sequence[Any]]) -> None:
        """Keep these rows, which begin with organization and id, instead of those that were kept before."""
        if self._keeps:
            self.rows = {(row[0], row[1]): row for row in rows}

    def before(self, sql: str) -> None:
        """Forget them where this statement, which is about to run, may change records."""
        if self.rows and not _leaves_records_alone(sql):
            self.rows = {}

    def keep_none(self) -> None:
        """Forget them, and keep none from now on: nobody will tell what is written."""
        self.rows, self._keeps = {}, False
