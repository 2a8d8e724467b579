"""The tiers of a scoring model's document: thresholds of the score, or a matrix of fit and engagement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from core.domain.frozen import frozen
from core.domain.nearest import did_you_mean
from core.domain.qualification.model import Matrix, Tier
from core.domain.qualification.reader import Reader

MOST_TIERS = 10
MOST_CELLS = MOST_TIERS * MOST_TIERS
LONGEST_NAME = 20
MATRIX_KEYS = ("fit", "engagement", "matrix")

_EXAMPLE = "Such as [{name: A, from: 70}, {name: B, from: 0}]."
_MATRIX_EXAMPLE = "Such as [[A1, A2], [B1, B2]]: a row for each grade of fit, in it a tier for each of engagement."


@frozen
class Tiers:
    """Tiers as a document has them: one of the two."""

    by_score: tuple[Tier, ...] = ()
    matrix: Matrix | None = None

    @property
    def names(self) -> frozenset[str]:
        """Return every tier there is."""
        if self.matrix is not None:
            return frozenset(name for row in self.matrix.cells for name in row)
        return frozenset(tier.name for tier in self.by_score)


def read(reader: Reader, raw: Any, most: int) -> Tiers:
    """Return the tiers; a grade begins at `most` points at the highest."""
    if not isinstance(raw, Mapping):
        return Tiers(_grades(reader, raw, "tiers", most))
    reader.keys(raw, "tiers", MATRIX_KEYS)
    fit = _grades(reader, raw.get("fit"), "tiers.fit", most)
    engagement = _grades(reader, raw.get("engagement"), "tiers.engagement", most)
    if not fit or not engagement:
        return Tiers()
    cells = _cells(reader, raw.get("matrix"), fit, engagement)
    return Tiers((), Matrix(fit, engagement, cells))


def named(reader: Reader, raw: Any, path: str, tiers: Tiers) -> frozenset[str]:
    """Return a list of tiers, all of which there are."""
    found: set[str] = set()
    for index, item in enumerate(reader.list(raw, path, MOST_CELLS)):
        name = str(item).strip()
        check_named(reader, name, f"{path}[{index}]", tiers)
        found.add(name)
    return frozenset(found)


def check_named(reader: Reader, name: str, path: str, tiers: Tiers) -> None:
    """Refuse a tier that there is not."""
    if tiers.names and name not in tiers.names:
        hint = did_you_mean(name, tiers.names, f"There are {', '.join(sorted(tiers.names))}.")
        reader.problem(path, "UNKNOWN_TIER", f"there is no tier {name[:LONGEST_NAME]}", hint)


def _grades(reader: Reader, raw: Any, path: str, most: int) -> tuple[Tier, ...]:
    """Return grades of a list, highest first; what is wrong with it is noted."""
    items = reader.list(raw, path, MOST_TIERS)
    if not items:
        reader.problem(path, "REQUIRED", "a model needs tiers", _EXAMPLE)
    grades: list[Tier] = []
    for index, item in enumerate(items):
        at = f"{path}[{index}]"
        if reader.map(item, at, ("name", "from")):
            name = reader.text(item, "name", f"{at}.name", LONGEST_NAME)
            grades.append(Tier(name, reader.whole(item, "from", f"{at}.from", 0, most)))
    for index, (above, below) in enumerate(pairwise(grades), 1):
        if below.start >= above.start:
            message = f"begins at {below.start}, not below the tier above it ({above.start})"
            reader.problem(f"{path}[{index}].from", "NOT_DESCENDING", message, "List the highest tier first.")
    for index, grade in enumerate(grades):
        if grade.name and grade.name in [other.name for other in grades[:index]]:
            reader.problem(f"{path}[{index}].name", "DUPLICATE", f"there is a tier {grade.name} already")
    descending = all(below.start < above.start for above, below in pairwise(grades))
    if len(grades) == len(items) and grades and descending and grades[-1].start != 0:
        at = f"{path}[{len(grades) - 1}].from"
        reader.problem(at, "NO_LOWEST_TIER", "lower scores have no tier", "Let the last tier begin at 0.")
    return tuple(grades)


def _cells(reader: Reader, raw: Any, fit: Sequence[Tier], engagement: Sequence[Tier]) -> tuple[tuple[str, ...], ...]:
    if raw is None:
        return tuple(tuple(f"{one.name}{other.name}" for other in engagement) for one in fit)
    rows = reader.list(raw, "tiers.matrix", MOST_TIERS)
    if len(rows) != len(fit):
        message = f"has {len(rows)} rows for {len(fit)} grades of fit"
        reader.problem("tiers.matrix", "WRONG_SIZE", message, _MATRIX_EXAMPLE)
    found = []
    for index, row in enumerate(rows):
        at = f"tiers.matrix[{index}]"
        names = [str(name).strip() for name in reader.list(row, at, MOST_TIERS)]
        if len(names) != len(engagement):
            message = f"has {len(names)} tiers for {len(engagement)} grades of engagement"
            reader.problem(at, "WRONG_SIZE", message, _MATRIX_EXAMPLE)
        if any(not 0 < len(name) <= LONGEST_NAME for name in names):
            reader.problem(at, "BAD_NAME", f"a tier's name has 1 to {LONGEST_NAME} characters")
        found.append(tuple(names))
    return tuple(found)
