"""When a message may leave: quiet hours and frequency caps, written with it and judged again at every try to send it.

Between the step that writes a message and its sending can lie a pause, a server that says later, or a budget that was
used up. What held for the step holds then, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, time, timedelta
from typing import Any

from core.domain.enrollment import Sent
from core.domain.frozen import frozen
from core.domain.workflow.frequency import CalendarUnit, FrequencyCap, capped_until
from core.domain.workflow.quiet_hours import QuietHours, quiet_until
from core.domain.workflow.zones import Zone

_UNITS: Mapping[str, CalendarUnit] = {"day": "day", "week": "week"}


@frozen
class NotNow:
    """Why a message does not leave now."""

    reason: str
    """A sentence without its full stop, such as `quiet hours, until 2026-03-03 08:00 (UTC, as no zone is set)`."""
    until: datetime
    skip: bool = False
    """It does not leave at all."""
    counted: tuple[Sent, ...] = ()
    """The messages that fill the cap, where one is full."""


@frozen
class Terms:
    """When one message may leave."""

    zone: Zone
    quiet_hours: QuietHours | None = None
    caps: tuple[FrequencyCap, ...] = ()

    @property
    def bind(self) -> bool:
        """Tell whether there is anything to keep to."""
        return self.quiet_hours is not None or bool(self.caps)

    def quiet(self, now: datetime) -> NotNow | None:
        """Return until when quiet hours hold it; None when none do."""
        until = None if self.quiet_hours is None else quiet_until(self.quiet_hours, now, self.zone)
        return None if until is None else NotNow(f"quiet hours, until {self.shown(until)}", until)

    def capped(self, channel: str, sent: Sequence[Sent], now: datetime) -> NotNow | None:
        """Return which cap is full, and until when; None when it may go. `sent` is what the contact has got lately."""
        found = capped_until(self.caps, channel, sent, now, self.zone) if self.caps else None
        if found is None:
            return None
        cap, until = found
        counted = _counted(cap, sent)
        went = f"{len(counted)} {'has' if len(counted) == 1 else 'have'} gone out, the last at"
        why = f"{cap.spoken}, and {went} {self.shown(counted[-1].at)}"
        return NotNow(why, until, cap.otherwise == "skip", counted)

    def shown(self, instant: datetime) -> str:
        """Return an instant as sentences tell it, in the zone that counts."""
        return f"{self.zone.local(instant):%Y-%m-%d %H:%M} ({self.zone.spoken})"


def _counted(cap: FrequencyCap, sent: Sequence[Sent]) -> tuple[Sent, ...]:
    """Return the newest messages that fill a cap."""
    same = sorted((one for one in sent if cap.channel in ("", one.channel)), key=lambda one: one.at)
    return tuple(same[-cap.at_most :])


def to_data(terms: Terms) -> dict[str, Any]:
    """Return terms as plain data; nothing where there is nothing to keep to."""
    if not terms.bind:
        return {}
    data: dict[str, Any] = {"zone": [terms.zone.name, terms.zone.source]}
    if terms.quiet_hours is not None:
        data["quiet"] = [
            [one.start.isoformat(), one.end.isoformat(), sorted(one.days)] for one in terms.quiet_hours.every
        ]
    if terms.caps:
        data["caps"] = [
            [
                one.at_most,
                one.per if isinstance(one.per, str) else one.per.total_seconds(),
                one.channel,
                one.otherwise,
            ]
            for one in terms.caps
        ]
    return data


def from_data(data: Mapping[str, Any]) -> Terms:
    """Return the terms that plain data describes, which must not be empty."""
    quiet = [
        QuietHours(time.fromisoformat(start), time.fromisoformat(end), frozenset(days))
        for start, end, days in data.get("quiet", ())
    ]
    caps = tuple(
        FrequencyCap(at_most, _UNITS[per] if isinstance(per, str) else timedelta(seconds=per), channel, otherwise)
        for at_most, per, channel, otherwise in data.get("caps", ())
    )
    name, source = data["zone"]
    hours = QuietHours(quiet[0].start, quiet[0].end, quiet[0].days, tuple(quiet[1:])) if quiet else None
    return Terms(Zone(name, source), hours, caps)
