"""Keyword search as the clients of agents do it: BM25 (Robertson and Spärck Jones), over words cut to their stems.

score(q, d) = sum over words w of q: idf(w) * tf * (k1 + 1) / (tf + k1 * (1 - b + b * |d| / average length)).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping

K1, B = 1.2, 0.75
"""The usual values: how fast repeating a word stops to count, and how much long texts are discounted."""

STOPPED = frozenset(
    """
    a about again all also an and any are as at be been before but by can did do does each every for from give
    had has have he her him his how i if in into is it its just last me my next no now of on one once or our
    out over she so some tell than that the their them then there these they this those to up was we were what
    when where which who whole whose why will with would you your show please much many
    """.split()
)
_ENDINGS = ("ications", "ication", "ations", "ation", "ings", "ing", "ied", "ies", "ed", "es", "s", "e", "y")


def stem(word: str) -> str:
    """Return a word without its ending; long ones alone lose any."""
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word.removesuffix(ending)
            break
    return word[:-1] if len(word) > 3 and word[-1] == word[-2] else word


def words(text: str) -> list[str]:
    """Return the words of a text that say something, as stems."""
    return [stem(word) for word in re.findall(r"[a-z]+", text.lower()) if word not in STOPPED]


class Index:
    """Texts that can be searched by words."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._counts = {name: Counter(words(text)) for name, text in texts.items()}
        self._average = sum(count.total() for count in self._counts.values()) / len(self._counts)
        holding = Counter(word for count in self._counts.values() for word in count)
        n = len(self._counts)
        self._weights = {word: math.log(1 + (n - held + 0.5) / (held + 0.5)) for word, held in holding.items()}

    def ranked(self, query: str) -> list[str]:
        """Return the names of all texts, the best for a query first."""
        asked = words(query)
        return sorted(self._counts, key=lambda name: (-self._score(asked, self._counts[name]), name))

    def _score(self, asked: list[str], count: Counter[str]) -> float:
        length = 1 - B + B * count.total() / self._average
        return sum(
            self._weights[word] * count[word] * (K1 + 1) / (count[word] + K1 * length)
            for word in asked
            if word in self._weights
        )
