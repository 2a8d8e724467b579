"""Plausible contacts for a simulation without any: the same ones for the same seed."""

from __future__ import annotations

from datetime import UTC, datetime

from core.domain import names
from core.domain.enrollment import RecordFacts
from core.simulation.chance import draw, pick
from core.simulation.subjects import Subject

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_FIRST = (
    "Ada Alan Amina Ana Bea Boris Carla Chen Dana Diego Elif Emil Fatima Finn Grace Hana Ines Ivan Jonas Julia Kaito "
    "Lea Linus Luca Mara Mateo Mei Nadia Noah Olga Omar Paula Priya Rafael Rosa Samir Sofia Tariq Tom Uma Vera Yuki Zoe"
).split()
_LAST = (
    "Abbas Almeida Bauer Becker Castillo Chopra Costa Dubois Eriksen Fischer Fontaine Garcia Haddad Hansen Ito Jansen "
    "Keller Kim Kowalska Laurent Lindqvist Lopez Martin Meyer Moreau Nakamura Nguyen Novak Okafor Olsen Park Petrov "
    "Rossi Santos Schmidt Silva Singh Smith Tanaka Varga Weber Wilson Yilmaz Zhang"
).split()
_COMPANIES = "Alder Basalt Cobalt Delta Ember Fjord Granite Harbor Iris Juniper Kestrel Lumen Maple Nimbus Onyx".split()
_TRADES = "Analytics Foods Freight Health Insurance Labs Logistics Media Motors Retail Robotics Software".split()
_TITLES = (
    "Head of Sales", "VP Marketing", "CTO", "Account Executive", "Operations Manager", "Founder", "CFO",
    "Marketing Manager", "Customer Success Lead", "Product Manager", "Student", "Consultant",
)  # fmt: skip
_INDUSTRIES = ("software", "manufacturing", "retail", "finance", "healthcare", "logistics", "education", "media")
_PLACES = (
    ("DE", "Berlin", "Europe/Berlin"),
    ("FR", "Paris", "Europe/Paris"),
    ("GB", "London", "Europe/London"),
    ("US", "New York", "America/New_York"),
    ("US", "Austin", "America/Chicago"),
    ("US", "Seattle", "America/Los_Angeles"),
    ("BR", "São Paulo", "America/Sao_Paulo"),
    ("IN", "Bengaluru", "Asia/Kolkata"),
    ("JP", "Tokyo", "Asia/Tokyo"),
    ("AU", "Sydney", "Australia/Sydney"),
)
_SIZES = (3, 8, 15, 40, 90, 180, 450, 1_200, 5_000)
_STAGES = ("subscriber", "lead", "lead", "marketing_qualified", "opportunity")
_SOURCES = ("website", "website", "webinar", "referral", "outbound", "partner")
_TIERS = ((80, "A", "qualified"), (55, "B", "nurture"), (30, "C", "nurture"), (0, "D", "disqualified"))
_UNSUBSCRIBED = 0.03
_WITHOUT_LEAD = 0.05
_WITHOUT_NAME = 0.04


def made_up(count: int, seed: int = 0) -> tuple[Subject, ...]:
    """Return so many contacts, most of them with a lead that has been scored; a few have gaps, as real ones have."""
    return tuple(_contact(seed, index) for index in range(count))


def _contact(seed: int, index: int) -> Subject:
    def one(what: str) -> float:
        return draw(seed, "made up", what, index)

    first, last = pick(_FIRST, seed, "first", index), pick(_LAST, seed, "last", index)
    company = f"{pick(_COMPANIES, seed, 'company', index)} {pick(_TRADES, seed, 'trade', index)}"
    country, city, timezone = pick(_PLACES, seed, "place", index)
    employees = pick(_SIZES, seed, "size", index)
    contact_id = names.derive("cnt", _EPOCH, "made up", seed, index)
    fields = {
        "email": f"{first}.{last}.{index + 1}@example.com".lower(),
        "first_name": first,
        "last_name": last,
        "phone": f"+1 555 {index % 10_000_000:07d}",
        "company_name": company,
        "job_title": pick(_TITLES, seed, "title", index),
        "industry": pick(_INDUSTRIES, seed, "industry", index),
        "country": country,
        "city": city,
        "employees": employees,
        "annual_revenue": employees * 120_000,
        "timezone": timezone,
        "language": "en",
        "lifecycle_stage": pick(_STAGES, seed, "stage", index),
        "source": pick(_SOURCES, seed, "source", index),
    }
    if one("named") < _WITHOUT_NAME:
        del fields["first_name"], fields["last_name"]
    contact = RecordFacts(contact_id, "contact", fields)
    if one("unsubscribed") < _UNSUBSCRIBED:
        contact = RecordFacts(contact_id, "contact", {**fields, "unsubscribed": True})
    return Subject(contact, None if one("lead") < _WITHOUT_LEAD else _lead(seed, index, contact_id))


def _lead(seed: int, index: int, contact_id: str) -> RecordFacts:
    fit = int(draw(seed, "fit", index) * 61)
    engagement = int(draw(seed, "engagement", index) * 41)
    score = fit + engagement
    tier, decision = next((tier, decision) for least, tier, decision in _TIERS if score >= least)
    fields = {
        "contact_id": contact_id,
        "status": "new",
        "score": score,
        "fit": fit,
        "engagement": engagement,
        "tier": tier,
        "decision": decision,
        "source": pick(_SOURCES, seed, "source", index),
    }
    return RecordFacts(names.derive("lead", _EPOCH, "made up", seed, index), "lead", fields)
