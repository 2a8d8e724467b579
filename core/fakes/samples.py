"""Made-up people for stand-ins to begin with: always the same ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_FIRST = ("Ada", "Ben", "Carla", "Dmitri", "Elif", "Farid", "Grace", "Hugo", "Ines", "Jonas", "Keiko", "Liam")
_LAST = ("Abbott", "Berger", "Costa", "Dubois", "Eriksen", "Fischer", "Garcia", "Haddad", "Ivanova", "Jensen", "Kovacs")
_TITLES = ("Head of Sales", "VP Marketing", "Engineer", "Founder", "Operations Manager", "Student", "Buyer")
_COMPANIES = ("Acme", "Borealis", "Cobalt", "Dunwich", "Elmwood")
_COUNTRIES = ("DE", "FR", "GB", "PT", "SE")


def people(system: str, count: int) -> Iterator[dict[str, Any]]:
    """Yield so many people as a system has them."""
    for number in range(count):
        first, last = _FIRST[number % len(_FIRST)], _LAST[number % len(_LAST)]
        company = _COMPANIES[number % len(_COMPANIES)]
        email = f"{first}.{last}.{number}@{company}.example".lower()
        title, country = _TITLES[number % len(_TITLES)], _COUNTRIES[number % len(_COUNTRIES)]
        if system == "hubspot":
            yield {
                "email": email,
                "firstname": first,
                "lastname": last,
                "company": company,
                "jobtitle": title,
                "country": country,
                "numemployees": str(10 * (number % 50 + 1)),
            }
        else:
            yield {
                "Email": email,
                "FirstName": first,
                "LastName": last,
                "Company": company,
                "Title": title,
                "Country": country,
                "NumberOfEmployees": 10 * (number % 50 + 1),
            }
