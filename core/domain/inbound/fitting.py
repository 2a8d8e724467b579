"""Whether an event's fields fit the JSON Schema of its source."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from core.domain.errors import Violation
from core.domain.workflow.json_schemas import JsonSchema, read

_PLACE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*|\[\d+\])*): (.+)", re.DOTALL)


def problems(schema: Mapping[str, Any], path: str = "schema") -> tuple[Violation, ...]:
    """Return everything that is wrong with a schema."""
    return read(schema, path)[1]


def misfit(schema: Mapping[str, Any] | None, fields: Mapping[str, Any]) -> Violation | None:
    """Return why fields do not fit, with the first that is at fault; None where they fit or nothing is asked."""
    checked = _checked(json.dumps(schema, sort_keys=True)) if schema else None
    told = checked.misfit(fields) if checked is not None else ""
    if not told:
        return None
    hint = "Send what the source's schema asks for, or mend the schema or the mapping, then redrive."
    place = _PLACE.fullmatch(told)
    if place is not None and re.split(r"[.\[]", place[1], maxsplit=1)[0] in fields:
        return Violation(f"fields.{place[1]}", "SCHEMA_MISFIT", place[2], hint)
    return Violation("fields", "SCHEMA_MISFIT", told, hint)


@lru_cache(maxsize=500)
def _checked(schema: str) -> JsonSchema | None:
    return read(json.loads(schema), "schema")[0]
