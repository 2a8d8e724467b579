"""The names that the conditions of a scoring model may use."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from core.domain.workflow import own_kinds
from core.domain.workflow.expressions import Environment, Kind
from core.domain.workflow.own_kinds import OwnKinds
from core.domain.workflow.variables import EVENT, record_variables

RESULT_FIELDS = frozenset(
    {"score", "fit", "engagement", "tier", "decision", "model_id", "model_version", "qualified_at"}
)
"""Lead fields that qualification itself sets; rules do not read them, or a score would feed on itself."""

_RESULT: Mapping[str, Kind] = {
    "score": "integer",
    "fit": "integer",
    "engagement": "integer",
    "tier": "string",
    "decision": "string",
}


def _records(own: OwnKinds) -> dict[str, Kind]:
    custom = own_kinds.as_custom(own)
    return {
        **record_variables("contact", custom.get("contact")),
        **record_variables("lead", custom.get("lead")),
    }


def _who(own: OwnKinds) -> dict[str, Kind]:
    return {
        name: kind
        for name, kind in _records(own).items()
        if not (name.startswith("lead.") and name.removeprefix("lead.") in RESULT_FIELDS)
    }


@lru_cache(maxsize=64)
def of_facts(own: OwnKinds = own_kinds.NONE) -> Environment:
    """Return what fit and disqualify rules may name: the contact and the lead; `own` are the kinds of own fields."""
    return Environment(_who(own))


@lru_cache(maxsize=64)
def of_events(own: OwnKinds = own_kinds.NONE) -> Environment:
    """Return what engagement rules may name: also the event they look at."""
    return Environment({**_who(own), **EVENT})


@lru_cache(maxsize=64)
def of_results(own: OwnKinds = own_kinds.NONE) -> Environment:
    """Return what the demand for an approval may name: also what came out, and what the lead had before."""
    return Environment({**_records(own), **_RESULT})
