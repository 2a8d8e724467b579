"""The name somebody probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class Hint(str):
    """A way out that proposes a name: for people it is a text, for programs the name stands beside it."""

    nearest: str

    def __new__(cls, text: str, nearest: str) -> Hint:
        """Return a text that knows the name it proposes."""
        made = super().__new__(cls, text)
        made.nearest = nearest
        return made

    def __getnewargs__(self) -> tuple[str, str]:  # type: ignore[override]  # of its own __new__
        """Return what copies are made of."""
        return str(self), self.nearest


def nearest(name: str, names: Iterable[str]) -> str:
    """Return the most similar of some names, or an empty text when none is similar."""
    by_lower = {candidate.lower(): candidate for candidate in names}
    found = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[found[0]] if found else ""


def did_you_mean(name: str, names: Iterable[str], more: str = "") -> str:
    """Return a hint that names the most similar name, when there is one, and goes on with `more`."""
    found = nearest(name, names)
    return meant(found, more) if found else more


def meant(name: str, more: str = "") -> Hint:
    """Return a hint that names what was probably meant, and goes on with `more`."""
    return Hint(f"Did you mean {name}? {more}".rstrip(), name)
