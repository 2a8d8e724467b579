"""An OpenID Connect provider for tests: real keys, real signatures, discovery and a key set over HTTP."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from tests.receiver import Receiver

AUDIENCE = "dripstone-of-acme"
DISCOVERY = "/.well-known/openid-configuration"


def new_key(algorithm: str) -> Any:
    """Make a private key of an algorithm."""
    match algorithm:
        case "ES256":
            return ec.generate_private_key(ec.SECP256R1())
        case "EdDSA":
            return ed25519.Ed25519PrivateKey.generate()
        case _:
            return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def public_jwk(algorithm: str, key: Any, key_id: str) -> dict[str, Any]:
    """Return the public half of a key as a key set has it."""
    family = {"ES256": jwt.algorithms.ECAlgorithm, "EdDSA": jwt.algorithms.OKPAlgorithm}
    made = family.get(algorithm, jwt.algorithms.RSAAlgorithm).to_jwk(key.public_key(), as_dict=True)
    return {**made, "kid": key_id, "use": "sig", "alg": algorithm}


def public_pem(key: Any) -> bytes:
    """Return the public half of a key as a file has it."""
    return bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def claims(issuer: str, now: datetime, **other: Any) -> dict[str, Any]:
    """Return what a token of Ada says; None leaves a claim out."""
    said = {
        "iss": issuer,
        "aud": AUDIENCE,
        "sub": "ada-1",
        "email": "ada@example.com",
        "email_verified": True,
        "iat": int(now.timestamp()),
        "exp": int((now + timedelta(minutes=10)).timestamp()),
        **other,
    }
    return {name: value for name, value in said.items() if value is not None}


@dataclass
class Provider:
    """The provider: what it publishes, and how often it was asked."""

    receiver: Receiver
    keys: dict[str, tuple[str, Any]] = field(default_factory=dict)
    """Algorithm and private key by key id; the public halves are published."""
    asked: list[str] = field(default_factory=list)
    is_down: bool = False
    issuer_it_says: str = ""
    """What discovery calls itself; empty for the truth."""

    @property
    def issuer(self) -> str:
        """Who it is in its tokens."""
        return f"{self.receiver.base}/acme"

    def serve(self) -> None:
        """Answer discovery and the key set."""
        self.receiver.answers["/acme" + DISCOVERY] = self._discovery
        self.receiver.answers["/keys"] = self._key_set

    def rotate(self, key_id: str, algorithm: str = "ES256") -> None:
        """Begin to sign with a new key."""
        self.keys[key_id] = (algorithm, new_key(algorithm))

    def token(self, now: datetime, key_id: str, *, header: dict[str, Any] | None = None, **other: Any) -> str:
        """Sign a token of Ada with one of its keys."""
        algorithm, key = self.keys[key_id]
        return jwt.encode(claims(self.issuer, now, **other), key, algorithm, {"kid": key_id, **(header or {})})

    async def _discovery(self, request: web.Request) -> web.StreamResponse:
        said = {"issuer": self.issuer_it_says or self.issuer, "jwks_uri": f"{self.receiver.base}/keys"}
        return self._answer(request, said)

    async def _key_set(self, request: web.Request) -> web.StreamResponse:
        listed = [public_jwk(algorithm, key, key_id) for key_id, (algorithm, key) in self.keys.items()]
        return self._answer(request, {"keys": listed})

    def _answer(self, request: web.Request, said: dict[str, Any]) -> web.StreamResponse:
        self.asked.append(request.path)
        if self.is_down:
            return web.Response(status=503)
        return web.Response(body=json.dumps(said).encode(), content_type="application/json")
