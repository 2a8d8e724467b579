"""Functions that our expressions have beside those of the language.

`moment(x)` is there because a field may hold a date, an instant or a text of either: as whoever defined it has said, or
nobody. The language's own `timestamp` takes one kind of text only.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

from cel_expr_python import cel
from cel_expr_python.ext import ext_strings

from core.domain.workflow import moments

MOMENT = "moment"


def moment(value: Any) -> datetime:
    """Return a date, an instant or a text of either as an instant; a date is its first moment in UTC.

    Raises ValueError for anything else, and in the words of the engine for null, which is not known rather than wrong.
    """
    if value is None:
        raise ValueError(f"No matching overloads found : {MOMENT}(null_type)")
    if isinstance(value, str):
        value = moments.parse(value)
    if not isinstance(value, datetime):
        if not isinstance(value, date):
            raise ValueError(f"{str(value)[:60]!r} is not a date")
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


_OF_ANYTHING = cel.Overload(
    f"{MOMENT}_of_anything", return_type=cel.Type.TIMESTAMP, parameters=[cel.Type.DYN], impl=moment
)
EXTENSIONS = (
    ext_strings.ExtStrings(),
    cel.CelExtension("moments", [cel.FunctionDecl(MOMENT, [_OF_ANYTHING])]),
)
"""What the engine is given beside the language."""
