"""The names that conditions of a routing may use: contact, lead, company, and who owns the account already."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from core.domain.enrollment import RecordFacts
from core.domain.workflow import own_kinds
from core.domain.workflow.expressions import Environment, Kind
from core.domain.workflow.own_kinds import OwnKinds
from core.domain.workflow.variables import record_variables

_ACCOUNT: Mapping[str, Kind] = {"account.owner_id": "string"}


@lru_cache(maxsize=64)
def environment(own: OwnKinds = own_kinds.NONE) -> Environment:
    """Return what `when` and `territory` may name; `own` are the kinds of own fields."""
    custom = own_kinds.as_custom(own)
    records: dict[str, Kind] = {}
    for record_type in ("contact", "lead", "company"):
        records |= record_variables(record_type, custom.get(record_type))
    return Environment({**records, **_ACCOUNT})


def values(
    contact: RecordFacts | None,
    lead: RecordFacts | None,
    company: RecordFacts | None,
    account_owner: str,
    own: OwnKinds = own_kinds.NONE,
) -> dict[str, Any]:
    """Return what the names stand for; what is not there is left out."""
    known: dict[str, Any] = {"account.owner_id": account_owner or None}
    for name, record in (("contact", contact), ("lead", lead), ("company", company)):
        if record is not None:
            known |= {f"{name}.{field}": value for field, value in record.fields.items()}
            known[f"{name}.id"] = record.id or None
    known |= own_kinds.values(own, known)
    return {name: value for name, value in known.items() if value is not None}
