"""One value of a record's field: what each kind accepts, and the one form in which it is stored."""

from __future__ import annotations

import math
import re
import zoneinfo
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cache, lru_cache
from typing import Any

import ada_url

Scalar = str | int | float | bool

_LARGEST_INTEGER = 2**63 - 1
_PHONE = re.compile(r"[+0-9() ./x#*-]{5,40}", re.IGNORECASE)
_PLAIN_MAILBOX = re.compile(r"(?=.{1,64}\Z)[a-z0-9_+-]+(?:\.[a-z0-9_+-]+)*")
"""What e-mail addresses begin with that are in normal form up to their domain."""
_SHORT_EMAIL = 200
"""Characters; addresses near the longest there may be are checked as a whole."""
_MONEY = re.compile(r"([+-]?\d{1,15}(?:\.\d{1,6})?) ?([A-Za-z]{3})", re.ASCII)


class BadValue(Exception):
    """A value does not fit its field; carries the machine reason, a sentence and the way out."""

    def __init__(self, reason: str, message: str, hint: str = ""):
        super().__init__(message)
        self.reason, self.message, self.hint = reason, message, hint


def instant_text(instant: datetime) -> str:
    """Return an instant as records store it: UTC to the millisecond, so that text order is time order."""
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_instant(text: str) -> datetime:
    """Return ISO 8601 text as an instant in UTC; a text without a zone is read as UTC.

    Raises ValueError.
    """
    instant = datetime.fromisoformat(text.strip())
    try:
        return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"out of range: {text!r}") from None


def string(value: object) -> str:
    """Return trimmed text without control characters."""
    if not isinstance(value, str):
        raise BadValue("WRONG_TYPE", f"must be text, not {_kind_of(value)}", "Send it as a JSON string.")
    if not value.isprintable():
        value = "".join(character for character in value if character.isprintable() or character in "\t\n")
    return value.strip()


def integer(value: object) -> int:
    """Return a whole number; text of digits is read, because JSON clients send large numbers so."""
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d{1,19}", value.strip()):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > _LARGEST_INTEGER:
        raise BadValue("WRONG_TYPE", f"must be a whole number, not {_kind_of(value)}", "Send it as a JSON number.")
    return value


def number(value: object) -> int | float:
    """Return a finite number."""
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d{1,30}(\.\d{1,30})?", value.strip()):
        value = float(value) if "." in value else int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise BadValue("WRONG_TYPE", f"must be a number, not {_kind_of(value)}", "Send it as a JSON number.")
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value if abs(value) <= _LARGEST_INTEGER else float(value)


def boolean(value: object) -> bool:
    """Return true or false; the words are read too, because forms post text."""
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    if not isinstance(value, bool):
        raise BadValue("WRONG_TYPE", f"must be true or false, not {_kind_of(value)}")
    return value


def instant(value: object) -> str:
    """Return an instant as UTC text."""
    try:
        return instant_text(value if isinstance(value, datetime) else parse_instant(str(value)))
    except (ValueError, OverflowError):
        raise BadValue("NOT_AN_INSTANT", f"{_shown(value)} is not an ISO 8601 instant", _INSTANT_HINT) from None


_INSTANT_HINT = "Send it like 2026-03-02T09:00:00Z."


def day(value: object) -> str:
    """Return a calendar date as `YYYY-MM-DD`."""
    try:
        return date.fromisoformat(str(value).strip()).isoformat()
    except ValueError:
        raise BadValue("NOT_A_DATE", f"{_shown(value)} is not a date", "Send it like 2026-03-02.") from None


def email(value: object) -> str:
    """Return an e-mail address in normal form: Unicode NFC, domain in lower case; the mailbox keeps its case."""
    return _normal_email(string(value))


@lru_cache(maxsize=10_000)
def _normal_email(text: str) -> str:
    # Kept, because a message to a contact asks again for the same address.
    mailbox, _, domain = text.rpartition("@")
    if len(text) <= _SHORT_EMAIL and text.isascii() and _PLAIN_MAILBOX.fullmatch(mailbox):
        with suppress(BadValue):  # which is told of the whole address
            return f"{mailbox}@{_normal_domain(domain)}"
    return _checked_email(text)


