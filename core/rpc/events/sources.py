"""Handlers of EventService for sources: where events come from, how they are verified and what is made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from sqlalchemy import Row

from core.domain import names
from core.domain.errors import AlreadyExists, Invalid, NotFound, Violation, invalid
from core.domain.inbound import fitting, mapping, settings, verifier_settings
from core.domain.inbound.mapping import MappingRules
from core.domain.inbound.verifiers import HmacForm, Kind, Verifier
from core.rpc import changes
from core.rpc.call import Call
from core.rpc.convert import from_struct, to_struct, to_timestamp
from core.store.events import quarantine, sources
from dripstone.v1 import event_pb2 as pb

LONGEST_GRACE = timedelta(days=30)
DEFAULT_GRACE = timedelta(hours=24)

_KINDS = {
    "webhook": pb.SOURCE_KIND_WEBHOOK,
    "affiliate": pb.SOURCE_KIND_AFFILIATE,
    "inbound": pb.SOURCE_KIND_INBOUND,
}
_KIND_NAMES = {number: name for name, number in _KINDS.items()}
_VERIFIERS = {kind: pb.VerifierKind.Value(f"VERIFIER_KIND_{kind.name}") for kind in Kind if kind}
_VERIFIER_KINDS = {number: kind for kind, number in _VERIFIERS.items()}
_CHANGEABLE = ("display_name", "verifier", "mapping", "schema")
_INBOUND_ONLY = ("verifier", "mapping")


async def create_source(request: pb.CreateSourceRequest, call: Call) -> pb.Source:
    """Create a source of events; an inbound URL is in this answer only.

    Raises AlreadyExists for an id that is taken.
    """
    kind = _KIND_NAMES[request.kind]
    given = [name for name in ("verifier", "mapping", "schema") if request.HasField(name)]
    values, violations = _settings(request, given, kind, "", None)
    if request.source_id and not names.is_slug(request.source_id):
        message = "is no id: lower-case letters, digits, hyphens and underscores, at most 63"
        hint = "Choose one like website-form, or leave it out to have one made."
        violations.insert(0, Violation("source_id", "BAD_ID", message, hint))
    if violations:
        raise Invalid(*violations)
    row = await sources.create(call.tx, request.source_id, request.display_name, kind, values)
    if row is None:
        raise AlreadyExists(kind="source", id=request.source_id)
    answer = _source(row)
    if kind == "inbound" and not request.validate_only:
        answer.inbound_path = _path(await sources.open_url(call.tx, row.id, call.now))
    return answer


async def get_source(request: pb.GetSourceRequest, call: Call) -> pb.Source:
    """Return one source."""
    row = await _get(call, request.source_id)
    return _source(row, await quarantine.counts(call.tx, [row.id]))


async def list_sources(request: pb.ListSourcesRequest, call: Call) -> pb.ListSourcesResponse:
    """Return a page of sources, newest first."""
    rows, token = await sources.page(call.tx, request.page_size, request.page_token)
    counts = await quarantine.counts(call.tx, [row.id for row in rows])
    return pb.ListSourcesResponse(sources=[_source(row, counts) for row in rows], next_page_token=token)


async def update_source(request: pb.UpdateSourceRequest, call: Call) -> pb.Source:
    """Change what the mask names; secrets that are not sent stay as they are while the verifier's kind does."""
    wanted = request.source
    fields = _mask(request)
    row = await _get(call, wanted.id, lock=True)
    changes.expect("source", row.id, given=wanted.etag, current=_etag(row))
    values, violations = _settings(wanted, fields, row.kind, "source.", settings.verifier_of(row.verifier))
    if "display_name" in fields and not wanted.display_name:
        message = "is required and missing"
        violations.append(Violation("source.display_name", "REQUIRED", message, "Set source.display_name."))
    elif "display_name" in fields:
        values["display_name"] = wanted.display_name
    if violations:
        raise Invalid(*violations)
    row = await sources.change(call.tx, row.id, values) if values else row
    return _source(row, await quarantine.counts(call.tx, [row.id]))


async def rotate_inbound_url(request: pb.RotateInboundUrlRequest, call: Call) -> pb.RotateInboundUrlResponse:
    """Make a new inbound URL; no old one works longer than the grace period."""
    grace = request.grace_period.ToTimedelta() if request.HasField("grace_period") else DEFAULT_GRACE
    if not timedelta(0) <= grace <= LONGEST_GRACE:
        message = "a grace period is from 0 seconds to 30 days"
        raise invalid("grace_period", "OUT_OF_RANGE", message, "Leave it out for 24 hours, or send 0s to stop it now.")
    row = await _get(call, request.source_id, lock=True)
    if row.kind != "inbound":
        raise _not_inbound("source_id", row)
    end = call.now + grace
    token = await sources.open_url(call.tx, row.id, end)
    path = "" if request.validate_only else _path(token)  # which would never work
    return pb.RotateInboundUrlResponse(inbound_path=path, old_url_expire_time=to_timestamp(end))


