"""The names that the conditions of a scoring model may use."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from core.domain.workflow.expressions import Environment, Kind
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


def _who() -> dict[str, Kind]:
    lead = record_variables("lead")
    return {
        **record_variables("contact"),
        **{name: kind for name, kind in lead.items() if name.removeprefix("lead.") not in RESULT_FIELDS},
    }


@cache
def of_facts() -> Environment:
    """Return what fit and disqualify rules may name: the contact and the lead."""
    return Environment(_who())


@cache
def of_events() -> Environment:
    """Return what engagement rules may name: also the event they look at."""
    return Environment({**_who(), **EVENT})


@cache
def of_results() -> Environment:
    """Return what the demand for an approval may name: also what came out, and what the lead had before."""
    return Environment({**record_variables("contact"), **record_variables("lead"), **_RESULT})
