"""What calls leave in the audit log: one entry for each that changed something, in the transaction that changed it.

Entries stay for ever and outlive whoever they are about, so they hold ids and digests, and no value of any field.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast
from urllib.parse import unquote

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from core import ids
from core.domain.control.audit import Entry, as_id, told_reason
from core.domain.control.digest import digest
from core.domain.frozen import frozen
from core.domain.workflow.storable import storable_text
from core.rpc.admission.fingerprint import without_secrets
from core.rpc.call import Call
from core.rpc.methods import Method, snake_case
from core.rpc.writing import written
from core.store.control import audit, usage
from core.store.control.audit_subjects import digest_of
from core.store.transaction import Transaction

ON_BEHALF_OF = "x-on-behalf-of"
"""Metadata in which a caller may say for whom it acts; nobody checks it."""

REASON = "x-dripstone-reason"
"""Metadata in which a caller may say why, percent-encoded; for methods whose requests have no field for it."""

SURFACE = "x-dripstone-surface"
"""Metadata by which the MCP server says that it forwards a call."""

GATEWAY = ":gateway"
"""Metadata that the HTTP gateway sets: gRPC lets no client send such a name."""

ONLY_USED = frozenset(
    {
        "AckMessages",
        "CaptureAffiliateEvent",
        "CaptureEvent",
        "EnrollContacts",
        "IngestEvent",
        "IngestEvents",
        "RedriveQuarantined",
    }
)
"""Methods that come by the thousand and do not change what they name: their subject is not weighed."""

NOTED_BY_HANDLER = frozenset({"VerifyEndpoint"})
"""Methods without a transaction of their own whose handlers write the entry together with what they change."""

_NOT_SUBJECTS = frozenset({"request_id", "idempotency_key", "organization_id", "project_id", "message_id", "event_id"})
_MOST_NAMES = 12
_LONGEST_SAID = 500


@frozen
class Subject:
    """What a call is about: `record` and its id."""

    noun: str
    id: str


_NOTHING = Subject("", "")


@frozen
class Before:
    """What a call's subject was before the call."""

    subject: Subject
    digest: str = ""


async def before(tx: Transaction, method: Method, request: Message) -> Before:
    """Look at what a call is about, before it is carried out."""
    subject = _named(request) or _NOTHING
    if method.descriptor.name in ONLY_USED:
        return Before(subject)
    return Before(subject, await digest_of(tx, subject.noun, subject.id))


async def note_call(
    tx: Transaction, call: Call, method: Method, request: Message, answer: Message, was: Before
) -> None:
    """Write the entry of a call that is carried out."""
    weighed = method.descriptor.name not in ONLY_USED
    subject = was.subject if was.subject.id else _answered(answer)
    entry = _entry(
        tx,
        call,
        method=method.name,
        subject_id=subject.id,
        summary=_summary(method, request, subject),
        reason=getattr(request, "reason", "") or getattr(request, "comment", "") or said(call),
        request_digest=request_digest(method, request),
        before_digest=was.digest,
        after_digest=await digest_of(tx, subject.noun, subject.id) if weighed else "",
    )
    await audit.add(tx, entry)


async def outside(method: Method, request: Message, call: Call) -> Message:
    """Carry out a call that has no transaction of its own, and write its entry, unless it only reads."""
    answer: Message = await method.handler(request, call)
    if not method.scope.endswith(":read") and method.descriptor.name not in NOTED_BY_HANDLER:

        async def noted(tx: Transaction) -> None:
            await note_call(tx, call, method, request, answer, Before(_named(request) or _NOTHING))
            caller = call.caller
            await usage.note_call(tx, caller.org_id, caller.principal_id, caller.agent_id, {"writes": 1})

        await written(call.parts.database, call.caller.org_id, noted)
    return answer


async def note(tx: Transaction, call: Call, *, method: str, subject_id: str, summary: str, reason: str = "") -> None:
    """Write an entry for what a handler commits in a transaction of its own; `summary` is one line without values."""
    entry = _entry(tx, call, method=method, subject_id=subject_id, summary=summary, reason=reason)
    await audit.add(tx, entry)


