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
    return _copy(message, headers=True)


def for_deciders(message: Message) -> Message:
    """Return a copy that others than the caller may see: of headers, in which people send keys, only the names."""
    return _copy(message, headers=False)


_NOT_SHOWN = "(not shown)"


def _copy(message: Message, *, headers: bool) -> Message:
    copy = type(message)()
    copy.CopyFrom(message)
    _strip(copy, headers)
    return copy


def _strip(message: Message, headers: bool) -> None:
    for field, value in message.ListFields():
        if field.GetOptions().debug_redact:
            message.ClearField(field.name)
        elif field.message_type is None:
            continue
        elif field.message_type.GetOptions().map_entry:
            if field.name == "headers" and not headers:
                value.update(dict.fromkeys(value, _NOT_SHOWN))
        elif field.is_repeated:
            for item in value:
                _strip(item, headers)
        else:
            _strip(value, headers)
