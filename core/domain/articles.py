"""The article that a word takes in a sentence: a filter step, an update step."""

from __future__ import annotations

_VOWELS = ("a", "e", "i", "o", "up")
"""How words begin that take `an`; another u is spoken as in uint."""


def with_article(words: str) -> str:
    """Return words with `a` or `an` before them."""
    return f"{'an' if words.lower().startswith(_VOWELS) else 'a'} {words}"
