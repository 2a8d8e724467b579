"""Windows of a day's local time, such as 09:00 to 17:00, or 22:00 to 06:00 of the day after."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta

from core.domain.frozen import frozen
from core.domain.workflow.zones import MIDNIGHT, Zone, instant_of

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
"""By their number: 0 is Monday."""
EVERY_DAY = frozenset(range(7))
WORKING_DAYS = frozenset(range(5))

DAY = timedelta(days=1)


@frozen
class Window:
    """From one local time to another; past midnight when it ends at or before its start."""

    start: time
    end: time
    """The first moment outside; midnight both ends for the whole day."""

    @property
    def overnight(self) -> bool:
        """Tell whether it ends on the day after."""
        return self.end <= self.start

    def __str__(self) -> str:
        end = "24:00" if self.end == MIDNIGHT else f"{self.end:%H:%M}"
        return f"{self.start:%H:%M}-{end}"

    def on(self, day: date, zone: Zone) -> tuple[datetime, datetime]:
        """Return its instants when it begins on that day; both are the same when the zone skips all of it."""
        return instant_of(day, self.start, zone), instant_of(day + DAY if self.overnight else day, self.end, zone)


def days_from(day: date, count: int) -> Iterator[date]:
    """Return so many days in a row, the first included."""
    return (day + ahead * DAY for ahead in range(count))
