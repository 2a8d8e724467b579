"""Frequency caps: how many messages a contact gets at most in a time, whichever workflow sends them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, cast, get_args

from core.domain.enrollment import Sent
from core.domain.frozen import frozen
from core.domain.nearest import did_you_mean
from core.domain.workflow import durations
from core.domain.workflow import time_notation as notation
from core.domain.workflow.findings import Findings
from core.domain.workflow.zones import MIDNIGHT, Zone, instant_of

CalendarUnit = Literal["day", "week"]
Otherwise = Literal["hold", "skip"]

HINT = "Write a list such as [{at_most: 1, per: day}, {at_most: 3, per: 7d, channel: email, otherwise: skip}]."
PER_HINT = "Write day or week for the contact's calendar, or a length of time such as 24h or 7d."
MOST = 10
MOST_MESSAGES = 1_000
LONGEST_PERIOD = timedelta(days=92)
_KEYS = ("at_most", "per", "channel", "otherwise")
_CHANNEL = r"[a-z][a-z0-9_]{0,39}"
_DAYS: dict[CalendarUnit, int] = {"day": 1, "week": 7}


@frozen
class FrequencyCap:
    """At most so many messages in a time."""

    at_most: int
    per: timedelta | CalendarUnit
    """Any such length of time, or the day or week (from Monday) of the contact's calendar."""
    channel: str = ""
    """The channel it counts and caps; empty for all together."""
    otherwise: Otherwise = "hold"
    """What becomes of a message too many."""

    @property
    def spoken(self) -> str:
        """Return it as it stands in a sentence, such as `at most 2 messages on email a day`."""
        period = f"a {self.per}" if isinstance(self.per, str) else f"in {durations.speak(self.per)}"
        where = f" on {self.channel}" if self.channel else ""
        return f"at most {self.at_most} message{'' if self.at_most == 1 else 's'}{where} {period}"


def capped_until(
    caps: Iterable[FrequencyCap], channel: str, sent: Sequence[Sent], now: datetime, zone: Zone
) -> tuple[FrequencyCap, datetime] | None:
    """Return the cap that forbids one more message on a channel now, and when all caps allow it; None when they do now.

    A cap that skips goes before one that holds; among those that hold, the longest holds.
    """
    found = [
        (cap, until)
        for cap in caps
        if cap.channel in ("", channel) and (until := _until(cap, sent, now, zone)) is not None
    ]
    return max(found, key=lambda one: (one[0].otherwise == "skip", one[1]), default=None)


def _until(cap: FrequencyCap, sent: Sequence[Sent], now: datetime, zone: Zone) -> datetime | None:
    """Return when a cap allows the next message; None when it does now."""
    times = sorted(one.at for one in sent if cap.channel in ("", one.channel))
    if isinstance(cap.per, timedelta):
        counted = [at for at in times if at > now - cap.per]
        return counted[-cap.at_most] + cap.per if len(counted) >= cap.at_most else None
    start, end = _calendar_unit(cap.per, now, zone)
    return end if sum(at >= start for at in times) >= cap.at_most else None


def _calendar_unit(unit: CalendarUnit, now: datetime, zone: Zone) -> tuple[datetime, datetime]:
    today = zone.local(now).date()
    first = today - timedelta(days=today.weekday() if unit == "week" else 0)
    return instant_of(first, MIDNIGHT, zone), instant_of(first + timedelta(days=_DAYS[unit]), MIDNIGHT, zone)


def lookback(caps: Iterable[FrequencyCap]) -> timedelta:
    """Return how far back sent messages must be known for the caps to be judged."""
    return max((_longest(cap.per) for cap in caps), default=timedelta())


def _longest(per: timedelta | CalendarUnit) -> timedelta:
    # A day of a calendar has an hour more where the clocks go back, and up to a day more where a zone repeats one.
    return per if isinstance(per, timedelta) else timedelta(days=_DAYS[per] + 1)


