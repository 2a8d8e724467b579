"""What its owner decides about a connection, and what is wrong with it: everything is checked here, all at once."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator
from dataclasses import asdict, replace
from datetime import datetime

from core.domain.connections import call, result
from core.domain.connections.call import Call
from core.domain.connections.limits import Limits
from core.domain.connections.result import ResultMapping
from core.domain.errors import Violation
from core.domain.frozen import frozen
from core.domain.messaging.addresses import EMAIL
from core.domain.webhooks import authentication
from core.domain.webhooks.addresses import Destinations
from core.domain.webhooks.authentication import Authentication

HIGHEST_RATE = 1_000.0
LOWEST_RATE = 0.001
MOST_A_DAY = 10_000_000
MOST_IN_FLIGHT = 64

MASKED = "***"

_CHANNEL = re.compile(r"[a-z][a-z0-9_]{0,39}")


@frozen
class Settings:
    """Everything that its owner decides about a connection."""

    display_name: str
    channel: str
    call: Call
    auth: Authentication | None
    result: ResultMapping
    limits: Limits


@frozen
class Surroundings:
    """What settings are checked against."""

    destinations: Destinations
    now: datetime
    prefix: str = "connection."
    """Where the fields stand in the request."""


def check(settings: Settings, fields: Collection[str], around: Surroundings) -> tuple[Settings, list[Violation]]:
    """Return settings in normal form, and everything that is wrong with these fields of them."""
    at = around.prefix
    violations: list[Violation] = []
    if "channel" in fields:
        violations += _channel_problems(settings.channel, f"{at}channel")
    if "call" in fields:
        settings = replace(settings, call=call.normal(settings.call))
        violations += call.check(settings.call, around.destinations, f"{at}call")
        if settings.auth is not None:
            auth, found = authentication.check(settings.auth, around.destinations, around.now, f"{at}call.auth")
            settings = replace(settings, auth=auth)
            violations += found
    if "result" in fields:
        violations += result.check(settings.result, f"{at}result")
    return settings, [*violations, *_limit_problems(settings.limits, fields, at)]


def without_secrets(text: str, auth: Authentication | None) -> str:
    """Return a text in which no secret stands; another system may send back what it was sent."""
    if auth is None:
        return text
    shown = asdict(authentication.without_secret(auth))
    for name, value in asdict(auth).items():
        if value and value != shown[name]:
            text = text.replace(value, MASKED)
    return text


def _channel_problems(channel: str, at: str) -> Iterator[Violation]:
    if channel == EMAIL:
        hint = "Set an SMTP server for e-mail; a connection carries dm, sms, or a channel of your own."
        yield Violation(at, "CHANNEL_RESERVED", "e-mail leaves through SMTP", hint)
    elif not channel:
        yield Violation(at, "REQUIRED", "is required and missing", "Write dm, sms, or a channel of your own.")
    elif not _CHANNEL.fullmatch(channel):
        hint = "Write the word that steps have as their channel: lower case, letters, digits and underscores."
        yield Violation(at, "CHANNEL_MALFORMED", "this is not the name of a channel", hint)


def _limit_problems(limits: Limits, fields: Collection[str], at: str) -> Iterator[Violation]:
    rate = limits.rate_per_second
    if "rate_per_second" in fields and not (math.isfinite(rate) and (rate == 0 or LOWEST_RATE <= rate <= HIGHEST_RATE)):
        message = f"a rate is from {LOWEST_RATE} to {HIGHEST_RATE:,.0f} messages a second, or 0 for no limit"
        yield Violation(f"{at}rate_per_second", "OUT_OF_RANGE", message, "0.5 is one message every two seconds.")
    if "daily_limit" in fields and not 0 <= limits.daily_limit <= MOST_A_DAY:
        message = f"a day's limit is from 1 to {MOST_A_DAY:,} messages, or 0 for none"
        yield Violation(f"{at}daily_limit", "OUT_OF_RANGE", message, "The day is that of the organization's zone.")
    if "max_in_flight" in fields and not 0 <= limits.max_in_flight <= MOST_IN_FLIGHT:
        message = f"from 1 to {MOST_IN_FLIGHT} calls may be under way at once, or 0 for 4"
        yield Violation(f"{at}max_in_flight", "OUT_OF_RANGE", message, "1 sends one message after the other.")
