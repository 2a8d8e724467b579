"""What tells requests apart, and what of a message may be stored."""

from __future__ import annotations

import hashlib

from google.protobuf.message import Message

from core.rpc.methods import Method


def request_hash(method: Method, request: Message) -> str:
    """Return the hash that tells requests apart: method and content, without the key itself."""
    content = type(request)()
    content.CopyFrom(request)
    content.ClearField(method.key_field)
    serialized = content.SerializeToString(deterministic=True)
    return hashlib.sha256(method.full_name.encode() + b"\0" + serialized).hexdigest()


def without_secrets(message: Message) -> Message:
    """Return a copy without what the contract marks as secret, at any depth; only that copy is ever stored."""
    copy = type(message)()
    copy.CopyFrom(message)
    _strip(copy)
    return copy


def _strip(message: Message) -> None:
    for field, value in message.ListFields():
        if field.GetOptions().debug_redact:
            message.ClearField(field.name)
        elif field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        elif field.is_repeated:
            for item in value:
                _strip(item)
        else:
            _strip(value)