def frequency_caps_schema() -> dict[str, Any]:
    """Return the JSON Schema of frequency caps in a document."""
    per = {"anyOf": [{"enum": list(get_args(CalendarUnit))}, {"type": "string", "pattern": durations.PATTERN}]}
    channel = {"type": "string", "pattern": f"^{_CHANNEL}$"}
    number = {"type": "integer", "minimum": 1, "maximum": MOST_MESSAGES}
    otherwise = "What becomes of a message too many: held until the cap allows it, or skipped; held by default."
    properties = {
        "at_most": {**number, "description": "How many messages."},
        "per": {**per, "description": "In which time: a day or week of the contact's calendar, or a length of time."},
        "channel": {**channel, "description": "The channel it counts and caps; all together by default."},
        "otherwise": {"enum": list(get_args(Otherwise)), "description": otherwise},
    }
    cap = {
        "type": "object",
        "properties": properties,
        "required": ["at_most", "per"],
        "additionalProperties": False,
    }
    return {"anyOf": [cap, {"type": "array", "minItems": 1, "maxItems": MOST, "items": cap}]}


def read_frequency_caps(raw: Any, findings: Findings, path: str) -> tuple[FrequencyCap, ...]:
    """Return the caps that a document describes, or report what is wrong."""
    return notation.read_list(raw, MOST, _read_cap, "caps", HINT, findings, path)


def _read_cap(raw: Any, findings: Findings, path: str) -> FrequencyCap:
    if not isinstance(raw, Mapping):
        notation.wrong_type(raw, "a cap", HINT, findings, path)
        return FrequencyCap(1, "day")
    notation.unknown_keys(raw, _KEYS, "a cap", findings, path)
    for key, hint in (("at_most", HINT), ("per", PER_HINT)):
        if raw.get(key) is None:
            findings.add(f"{path}.{key}", "MISSING_KEY", f"a cap needs {key}", hint)
    at_most = raw.get("at_most")
    if at_most is not None and (type(at_most) is not int or not 1 <= at_most <= MOST_MESSAGES):
        message = f"this must be a whole number from 1 to {MOST_MESSAGES:,}"
        findings.add(f"{path}.at_most", "OUT_OF_RANGE", message, HINT)
    per = _read_per(raw["per"], findings, f"{path}.per") if raw.get("per") is not None else "day"
    channel = "" if raw.get("channel") is None else raw["channel"]
    if raw.get("channel") is not None and not (isinstance(channel, str) and re.fullmatch(_CHANNEL, channel)):
        findings.add(f"{path}.channel", "BAD_NAME", f"{str(channel)[:40]} cannot name a channel", "Write email, or dm.")
    otherwise = "hold" if raw.get("otherwise") is None else raw["otherwise"]
    if otherwise not in get_args(Otherwise):
        hint = did_you_mean(str(otherwise), get_args(Otherwise)) or "Use hold or skip."
        findings.add(f"{path}.otherwise", "UNKNOWN_VALUE", f"{str(otherwise)[:40]} is not one of its values", hint)
    return FrequencyCap(at_most if type(at_most) is int else 1, per, str(channel), cast(Otherwise, otherwise))


def _read_per(raw: Any, findings: Findings, path: str) -> timedelta | CalendarUnit:
    if raw == "day" or raw == "week":
        return cast(CalendarUnit, raw)
    try:
        length = durations.parse(raw if isinstance(raw, str) else str(raw))
    except ValueError:
        hint = did_you_mean(str(raw), get_args(CalendarUnit), PER_HINT)
        findings.add(path, "NOT_A_DURATION", f"{str(raw)[:40]!r} is not a period", hint)
        return "day"
    if length > LONGEST_PERIOD:
        message = f"{str(raw)[:40]} is longer than {LONGEST_PERIOD.days} days, which is the most that is counted"
        findings.add(path, "OUT_OF_RANGE", message, PER_HINT)
    return length
