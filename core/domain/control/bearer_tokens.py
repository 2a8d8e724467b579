"""Bearer tokens of an OpenID Connect provider: read without trust, then proved by a key of the provider and its claims.

Only signatures that a public key can check are taken: a key set is public, so a shared-secret algorithm would let
anybody sign with it.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import field
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from core.domain.frozen import frozen

ALGORITHMS = ("RS256", "ES256", "EdDSA")
LEEWAY = timedelta(seconds=60)
"""How far the provider's clock may be from ours."""

LONGEST = 16_384
"""Characters of a token."""

SMALLEST_RSA = 2048
MOST_KEYS = 100
_LATEST = 253_402_300_799  # the end of the year 9999
_TYPES = ("jwt", "at+jwt", "application/at+jwt")

Key = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey


class BadToken(Exception):
    """A token is not what it claims to be; why is for tests and logs, never for the caller."""


@frozen
class Claimed:
    """What a token says of itself, before anything of it is proved."""

    text: str = field(repr=False)
    algorithm: str
    key_id: str
    issuer: str
    audiences: tuple[str, ...]
    claims: Mapping[str, Any] = field(repr=False)


@frozen
class ProviderKey:
    """A public key of a provider."""

    key_id: str
    algorithm: str
    key: Key


def looks_like_one(text: str) -> bool:
    """Tell whether a credential has a token's form, so that it is worth reading."""
    return len(text) <= LONGEST and text.count(".") == 2


def read(text: str) -> Claimed:
    """Return what a token says. Raises BadToken when it is none, or asks for what nobody may ask for."""
    if not looks_like_one(text):
        raise BadToken("not a token")
    head, body, _ = text.split(".")
    header, claims = _json(head), _json(body)
    algorithm = header.get("alg")
    if algorithm not in ALGORITHMS:
        raise BadToken("algorithm not taken")
    if "crit" in header:
        raise BadToken("asks for an extension")
    if str(header.get("typ", "jwt")).lower() not in _TYPES:
        raise BadToken("another kind of token")
    issuer, audience = claims.get("iss"), claims.get("aud")
    audiences = (audience,) if isinstance(audience, str) else tuple(audience) if isinstance(audience, list) else ()
    if not isinstance(issuer, str) or not audiences or not all(isinstance(one, str) for one in audiences):
        raise BadToken("no issuer or no audience")
    key_id = header.get("kid", "")
    return Claimed(text, algorithm, key_id if isinstance(key_id, str) else "", issuer, audiences, claims)


def _json(part: str) -> dict[str, Any]:
    try:
        value = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, binascii.Error, RecursionError) as error:
        raise BadToken("cannot be read") from error
    if not isinstance(value, dict):
        raise BadToken("cannot be read")
    return value


def keys_in(key_set: object) -> tuple[ProviderKey, ...]:
    """Return the keys of a key set (RFC 7517) that tokens may be signed with; what is of no use stays out."""
    listed = key_set.get("keys") if isinstance(key_set, dict) else None
    if not isinstance(listed, list):
        raise BadToken("not a key set")
    return tuple(key for one in listed[:MOST_KEYS] if (key := _key(one)) is not None)


def _key(one: Any) -> ProviderKey | None:
    if not isinstance(one, dict) or one.get("use", "sig") != "sig" or "k" in one:
        return None
    algorithm = {"RSA": "RS256", "EC": "ES256", "OKP": "EdDSA"}.get(str(one.get("kty")))
    if algorithm is None or one.get("alg", algorithm) not in (algorithm, "Ed25519"):
        return None
    import jwt  # slow to load: see core.loading

    try:
        key = jwt.PyJWK({name: value for name, value in one.items() if name != "alg"}, algorithm=algorithm).key
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    match key:
        case RSAPublicKey() if key.key_size >= SMALLEST_RSA:
            pass
        case EllipticCurvePublicKey() if isinstance(key.curve, SECP256R1):
            pass
        case Ed25519PublicKey():
            pass
        case _:
            return None
    return ProviderKey(str(one.get("kid", "")), algorithm, key)


def fitting(claimed: Claimed, keys: Sequence[ProviderKey]) -> ProviderKey | None:
    """Return the key that a token names; one that names none is taken at its word where only one key fits."""
    of_kind = [key for key in keys if key.algorithm == claimed.algorithm]
    if claimed.key_id:
        return next((key for key in of_kind if key.key_id == claimed.key_id), None)
    return of_kind[0] if len(of_kind) == 1 else None


def prove(claimed: Claimed, key: ProviderKey, *, issuer: str, audience: str, now: datetime) -> datetime:
    """Check signature and claims, and return when the token ends. Raises BadToken."""
    import jwt

    try:
        jwt.PyJWS(algorithms=list(ALGORITHMS)).decode(claimed.text, key.key, algorithms=[key.algorithm])
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        raise BadToken("signature") from error
    if claimed.issuer != issuer or audience not in claimed.audiences:
        raise BadToken("issuer or audience")
    end = _instant(claimed.claims, "exp")
    if end is None or end + LEEWAY <= now:
        raise BadToken("expired")
    for name in ("nbf", "iat"):
        begin = _instant(claimed.claims, name)
        if begin is not None and begin - LEEWAY > now:
            raise BadToken("not valid yet")
    return end


def email_of(claims: Mapping[str, Any], claim: str) -> str:
    """Return the e-mail that a token vouches for. Raises BadToken when there is none, or it is not verified.

    A claim of the organization's own choice is taken as it is: whoever chose it knows what the provider puts there.
    """
    email = claims.get(claim or "email")
    if not isinstance(email, str) or not email or len(email) > 320:
        raise BadToken("no e-mail")
    if claim in ("", "email") and claims.get("email_verified") not in (True, "true"):
        raise BadToken("e-mail not verified")
    return email.lower()


def scopes_of(claims: Mapping[str, Any]) -> frozenset[str]:
    """Return the words that a token's `scope` (RFC 9068), or `scp` as some providers call it, grants."""
    granted = claims.get("scope", claims.get("scp"))
    words = granted.split() if isinstance(granted, str) else granted if isinstance(granted, list) else []
    return frozenset(word for word in words if isinstance(word, str))


def _instant(claims: Mapping[str, Any], name: str) -> datetime | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LATEST:
        raise BadToken(f"{name} is no instant")
    return datetime.fromtimestamp(value, UTC)
