"""Sealed credentials: opened by the right key for the right connection, and by nothing else."""

from __future__ import annotations

import base64
import secrets
from dataclasses import replace

import pytest

from core.domain.systems import envelope
from core.domain.systems.envelope import BadKey, CannotOpen, MasterKey

ONE, TWO = MasterKey(b"1" * 32), MasterKey(b"2" * 32)
SECRET = b'{"token": "pat-very-secret"}'


def test_what_is_sealed_is_opened_by_its_key_alone() -> None:
    sealed = envelope.seal(ONE, SECRET, "org_1/con_1", secrets.token_bytes)
    assert envelope.unseal((TWO, ONE), sealed, "org_1/con_1") == SECRET
    assert SECRET not in sealed.body
    assert b"pat-very" not in sealed.body + sealed.wrapped
    with pytest.raises(CannotOpen, match=ONE.id):
        envelope.unseal((TWO,), sealed, "org_1/con_1")


def test_what_is_put_in_anothers_place_or_changed_cannot_be_opened() -> None:
    sealed = envelope.seal(ONE, SECRET, "org_1/con_1", secrets.token_bytes)
    with pytest.raises(CannotOpen):
        envelope.unseal((ONE,), sealed, "org_1/con_2")
    for changed in (
        replace(sealed, body=sealed.body[:-1] + bytes([sealed.body[-1] ^ 1])),
        replace(sealed, wrapped=sealed.wrapped[:5]),
        replace(sealed, body=b""),
    ):
        with pytest.raises(CannotOpen):
            envelope.unseal((ONE,), changed, "org_1/con_1")


def test_rotation_wraps_anew_and_leaves_the_secret_as_it_was() -> None:
    sealed = envelope.seal(ONE, SECRET, "o/c", secrets.token_bytes)
    wrapped = envelope.rewrap((TWO, ONE), sealed, "o/c", secrets.token_bytes)
    assert (wrapped.key_id, wrapped.body) == (TWO.id, sealed.body)
    assert envelope.unseal((TWO,), wrapped, "o/c") == SECRET


def test_keys_are_read_from_lines_and_commas_and_never_told() -> None:
    assert envelope.read_keys(f"# ours\n{ONE.text}\n\n{TWO.text} # old\n") == (ONE, TWO)
    assert envelope.read_keys(f"{ONE.text},{TWO.text}") == (ONE, TWO)
    short = base64.b64encode(b"too short").decode()
    for text in (short, "no base64!", ONE.text + "AAAA"):
        with pytest.raises(BadKey) as error:
            envelope.read_keys(text)
        assert text not in str(error.value)
    assert ONE.text not in repr(ONE)
