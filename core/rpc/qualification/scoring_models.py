"""Handlers of QualificationService about scoring models: published, looked at, checked, and put in use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Row

from core.domain import names
from core.domain.errors import Invalid, Violation, invalid
from core.domain.nearest import did_you_mean
from core.domain.qualification import lint
from core.domain.qualification.model import ScoringModel
from core.domain.qualification.parse import compiled
from core.domain.workflow import own_kinds, source
from core.domain.workflow.own_kinds import OwnKinds
from core.rpc.call import Call
from core.rpc.convert import to_timestamp
from core.rpc.qualification.qualifying import model_row, unknown_model
from core.rpc.workflows.workflows import problem_messages
from core.store.organizations import members
from core.store.qualification import qualification as store
from core.store.qualification import routings
from core.store.records import record_schema
from core.store.transaction import Transaction
from core.store.workflows import workflows
from dripstone.v1 import qualification_pb2 as pb

_ID_HINT = "Use lower-case letters, digits, hyphens and underscores, at most 63, such as inbound-2026."


async def publish_scoring_model(request: pb.PublishScoringModelRequest, call: Call) -> pb.ScoringModel:
    """Compile a model and make it the newest version."""
    if not names.is_slug(request.model_id):
        raise invalid("model_id", "NOT_A_SLUG", "cannot be an id", _ID_HINT)
    model = compiled(request.source, await _own(call.tx))
    if problems := await _lookups(call.tx, model):
        raise Invalid(*problems)
    doubts = await _doubts(call.tx, request.source, model)
    row = await store.publish(
        call.tx,
        request.model_id,
        title=model.title,
        source=request.source,
        document=source.parse(request.source),
        published_by=call.caller.principal_id,
        own=model.own,
        activate=not request.keep_active_version,
    )
    message = await _message(call.tx, row)
    message.warnings.extend(problem_messages(request.source, doubts))
    return message


async def get_scoring_model(request: pb.GetScoringModelRequest, call: Call) -> pb.ScoringModel:
    """Return a version of a model. Raises NotFound."""
    if request.version < 0:
        raise invalid("version", "OUT_OF_RANGE", "must be 0 or more", "Send 0 for the newest version.")
    return await _message(call.tx, await model_row(call.tx, request.model_id, request.version))


async def list_scoring_models(request: pb.ListScoringModelsRequest, call: Call) -> pb.ListScoringModelsResponse:
    """Return a page of models, the most recently published first."""
    rows, token = await store.list_newest(call.tx, request.page_size, request.page_token)
    models = [
        pb.ScoringModel(
            id=row.id,
            version=row.newest_version,
            title=row.title,
            create_time=to_timestamp(row.updated_at),
            active=store.active_version(row) == row.newest_version,
        )
        for row in rows
    ]
    return pb.ListScoringModelsResponse(scoring_models=models, next_page_token=token)


async def list_scoring_model_versions(
    request: pb.ListScoringModelVersionsRequest, call: Call
) -> pb.ListScoringModelVersionsResponse:
    """Return a page of a model's versions, newest first. Raises NotFound."""
    model = await store.get_model(call.tx, request.model_id)
    if model is None:
        raise await unknown_model(call.tx, request.model_id)
    rows, token = await store.versions_page(call.tx, request.model_id, request.page_size, request.page_token)
    versions = [_version(row, active=row.version == store.active_version(model)) for row in rows]
    for version in versions:
        version.source = ""
    return pb.ListScoringModelVersionsResponse(versions=versions, next_page_token=token)


async def activate_scoring_model(request: pb.ActivateScoringModelRequest, call: Call) -> pb.ScoringModel:
    """Make a version the one that qualifications use when they name none. Raises NotFound."""
    if request.version < 1:
        raise invalid("version", "OUT_OF_RANGE", "must be 1 or more", "List the versions to see which there are.")
    if await store.get_model(call.tx, request.model_id, lock=True) is None:
        raise await unknown_model(call.tx, request.model_id)
    row = await model_row(call.tx, request.model_id, request.version)
    if problems := await _lookups(call.tx, compiled(row.source, own_kinds.from_json(row.own_kinds))):
        raise Invalid(*problems)  # what it refers to may have gone since it was published
    await store.activate(call.tx, request.model_id, request.version)
    return _version(row, active=True)


async def validate_scoring_model(
    request: pb.ValidateScoringModelRequest, call: Call
) -> pb.ValidateScoringModelResponse:
    """Return everything that is wrong with a document, or, where nothing is, what is doubtful."""
    try:
        model = compiled(request.source, await _own(call.tx))
    except Invalid as error:
        return pb.ValidateScoringModelResponse(problems=problem_messages(request.source, error.violations))
    return pb.ValidateScoringModelResponse(
        problems=problem_messages(request.source, await _lookups(call.tx, model)),
        warnings=problem_messages(request.source, await _doubts(call.tx, request.source, model)),
    )


async def _own(tx: Transaction) -> OwnKinds:
    return own_kinds.of((await record_schema.of(tx)).custom_kinds)


async def _lookups(tx: Transaction, model: ScoringModel) -> list[Violation]:
    """Return what a model refers to and is not there."""
    found: list[Violation] = []
    if model.routing_id and model.routing_id not in (known := await routings.ids(tx)):
        hint = did_you_mean(model.routing_id, known, "Publish it first.")
        found.append(Violation("routing", "UNKNOWN_ROUTING", f"there is no routing {model.routing_id}", hint))
    for tier, effect in model.on_tier.items():
        if effect.enroll and await workflows.get(tx, effect.enroll) is None:
            path, message = f"on_tier.{tier}.enroll", f"there is no workflow {effect.enroll}"
            found.append(Violation(path, "UNKNOWN_WORKFLOW", message, "Create and publish it first."))
    return found


async def _doubts(tx: Transaction, text: str, model: ScoringModel) -> Sequence[Violation]:
    """Return what is doubtful about a model, by itself and by what the organization has."""
    found = list(lint.warnings(text, await store.recent_event_names(tx), model.own))
    if model.routing is not None:
        there: Mapping[str, Any] = await members.active_by_email(tx, model.routing.members)
        for index, email in enumerate(model.routing.members):
            if email not in there:
                path, message = f"routing.members[{index}]", f"{email} is not a member and gets no leads"
                hint = did_you_mean(email, there, "Create the member, or take the address out.")
                found.append(Violation(path, "UNKNOWN_MEMBER", message, hint))
    return found


async def _message(tx: Transaction, row: Row[Any]) -> pb.ScoringModel:
    model = await store.get_model(tx, row.model_id)
    return _version(row, active=model is not None and store.active_version(model) == row.version)


def _version(row: Row[Any], *, active: bool) -> pb.ScoringModel:
    return pb.ScoringModel(
        id=row.model_id,
        version=row.version,
        title=row.title,
        source=row.source,
        create_time=to_timestamp(row.created_at),
        active=active,
    )
