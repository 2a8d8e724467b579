"""What agents claim about a lead: counted in one qualification, told apart from facts, never written to a record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from core.domain.enrollment import RecordFacts
from core.domain.errors import Violation
from core.domain.frozen import frozen
from core.domain.nearest import did_you_mean
from core.domain.qualification.environments import RESULT_FIELDS
from core.domain.qualification.facts import LeadFacts, Origin, is_stale
from core.domain.qualification.model import ScoringModel
from core.domain.records import changes as field_changes
from core.domain.records.changes import Change
from core.domain.records.fields import STANDARD_FIELDS, validate_fields

_RECORDS = ("contact", "lead")
_PATHS = tuple(f"{record}.{field}" for record in _RECORDS for field in STANDARD_FIELDS[record])


@frozen
class Claim:
    """What an agent says, where it has it from, and how sure it is."""

    path: str
    """Such as `contact.job_title`."""
    value: Any
    source: str
    observed_at: datetime
    confidence: float


@frozen
class Settled:
    """The facts with the claims that count, and what became of each claim."""

    facts: LeadFacts
    used: tuple[Claim, ...] = ()
    ignored: tuple[Claim, ...] = ()


def check(claim: Claim, at: str, now: datetime) -> tuple[Claim, list[Violation]]:
    """Return a claim with its value in stored form, and what is wrong with it; `at` is where it stands."""
    problems: list[Violation] = []
    if not claim.source.strip():
        hint = "Send where it comes from, such as a URL."
        problems.append(Violation(f"{at}.source", "REQUIRED", "says nothing", hint))
    if not 0 <= claim.confidence <= 1:
        message = "is not between 0 and 1"
        problems.append(Violation(f"{at}.confidence", "OUT_OF_RANGE", message, "Send how sure you are, such as 0.8."))
    if claim.observed_at > now:
        problems.append(Violation(f"{at}.observe_time", "IN_THE_FUTURE", "is later than now", "Leave it out for now."))
    record, _, field = claim.path.partition(".")
    if record not in _RECORDS or not field:
        hint = did_you_mean(claim.path, _PATHS, "Begin it with contact. or lead., such as contact.job_title.")
        return claim, [*problems, Violation(f"{at}.path", "UNKNOWN_FACT", "is no fact about a contact or lead", hint)]
    if record == "lead" and (field in RESULT_FIELDS or field == "contact_id"):
        hint = "Claim what the rules look at."
        return claim, [*problems, Violation(f"{at}.path", "NOT_A_FACT", "is set by the qualification itself", hint)]
    accepted, wrong = validate_fields(record, {field: claim.value}, "")
    problems += [
        Violation(f"{at}.{'path' if one.reason == 'UNKNOWN_FIELD' else 'value'}", one.reason, one.message, one.hint)
        for one in wrong
    ]
    value = accepted.get(field)
    if value is None and not wrong:
        message = "is nothing, which cannot be claimed"
        problems.append(Violation(f"{at}.value", "REQUIRED", message, "Send what is the case."))
    return replace(claim, value=value), problems


def settle(model: ScoringModel, facts: LeadFacts, claims: Iterable[Claim]) -> Settled:
    """Return the facts as they are with these claims.

    A claim counts where the record has no fresh fact, it is itself fresh and was seen by the instant that is asked
    about, and it is sure enough for the model. Of several about one fact the surest counts, then the newest.
    """
    best: dict[str, Claim] = {}
    ignored: list[Claim] = []
    for claim in sorted(claims, key=lambda one: (-one.confidence, -one.observed_at.timestamp(), one.path)):
        if claim.path in best or not _counts(model, facts, claim):
            ignored.append(claim)
        else:
            best[claim.path] = claim
    if not best:
        return Settled(facts, (), tuple(ignored))
    origins = {path: Origin(claim.source, claim.observed_at, claimed=True) for path, claim in best.items()}
    settled = replace(
        facts,
        contact=_with(facts.contact, "contact", best),
        lead=_with(facts.lead, "lead", best),
        origins={**facts.origins, **origins},
    )
    return Settled(settled, tuple(best.values()), tuple(ignored))


def _with(record: RecordFacts, name: str, counted: Mapping[str, Claim]) -> RecordFacts:
    changes = [
        Change(path.partition(".")[2], None, claim.value)
        for path, claim in sorted(counted.items())
        if path.partition(".")[0] == name
    ]
    return replace(record, fields=field_changes.apply(record.fields, changes))


def _counts(model: ScoringModel, facts: LeadFacts, claim: Claim) -> bool:
    if claim.confidence < model.min_confidence or claim.observed_at > facts.as_of:
        return False
    if is_stale(claim.path, claim.observed_at, facts.as_of, model.freshness):
        return False
    record, _, field = claim.path.partition(".")
    known = field_changes.value_at((facts.contact if record == "contact" else facts.lead).fields, field)
    origin = facts.origins.get(claim.path)
    observed_at = origin.observed_at if origin is not None else None
    return known is None or is_stale(claim.path, observed_at, facts.as_of, model.freshness)
