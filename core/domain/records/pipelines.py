"""Pipelines: the ordered stages that opportunities go through, and what a stage says of those that stand in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from enum import StrEnum
from typing import Any

from core.domain import names
from core.domain.errors import Violation
from core.domain.frozen import frozen
from core.domain.nearest import did_you_mean
from core.domain.records.values import money_text, split_money

MOST_PIPELINES = 100
MOST_STAGES = 50
PLACE = frozenset({"pipeline_id", "stage_id"})
"""Fields of an opportunity that say where it stands; what the stage says of it is set with them."""
STANDING = PLACE | {"status", "probability"}


class StageKind(StrEnum):
    """What a stage means; an opportunity's status."""

    OPEN = "open"
    WON = "won"
    LOST = "lost"


@frozen
class Stage:
    """A stage of a pipeline."""

    id: str
    display_name: str
    probability: float
    """Chance of winning, 0 to 1."""
    kind: StageKind = StageKind.OPEN

    def to_json(self) -> dict[str, Any]:
        """Return it as it is stored."""
        named = {"id": self.id, "display_name": self.display_name}
        return {**named, "probability": self.probability, "kind": str(self.kind)}

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> Stage:
        """Return a stored stage."""
        return cls(said["id"], said["display_name"], said["probability"], StageKind(said["kind"]))


@frozen
class Pipeline:
    """A pipeline."""

    id: str
    display_name: str
    stages: tuple[Stage, ...]

    def stage(self, stage_id: str) -> Stage | None:
        """Return one of its stages, or None."""
        return next((one for one in self.stages if one.id == stage_id), None)


def problems(pipeline: Pipeline) -> list[Violation]:
    """Return everything that is wrong with a pipeline."""
    found = []
    slug = "Use lower-case letters, digits, hyphens and underscores."
    if not names.is_slug(pipeline.id):
        found.append(Violation("pipeline.id", "BAD_ID", "is no id", slug))
    if not pipeline.stages or len(pipeline.stages) > MOST_STAGES:
        message = f"has {len(pipeline.stages)} stages; 1 to {MOST_STAGES} are allowed"
        found.append(Violation("pipeline.stages", "WRONG_COUNT", message))
    seen: set[str] = set()
    for number, stage in enumerate(pipeline.stages):
        at = f"pipeline.stages[{number}]"
        if not names.is_slug(stage.id):
            found.append(Violation(f"{at}.id", "BAD_ID", "is no id", slug))
        elif stage.id in seen:
            found.append(Violation(f"{at}.id", "DUPLICATE", f"`{stage.id}` is a stage above already", "Rename one."))
        seen.add(stage.id)
        if not 0 <= stage.probability <= 1:
            found.append(Violation(f"{at}.probability", "OUT_OF_RANGE", "is not between 0 and 1", "Send 0.4 for 40 %."))
    return found


def place(
    known: Sequence[Pipeline], before: Mapping[str, Any], patch: Mapping[str, Any], path: str
) -> tuple[dict[str, Any], list[Violation]]:
    """Return the patch of an opportunity with what its stage says, and what is wrong with pipeline and stage.

    `known` has the oldest pipeline first: it takes what names none. While there is no pipeline at all, an opportunity
    stands in no stage.
    """
    moving = "pipeline_id" in patch or "stage_id" in patch or not before.get("pipeline_id")
    if not moving or (not known and not patch.get("pipeline_id") and not patch.get("stage_id")):
        return dict(patch), []
    wanted = patch["pipeline_id"] if patch.get("pipeline_id") else before.get("pipeline_id")
    pipeline = next((one for one in known if not wanted or one.id == wanted), None)
    if pipeline is None:
        hint = did_you_mean(str(wanted), [one.id for one in known], "Create it with PutPipeline.")
        at = f"{path}.pipeline_id" if path else "pipeline_id"
        return dict(patch), [Violation(at, "NOT_FOUND", f"there is no pipeline `{str(wanted or '')[:63]}`", hint)]
    stays = pipeline.id == before.get("pipeline_id")
    wanted = patch.get("stage_id") or (before.get("stage_id") if stays and "stage_id" not in patch else "")
    stage = pipeline.stage(str(wanted)) if wanted else pipeline.stages[0]
    if stage is None:
        named = [one.id for one in pipeline.stages]
        hint = did_you_mean(str(wanted), named, f"Its stages are {', '.join(named)}.")
        at = f"{path}.stage_id" if path else "stage_id"
        return dict(patch), [Violation(at, "NOT_FOUND", f"the pipeline {pipeline.id} has no such stage", hint)]
    stands = {"pipeline_id": pipeline.id, "stage_id": stage.id}
    return {**patch, **stands, "probability": stage.probability, "status": str(stage.kind)}, []


def placed(known: Sequence[Pipeline], before: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Return the patch of an opportunity with what its stage says; a stage that there is not is left out."""
    fields, wrong = place(known, before, patch, "")
    if wrong:
        fields, _ = place(known, before, {name: value for name, value in patch.items() if name not in STANDING}, "")
    return fields


@frozen
class Column:
    """The opportunities of one stage."""

    stage: Stage
    count: int
    amounts: tuple[str, ...]
    """Their sums, one a currency."""
    weighted: tuple[str, ...]
    """The same times the stage's probability."""


def board(pipeline: Pipeline, found: Iterable[tuple[str, str | None, int]]) -> Iterator[Column]:
    """Yield a column for each stage, from `(stage, amount, how many have it)`; sums are exact."""
    counts: dict[str, int] = {}
    sums: dict[str, dict[str, Decimal]] = {}
    for stage_id, amount, number in found:
        counts[stage_id] = counts.get(stage_id, 0) + number
        if amount:
            value, currency = split_money(amount)
            of_stage = sums.setdefault(stage_id, {})
            of_stage[currency] = of_stage.get(currency, Decimal()) + value * number
    for stage in pipeline.stages:
        held = sorted(sums.get(stage.id, {}).items())
        chance = Decimal(str(stage.probability))
        yield Column(
            stage,
            counts.get(stage.id, 0),
            tuple(money_text(value, currency) for currency, value in held),
            tuple(money_text((value * chance).normalize(), currency) for currency, value in held),
        )