def _entry(
    tx: Transaction,
    call: Call,
    *,
    method: str,
    subject_id: str,
    summary: str,
    reason: object = "",
    request_digest: str = "",
    before_digest: str = "",
    after_digest: str = "",
) -> Entry:
    return Entry(
        organization_id=call.caller.org_id,
        id=ids.mint("aud", tx.now),
        principal_id=call.caller.principal_id,
        principal_kind=call.caller.principal_kind,
        on_behalf_of=as_id(call.metadata.get(ON_BEHALF_OF, "")),
        method=method,
        surface=surface_of(call),
        request_id=as_id(call.request_id),
        subject_id=as_id(subject_id),
        summary=summary,
        reason=told_reason(reason) if isinstance(reason, str) else "",
        request_digest=request_digest,
        before_digest=before_digest,
        after_digest=after_digest,
        created_at=tx.now,
    )


def said(call: Call) -> str:
    """Return why, as the caller says beside the request; empty where it does not."""
    return storable_text(unquote(call.metadata.get(REASON, "")))[:_LONGEST_SAID]


def surface_of(call: Call) -> str:
    """Return what a call came by: `http`, `mcp` or `grpc`."""
    if GATEWAY in call.metadata:
        return "http"
    return "mcp" if call.metadata.get(SURFACE) == "mcp" else "grpc"


def request_digest(method: Method, request: Message) -> str:
    """Return the digest of a request without its idempotency key and whatever the contract marks as secret."""
    content = without_secrets(request)
    if method.key_field:
        content.ClearField(method.key_field)
    return digest([method.name, content.SerializeToString(deterministic=True).hex()])


def _named(request: Message) -> Subject | None:
    """Return what a request names: by `record_id`, else by `record.id`."""
    for field in cast(Descriptor, request.DESCRIPTOR).fields:
        if _is_id(field) and (value := getattr(request, field.name)):
            return Subject(field.name.removesuffix("_id"), value)
    return next(_inner(request), None)


def _answered(answer: Message) -> Subject:
    """Return what an answer is about: the thing itself, one that it wraps, or one that it names."""
    if "id" in answer.DESCRIPTOR.fields_by_name:
        return Subject(snake_case(answer.DESCRIPTOR.name), str(getattr(answer, "id", "")))
    found = next(_inner(answer), None)
    if found is not None:
        return found
    named = (field for field in cast(Descriptor, answer.DESCRIPTOR).fields if _is_id(field, ("event_id",)))
    return next(
        (Subject(field.name.removesuffix("_id"), value) for field in named if (value := getattr(answer, field.name))),
        _NOTHING,
    )


def _is_id(field: FieldDescriptor, also: tuple[str, ...] = ()) -> bool:
    plain = field.type == FieldDescriptor.TYPE_STRING and not field.is_repeated and field.name.endswith("_id")
    return plain and (field.name not in _NOT_SUBJECTS or field.name in also)


def _inner(message: Message) -> Iterator[Subject]:
    for field in message.DESCRIPTOR.fields:
        inner = field.message_type
        if inner is None or field.is_repeated or "id" not in inner.fields_by_name or not message.HasField(field.name):
            continue
        if value := getattr(message, field.name).id:
            yield Subject(field.name, str(value))


def _summary(method: Method, request: Message, subject: Subject) -> str:
    """Return what was done in one line: the method in words, what it was about, which fields and how many items."""
    words = [snake_case(method.descriptor.name).replace("_", " ")]
    if subject.id:
        words.append(as_id(subject.id))
    given = ", ".join(_given(request))
    return " ".join(words) + (f" ({given})" if given else "")


def _given(request: Message) -> Iterator[str]:
    """Yield names of fields and counts of items, never a value."""
    for field, value in request.ListFields():
        if field.message_type is not None and field.message_type.full_name == "google.protobuf.FieldMask":
            yield from sorted(as_id(path) for path in value.paths)[:_MOST_NAMES]
        elif field.is_repeated:
            yield f"{len(value)} {field.name}"
