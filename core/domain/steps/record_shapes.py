"""Settings about records: the shape of one that names their type, and where an opportunity may stand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.domain.frozen import frozen
from core.domain.nearest import did_you_mean
from core.domain.steps.shapes import Scope
from core.domain.workflow import record_types
from core.domain.workflow.values import Value


@frozen
class RecordType:
    """A type of records: one of those that every organization has, or one of its own."""

    known: tuple[str, ...]

    @property
    def hint(self) -> str:
        """Return how to write one."""
        return f"Use one of {', '.join(self.known)}, or a type of your own."

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        return record_types.schema(self.known)

    def read(self, raw: Any, scope: Scope, path: str) -> str:
        """Return the type, or report what is wrong."""
        return record_types.read(raw, self.known, scope.lookups, scope.findings, path)


def check_place(fields: Mapping[str, Value], scope: Scope, path: str) -> None:
    """Report a pipeline, or a stage, that is written out and that there is not."""
    known = scope.lookups.pipelines
    written = {name: value.written for name, value in fields.items() if isinstance(value.written, str)}
    pipeline, stage = written.get("pipeline_id"), written.get("stage_id")
    if not known:
        return
    if pipeline is not None:
        among = [one.id for one in known]
        if pipeline not in among:
            hint = did_you_mean(pipeline, among) or f"There are {', '.join(among)}."
            scope.add(f"{path}.pipeline_id", "UNKNOWN_PIPELINE", f"there is no pipeline {pipeline[:60]}", hint)
            return
        known = tuple(one for one in known if one.id == pipeline)
    stages = list(dict.fromkeys(one.id for of in known for one in of.stages))
    if stage is not None and stage not in stages:
        hint = did_you_mean(stage, stages) or f"There are {', '.join(stages)}."
        scope.add(f"{path}.stage_id", "UNKNOWN_STAGE", f"there is no stage {stage[:60]}", hint)
