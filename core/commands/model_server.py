"""The running core as the commands on scoring models see it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from core.domain.errors import Violation
from core.domain.frozen import frozen

if TYPE_CHECKING:
    from dripstone.v1.client import Client

Checked = tuple[Sequence[Violation], Sequence[Violation]]
"""What is wrong with a file, and what is doubtful."""


@frozen
class Asked:
    """What a model is tried on."""

    source: str
    model_id: str
    outcome_field: str
    positive_values: tuple[str, ...]
    filter: str
    lead_time: timedelta | None
    limit: int


def _client() -> Client:
    from dripstone.v1.client import from_environment

    return from_environment()


def _violations(problems: Iterable[Any]) -> tuple[Violation, ...]:
    return tuple(Violation(one.path, one.reason, one.message, one.hint) for one in problems)


async def checked(sources: list[str]) -> list[Checked]:
    """Return what the core finds wrong and doubtful with each text."""
    from dripstone.v1 import qualification_pb2 as pb

    found: list[Checked] = []
    async with _client() as client:
        for source in sources:
            answer = await client.qualification.ValidateScoringModel(pb.ValidateScoringModelRequest(source=source))
            found.append((_violations(answer.problems), _violations(answer.warnings)))
    return found


async def published(model_id: str, source: str, keep_active: bool) -> tuple[int, bool, tuple[Violation, ...]]:
    """Publish, and return the version, whether it is in use, and what is doubtful."""
    from dripstone.v1 import qualification_pb2 as pb

    asked = pb.PublishScoringModelRequest(model_id=model_id, source=source, keep_active_version=keep_active)
    async with _client() as client:
        answer = await client.qualification.PublishScoringModel(asked)
    return answer.version, answer.active, _violations(answer.warnings)


async def backtested(asked: Asked, progress: Callable[[int, int], None]) -> dict[str, Any]:
    """Try a model, tell how far it is, and return the result as plain data."""
    from google.protobuf.json_format import MessageToDict

    from dripstone.v1 import qualification_pb2 as pb

    request = pb.BacktestModelRequest(
        model_id=asked.model_id,
        source=asked.source,
        outcome_field=asked.outcome_field,
        positive_values=asked.positive_values,
        filter=asked.filter,
        limit=asked.limit,
    )
    if asked.lead_time is not None:
        request.lead_time.FromTimedelta(asked.lead_time)
    result = pb.BacktestResult()
    async with _client() as client:
        async for one in client.qualification.BacktestModel(request):
            progress(one.done_count, one.total_count)
            if one.HasField("result"):
                result = one.result
    found: dict[str, Any] = MessageToDict(
        result, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return found
