"""Public holidays of countries and their parts, by the codes of ISO 3166, such as `DE` or `US-CA`.

This is the one module that knows the package they come from. They are computed for a year when it is first asked for.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from datetime import date
from functools import cache, lru_cache
from types import MappingProxyType

from core.domain.nearest import did_you_mean

EXAMPLE = "Write the code of a country, such as DE, or of a part of it, such as DE-BY or US-CA."


@cache
def places() -> Mapping[str, tuple[str, ...]]:
    """Return the parts with holidays of their own by country."""
    import holidays  # slow to load: see core.loading

    return {country: tuple(parts) for country, parts in holidays.list_supported_countries().items()}


def complaint(place: str) -> tuple[str, str] | None:
    """Return what is wrong with the name of a place, as a clause, and the way out; None when it is known."""
    country, _, part = place.partition("-")
    known = places()
    if country not in known:
        hint = f"Did you mean {place.upper()}?" if country.upper() in known else EXAMPLE
        return f"no public holidays are known for {place[:40]}", hint
    if part and part not in known[country]:
        listed = f"{country} has {', '.join(known[country][:20])}." if known[country] else f"Write {country}."
        return f"{country} has no part {part[:40]} with holidays of its own", did_you_mean(part, known[country], listed)
    return None


@lru_cache(maxsize=2048)
def of_year(place: str, year: int) -> Mapping[date, str]:
    """Return the holidays of a place in a year, with their names."""
    import holidays

    country, _, part = place.partition("-")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some countries proclaim their holidays: beyond that there are none yet
        found = holidays.country_holidays(country, subdiv=part or None, years=year, expand=False)
    return MappingProxyType({day: name for day, name in found.items() if day.year == year})


def falls(place: str, day: date) -> bool:
    """Tell whether a day is a holiday there."""
    return day in of_year(place, day.year)
