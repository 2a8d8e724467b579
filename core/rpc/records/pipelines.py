"""Handlers of RecordService for pipelines: the ordered stages that opportunities go through."""

from __future__ import annotations

from core.domain.errors import Invalid, NotFound, StageInUse, TooManyDefinitions
from core.domain.records import pipelines as rules
from core.domain.records.pipelines import MOST_PIPELINES, Pipeline, Stage, StageKind
from core.rpc.call import Call
from core.store import paging
from core.store.records import pipelines as store
from dripstone.v1 import record_type_pb2 as pb

_KINDS = {kind: pb.StageKind.Value(f"STAGE_KIND_{kind.name}") for kind in StageKind}


async def list_pipelines(request: pb.ListPipelinesRequest, call: Call) -> pb.ListPipelinesResponse:
    """Return a page of pipelines with their stages in order."""
    rows, token = await paging.page(
        call.tx, store.listing(), store.pipelines.c.id, request.page_size, request.page_token, filter_text="pipelines"
    )
    return pb.ListPipelinesResponse(pipelines=[_message(store.to_domain(row)) for row in rows], next_page_token=token)


async def put_pipeline(request: pb.PutPipelineRequest, call: Call) -> pb.Pipeline:
    """Create a pipeline or replace its stages.

    Raises Invalid, TooManyDefinitions, and StageInUse for a stage that goes while opportunities stand in it.
    """
    pipeline = _read(request.pipeline)
    if wrong := rules.problems(pipeline):
        raise Invalid(*wrong)
    before = await store.get(call.tx, pipeline.id, lock=True)
    if before is None and await store.count(call.tx) >= MOST_PIPELINES:
        raise TooManyDefinitions(limit=MOST_PIPELINES, what="pipelines")
    if before is not None:
        going = {stage.id for stage in before.stages} - {stage.id for stage in pipeline.stages}
        standing: dict[str, int] = {}
        for stage_id, _, number in await store.standing(call.tx, pipeline.id) if going else ():
            standing[stage_id] = standing.get(stage_id, 0) + number
        for stage_id in sorted(going):
            if standing.get(stage_id):
                raise StageInUse(count=standing[stage_id], stage_id=stage_id, pipeline_id=pipeline.id)
    await store.put(call.tx, pipeline)
    return _message(pipeline)


async def get_pipeline_board(request: pb.GetPipelineBoardRequest, call: Call) -> pb.PipelineBoard:
    """Count and sum the opportunities of each stage. Raises NotFound."""
    pipeline = await store.get(call.tx, request.pipeline_id)
    if pipeline is None:
        raise NotFound(kind="pipeline", id=request.pipeline_id)
    columns = rules.board(pipeline, await store.standing(call.tx, pipeline.id))
    return pb.PipelineBoard(
        columns=[
            pb.BoardColumn(
                stage_id=column.stage.id,
                display_name=column.stage.display_name,
                count=column.count,
                amounts=column.amounts,
                weighted_amounts=column.weighted,
            )
            for column in columns
        ]
    )


def _read(pipeline: pb.Pipeline) -> Pipeline:
    kinds = {number: kind for kind, number in _KINDS.items()}
    stages = (
        Stage(stage.id, stage.display_name, stage.probability, kinds.get(stage.kind, StageKind.OPEN))
        for stage in pipeline.stages
    )
    return Pipeline(pipeline.id, pipeline.display_name, tuple(stages))


def _message(pipeline: Pipeline) -> pb.Pipeline:
    return pb.Pipeline(
        id=pipeline.id,
        display_name=pipeline.display_name,
        stages=[
            pb.PipelineStage(
                id=stage.id,
                display_name=stage.display_name,
                probability=stage.probability,
                kind=_KINDS[stage.kind],
            )
            for stage in pipeline.stages
        ],
    )