@lru_cache(maxsize=10_000)
def _normal_domain(domain: str) -> str:
    """Return a domain in normal form: what is said of it is the same for every plain mailbox, and takes the time."""
    return _checked_email(f"a@{domain}").removeprefix("a@")


def _checked_email(text: str) -> str:
    # Whether it can be reached is no matter of syntax: no DNS, and names reserved for tests pass.
    from email_validator import EmailNotValidError, validate_email  # slow to load: see core.loading

    try:
        return validate_email(text, check_deliverability=False, test_environment=True).normalized
    except EmailNotValidError as error:
        raise BadValue("INVALID_EMAIL", f"is no e-mail address: {error}", "Send one like ada@example.com.") from None


def phone(value: object) -> str:
    """Return a phone number as it was given, with single spaces."""
    text = " ".join(string(str(value) if isinstance(value, int) and not isinstance(value, bool) else value).split())
    if not _PHONE.fullmatch(text) or sum(character.isdigit() for character in text) < 5:
        raise BadValue("INVALID_PHONE", f"{_shown(text)} is no phone number", "Send one like +44 20 7946 0000.")
    return text


def timezone(value: object) -> str:
    """Return the IANA name of a time zone."""
    text = string(value)
    if text not in zone_names():
        raise BadValue("UNKNOWN_TIMEZONE", f"{_shown(text)} is no IANA time zone", "Send one like Europe/Berlin.")
    return text


def money(value: object) -> str:
    """Return an amount with its currency, such as `1200.50 EUR`: no cents, or two digits of them at least."""
    found = _MONEY.fullmatch(" ".join(string(value).split()))
    if found is None:
        raise BadValue("NOT_MONEY", f"{_shown(value)} is no amount with a currency", "Send it like 1200.50 EUR.")
    return money_text(Decimal(found.group(1)), found.group(2).upper())


def money_text(amount: Decimal, currency: str) -> str:
    """Return an amount in the one form in which it is stored."""
    whole, _, part = f"{amount:f}".partition(".")
    part = part.rstrip("0")
    text = f"{whole}.{part:0<2}" if part else whole
    return f"{'0' if text == '-0' else text.lstrip('+')} {currency}"


def split_money(text: str) -> tuple[Decimal, str]:
    """Return a stored amount and its currency."""
    amount, _, currency = text.partition(" ")
    return Decimal(amount), currency


def url(value: object) -> str:
    """Return a web address in normal form."""
    text = string(value)
    try:
        parsed = ada_url.URL(text)
    except ValueError:
        parsed = None
    if parsed is None or parsed.protocol not in ("http:", "https:") or not parsed.hostname:
        raise BadValue("NOT_A_URL", f"{_shown(text)} is no web address", "Send one like https://example.com.")
    return str(parsed.href)


@cache
def zone_names() -> frozenset[str]:
    """Return every IANA name there is; what some systems call `localtime` is another zone on every machine."""
    return frozenset(zoneinfo.available_timezones()) - {"localtime"}


BY_KIND: dict[str, Callable[[Any], Scalar]] = {
    "string": string,
    "reference": string,
    "integer": integer,
    "number": number,
    "boolean": boolean,
    "instant": instant,
    "date": day,
    "money": money,
}
"""What reads a value of each kind."""

BY_NAME: dict[str, Callable[[Any], Scalar]] = {"email": email, "phone": phone, "timezone": timezone}
"""What reads the fields that have a form of their own."""


def _kind_of(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "that number"
        case str():
            return f"the text {_shown(value)}"
        case list() | tuple():
            return "a list"
        case _:
            return "an object"


def _shown(value: object) -> str:
    text = str(value)
    return f"`{text[:40]}…`" if len(text) > 40 else f"`{text}`"
