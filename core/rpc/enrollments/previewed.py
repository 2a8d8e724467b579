"""What a preview of enrolling has shown, as the etag by which the call that follows does nothing else.

It names the version, the request by its digest, and who was left out: `v3.9f86d081884c7d65`, and `.Ag` behind it.
Whoever was let in may meanwhile be kept out, as by a refusal of consent; nobody else comes in.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable

from google.protobuf.message import Message

from core.domain.errors import PreviewStale, invalid
from core.domain.frozen import frozen
from core.domain.workflow.version import Version
from dripstone.v1.agent_pb2 import ExecuteRequest, ExecuteWorkflowRequest
from dripstone.v1.enrollment_pb2 import EnrollContactsRequest

Request = EnrollContactsRequest | ExecuteRequest | ExecuteWorkflowRequest

_ETAG = re.compile(r"v(\d{1,9})\.([0-9a-f]{16})(?:\.([\w-]{1,200}))?", re.ASCII)
_NOT_CONTENT = ("request_id", "idempotency_key", "validate_only", "preview_etag")


@frozen
class Previewed:
    """A preview that a call goes by; an empty one for a call that was not previewed."""

    left_out: frozenset[int] = frozenset()
    """Positions of contacts that were not let in."""


def etag_of(request: Request, version: Version, left_out: Iterable[int] = ()) -> str:
    """Return the etag of a preview of a request."""
    bits = sum(1 << index for index in set(left_out))
    packed = base64.urlsafe_b64encode(bits.to_bytes((bits.bit_length() + 7) // 8)).rstrip(b"=").decode()
    return f"v{version.number}.{_digest(request)}" + (f".{packed}" if packed else "")


def checked(request: Request, version: Version) -> Previewed:
    """Return the preview that a request goes by. Raises PreviewStale, and Invalid for what is no etag of one."""
    etag = request.preview_etag
    if not etag:
        return Previewed()
    found = _ETAG.fullmatch(etag)
    if found is None:
        hint = "Send the etag that a preview of this call answered with, or none."
        raise invalid("preview_etag", "BAD_ETAG", "this is not the etag of a preview", hint)
    number, digest, packed = found.groups()
    if int(number) != version.number:
        why = f"{version.workflow_id} is at version {version.number} by now, and version {int(number)} was previewed"
        raise PreviewStale(why=why)
    if digest != _digest(request):
        raise PreviewStale(why="this call is another one than was previewed")
    return Previewed(frozenset(_positions(packed or "")))


def _positions(packed: str) -> list[int]:
    try:
        bits = int.from_bytes(base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4)))
    except (ValueError, binascii.Error):
        raise invalid("preview_etag", "BAD_ETAG", "this is not the etag of a preview", "Copy it whole.") from None
    return [index for index in range(bits.bit_length()) if bits >> index & 1]


def _digest(request: Message) -> str:
    content = type(request)()
    content.CopyFrom(request)
    for name in _NOT_CONTENT:
        if name in content.DESCRIPTOR.fields_by_name:
            content.ClearField(name)
    return hashlib.sha256(content.SerializeToString(deterministic=True)).hexdigest()[:16]
