"""The words by which records are found: made in one way of what is stored and of what is asked, on every database.

Case and accents do not count. An address or a domain is one word, and so are its parts; a phone number is its last
eight digits, so that it is found with and without its country code. What looks like one in a text may be asked for as
one, such as the number of an order: it is found both ways.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from core.domain.frozen import frozen
from core.domain.records.changes import value_at
from core.domain.records.schema import TypeSchema

MOST_WORDS = 300
"""Of one field; what a long note says after them does not find it."""
MOST_ASKED = 8
LONGEST_WORD = 64
SHORTEST_BEGINNING = 2
"""Letters: one alone is a whole word."""

_PHONE_DIGITS = 8
_PIECE = re.compile(r"[^\W_]+(?:[@.][^\W_]+)*")
_ADDRESS = re.compile(r"[^\s@,;<>()\"]+@[^\s@,;<>()\"]+")
_DOMAIN = re.compile(r"[\w.-]*[^\W_]")
_PART = re.compile(r"[^\W_]+")
_PHONE_LIKE = re.compile(r"\+?[0-9][0-9 ()./-]{4,40}")
_LONG_TEXTS = frozenset({"text"})
_NAMES = frozenset({"email", "first_name", "last_name", "phone", "name", "domain", "title", "subject", "lead_ref"})


class Entry(NamedTuple):
    """A word of a record's field; a contact has a dozen of them, so they are cheap to make."""

    word: str
    field: str
    weight: int
    """What a hit counts: more in a name than in a text."""


@frozen
class Asked:
    """A word that is looked for."""

    text: str
    is_beginning: bool
    """Words that go on after it count as well."""

    @property
    def end(self) -> str:
        """Return the first text after every word that begins with it."""
        return f"{self.text}\U0010ffff"


def of_record(of: TypeSchema, fields: Mapping[str, Any]) -> frozenset[Entry]:
    """Return the words of a record."""
    found: set[Entry] = set()
    for path in of.found_by:
        value = value_at(fields, path)
        if value is None or isinstance(value, list | Mapping):
            continue
        weight = 1 if path in _LONG_TEXTS else 3 if path in _NAMES or path in of.title_fields else 2
        spoken = [_phone(str(value))] if path == "phone" else of_text(str(value))
        found.update(Entry(word, path, weight) for word in spoken if word)
    return frozenset(found)


def of_text(text: str) -> list[str]:
    """Return the words of a text, each once, with the parts of those that have some."""
    words: dict[str, None] = {}
    plain = _plain(text)
    for address in _ADDRESS.findall(plain):
        words[address.strip(".")[:LONGEST_WORD]] = None
        if domain := _DOMAIN.match(address, address.rindex("@") + 1):  # whole, also one with a hyphen
            words[domain[0][:LONGEST_WORD]] = None
    for piece in _PIECE.findall(plain):
        words[piece[:LONGEST_WORD]] = None
        if "." in piece or "@" in piece:
            parts = _PART.findall(piece)[:-1] if "@" in piece else _PART.findall(piece)  # not the `com` of them all
            words.update((part[:LONGEST_WORD], None) for part in parts if len(part) >= SHORTEST_BEGINNING)
            if "@" in piece:
                words[piece.rpartition("@")[2][:LONGEST_WORD]] = None
        elif _PHONE_LIKE.fullmatch(piece):
            words[_phone(piece)] = None
        if len(words) >= MOST_WORDS:
            break
    if _PHONE_LIKE.fullmatch(plain.strip()) and (phone := _phone(plain)):
        words[phone] = None
    return list(words)[:MOST_WORDS]


def of_domain(domain: str) -> str:
    """Return the word by which the addresses of a domain are found."""
    return _plain(domain)[:LONGEST_WORD]


def asked(query: str) -> list[Asked]:
    """Return the words of a question; the last one may be a beginning, unless something closes it."""
    plain = _plain(query)
    if _PHONE_LIKE.fullmatch(plain.strip()) and (phone := _phone(plain)):
        return [Asked(phone, len(phone) < _PHONE_DIGITS)]
    words: list[str] = []
    for part in re.split(r"[\s,;<>()\"]+", plain):
        if _ADDRESS.fullmatch(part):
            words.append(part.strip("."))
        else:
            words += _PIECE.findall(part)
    words = [word[:LONGEST_WORD] for word in words][:MOST_ASKED]
    last = len(words) - 1
    opened = bool(plain) and not plain[-1].isspace()
    return [
        Asked(word, number == last and opened and len(word) >= SHORTEST_BEGINNING) for number, word in enumerate(words)
    ]


def difference(before: Iterable[Entry], after: Iterable[Entry]) -> tuple[list[Entry], list[Entry]]:
    """Return the words that a change took away, and those that it brought."""
    old, new = frozenset(before), frozenset(after)
    return sorted(old - new), sorted(new - old)


def _plain(text: str) -> str:
    if text.isascii():
        return text.lower()
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter)).casefold()


def _phone(text: str) -> str:
    digits = "".join(character for character in text if character in "0123456789")
    return digits[-_PHONE_DIGITS:] if len(digits) >= 5 else ""
