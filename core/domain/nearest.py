"""The name somebody probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, names: Iterable[str]) -> str:
    """Return the most similar of some names, or an empty text when none is similar."""
    by_lower = {candidate.lower(): candidate for candidate in names}
    found = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[found[0]] if found else ""


def did_you_mean(name: str, names: Iterable[str], more: str = "") -> str:
    """Return a hint that names the most similar name, when there is one, and goes on with `more`."""
    found = nearest(name, names)
    return f"Did you mean {found}? {more}".rstrip() if found else more
