"""Who is who: what identifies a record, and which record is meant when several identifiers speak.

An external reference, an e-mail, a person id and an event id are strong: each names one person. A phone and a browser
id are weak: people share them, so they never join two who have different e-mails.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from core.domain.frozen import frozen

Identifier = tuple[str, str]
"""Kind and value in normal form, such as `("email", "ada@example.com")` or `("ext:hubspot", "42")`."""

ORDER = ("ext", "email", "person_id", "event_id", "ga_client_id", "phone")
"""Which identifier decides when they disagree, first to last."""

STRONG = frozenset({"ext", "email", "person_id", "event_id"})
LONGEST_VALUE = 320
MOST_IDENTIFIERS = 100
"""Of one record: what is called more ways than this is seldom one person."""

_JUNK = frozenset(
    (
        *("null", "undefined", "none", "nil", "nan", "n/a", "na", "(none)", "not set", "(not set)", "not_set"),
        *("guest", "anonymous", "anon", "unknown", "user", "id", "test", "true", "false", "empty", "default"),
        *("example", "sample", "demo", "tbd", "todo", "xxx", "abc", "asdf", "qwerty", "foo", "bar"),
        *("person_id", "user_id", "userid", "event_id", "client_id", "email", "phone", "name", "value"),
        *("0", "-1", "-", "--", ".", "[object object]"),
    )
)
_JUNK_MAILBOXES = frozenset(
    (
        *("null", "undefined", "none", "nil", "nan", "na", "guest", "anonymous", "unknown", "noemail", "no-email"),
        *("noreply", "no-reply", "no_reply", "donotreply", "do-not-reply", "mailer-daemon"),
    )
)
_SAME_TWICE = frozenset(
    ("test", "example", "email", "mail", "user", "name", "a", "aa", "aaa", "abc", "asdf", "x", "xxx")
)
"""Mailboxes that are made up where the domain has the same name: `test@test.com`."""

_UNFILLED = re.compile(r"\{\{|\}\}|\$\{|<%|%>|\*\|.*\|\*|^%.*%$|^\[.*\]$|^<.*>$|^:[a-z_]+$")
"""What a template leaves where it had nothing to put."""
_ONE_CHARACTER = re.compile(r"([^0-9])\1+")
_ZEROS = re.compile(r"[0\-]+|[f\-]{16,}", re.IGNORECASE)

_TRUNK = re.compile(r"^(\+\d{1,3}[\s.\-]*)\(0\)")
"""The zero that is dialled at home alone: `+44 (0)20 …`."""
_PHONE_FILLING = re.compile(r"[\s().\-/\u2010-\u2015\u2212]")
_E164 = re.compile(r"\+[1-9]\d{6,14}")
_NO_SUBSCRIBER = re.compile(r"\+(\d)\1+|\+\d{1,3}(\d)\2{5,}|\+1?234567890?\d*|\+\d{1,3}(0?123456789?0?)")


@frozen
class Conflict:
    """Two identifiers that should name one record name different ones; nothing is merged."""

    kind: str
    value: str
    record_id: str
    """The record that this identifier names, and that was not chosen."""


def external(system: str) -> str:
    """Return the kind of an identifier that another system gave."""
    return f"ext:{system.strip().lower()}"


def normalise(kind: str, value: object) -> Identifier | None:
    """Return an identifier in normal form, or None for one that identifies nobody: empty, junk, or not of its form."""
    if not isinstance(value, (str, int)) or isinstance(value, bool):
        return None
    text = str(value).strip()
    return _normal(kind, text) if 0 < len(text) <= LONGEST_VALUE else None


@lru_cache(maxsize=4_096)  # an event asks ten times for the same
def _normal(kind: str, text: str) -> Identifier | None:
    if not text.isprintable() or is_junk(text):
        return None
    match kind:
        case "email":
            email = text.lower()
            return (kind, email) if "@" in text and not _is_made_up(email) else None
        case "phone":
            digits = _PHONE_FILLING.sub("", _TRUNK.sub(r"\1", text))
            return (kind, digits) if _E164.fullmatch(digits) and not _NO_SUBSCRIBER.fullmatch(digits) else None
        case _:
            return kind, text


def is_junk(text: str) -> bool:
    """Tell whether a value names nobody: a placeholder, a template that was not filled, one character repeated."""
    if text.lower() in _JUNK or _UNFILLED.search(text) is not None:
        return True
    return len(text) > 2 and (_ONE_CHARACTER.fullmatch(text) is not None or _ZEROS.fullmatch(text) is not None)


def _is_made_up(email: str) -> bool:
    mailbox, _, domain = email.rpartition("@")
    name = domain.partition(".")[0]
    return mailbox in _JUNK_MAILBOXES or (mailbox == name and mailbox in _SAME_TWICE)


def of_fields(record_type: str, fields: Mapping[str, Any]) -> list[Identifier]:
    """Return the identifiers among a record's fields."""
    if record_type != "contact":
        return []
    found = (normalise(kind, fields[kind]) for kind in ("email", "phone") if kind in fields)
    return [identifier for identifier in found if identifier is not None]


def rank(identifier: Identifier) -> int:
    """Return an identifier's place in the order."""
    return ORDER.index(_family(identifier[0]))


def is_strong(identifier: Identifier) -> bool:
    """Tell whether an identifier names one person."""
    return _family(identifier[0]) in STRONG


def choose(found: Mapping[Identifier, str]) -> tuple[str | None, tuple[Conflict, ...]]:
    """Return the record that these identifiers name, and each strong one that names another.

    `found` has the record of every identifier that is known.
    """
    ordered = sorted(found, key=lambda identifier: (rank(identifier), identifier))
    if not ordered:
        return None, ()
    chosen = found[ordered[0]]
    others = [identifier for identifier in ordered if found[identifier] != chosen and is_strong(identifier)]
    return chosen, tuple(Conflict(kind, value, found[kind, value]) for kind, value in others)


def keeps_apart(by: Identifier, email: object, known_email: object) -> bool:
    """Tell whether a match by this identifier must not count: it is weak and the e-mails differ."""
    return not is_strong(by) and emails_differ(email, known_email)


def emails_differ(email: object, known_email: object) -> bool:
    """Tell whether two e-mails are there and not the same."""
    one, other = normalise("email", email), normalise("email", known_email)
    return one is not None and other is not None and one != other


def _family(kind: str) -> str:
    return "ext" if kind.startswith("ext:") else kind