async def _get(call: Call, source_id: str, *, lock: bool = False) -> Row[Any]:
    row = await sources.get(call.tx, source_id, lock=lock)
    if row is None:
        raise NotFound(kind="source", id=source_id)
    return row


def _not_inbound(field: str, row: Row[Any]) -> Invalid:
    message = f"source `{row.id}` is of the kind {row.kind}, which has no inbound URL"
    return invalid(field, "NOT_INBOUND", message, "Create a source of the kind inbound.")


def _etag(row: Row[Any]) -> str:
    return f'"{row.rev}"'


def _path(token: str) -> str:
    return f"/in/{token}"


def _mask(request: pb.UpdateSourceRequest) -> list[str]:
    """Return the fields to change: those of the mask, or those that are set."""
    source = request.source
    given = [name for name in _CHANGEABLE if name != "display_name" and source.HasField(name)]  # type: ignore[arg-type]
    named = changes.masked(request.update_mask.paths, _CHANGEABLE)
    return named or (["display_name"] if source.display_name else []) + given


def _settings(
    given: pb.CreateSourceRequest | pb.Source, fields: Sequence[str], kind: str, prefix: str, old: Verifier | None
) -> tuple[dict[str, Any], list[Violation]]:
    """Return verifier, mapping and schema as they are stored, those that `fields` name, and all that is wrong."""
    values: dict[str, Any] = {}
    violations: list[Violation] = []
    for name in fields:
        if kind != "inbound" and name in _INBOUND_ONLY and given.HasField(name):  # type: ignore[arg-type]
            message = f"is for inbound sources; this one is of the kind {kind}"
            violations.append(Violation(prefix + name, "NOT_INBOUND", message, "Leave it out."))
    if "verifier" in fields:
        verifier = _verifier(given.verifier, old)
        violations += verifier_settings.problems(verifier, f"{prefix}verifier")
        values["verifier"] = settings.stored_verifier(verifier)
    if "mapping" in fields:
        rules = rules_from(given.mapping)
        violations += mapping.problems(rules, f"{prefix}mapping")
        values["mapping"] = settings.stored_rules(rules)
    if "schema" in fields:
        schema = from_struct(given.schema)
        violations += fitting.problems(schema, f"{prefix}schema") if schema else ()
        values["schema"] = schema or None
    return values, violations


def _verifier(given: pb.Verifier, old: Verifier | None) -> Verifier:
    """Return a verifier; one of the same kind keeps the secrets that answers never show, unless others are sent."""
    kind = _VERIFIER_KINDS.get(given.kind, Kind.NONE)
    known = old if old is not None and old.kind is kind else Verifier()
    form = given.hmac
    return Verifier(
        kind=kind,
        secrets=tuple(given.secrets) or known.secrets,
        hmac=HmacForm(
            header=form.header,
            algorithm=form.algorithm.lower() or "sha256",
            encoding=form.encoding.lower() or "hex",
            prefix=form.prefix,
            template=form.template or "{body}",
            timestamp_header=form.timestamp_header,
        ),
        challenge_token=given.challenge_token or known.challenge_token,
    )


def rules_from(given: pb.Mapping) -> MappingRules:
    """Return a mapping of the contract as what decides."""
    return MappingRules(
        event_type=given.event_type,
        event_name=given.event_name,
        fields=tuple(sorted(given.fields.items())),
        occur_time=given.occur_time,
        message_id=given.message_id,
        person_id=given.person_id,
        when=given.when,
    )


def _source(row: Row[Any], counts: dict[str, int] | None = None) -> pb.Source:
    source = pb.Source(
        id=row.id,
        display_name=row.display_name,
        kind=_KINDS[row.kind],
        create_time=to_timestamp(row.created_at),
        update_time=to_timestamp(row.updated_at or row.created_at),
        last_event_time=to_timestamp(row.last_event_at),
        quarantined_count=(counts or {}).get(row.id, 0),
        etag=_etag(row),
    )
    if row.verifier:
        verifier = settings.verifier_of(row.verifier)
        source.verifier.kind = _VERIFIERS.get(verifier.kind, pb.VERIFIER_KIND_UNSPECIFIED)
        if verifier.kind is Kind.HMAC:
            source.verifier.hmac.CopyFrom(pb.HmacForm(**asdict(verifier.hmac)))
    if row.mapping:
        rules = settings.rules_of(row.mapping)
        texts = {name: value for name, value in asdict(rules).items() if name != "fields"}
        source.mapping.CopyFrom(pb.Mapping(**texts, fields=dict(rules.fields)))
    if row.schema:
        source.schema.CopyFrom(to_struct(row.schema))
    return source
