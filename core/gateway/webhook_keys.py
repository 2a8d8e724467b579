"""The route with the public keys of endpoints, for receivers that verify `v1a` signatures: a JWK Set (RFC 7517)."""

from __future__ import annotations

import base64
import re

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from core.domain.webhooks import signing
from core.store import endpoints
from core.store.database import Database

MOST_KEYS = 1_000
"""Keys in one answer; `?kid=` asks for one by the endpoint's id."""

_ENDPOINT_ID = re.compile(r"ep_[0-9a-z]{26}")
_KEPT_SECONDS = 300


def webhook_keys(database: Database) -> Route:
    """Return the route; it tells nothing of an endpoint but its id and its key."""

    async def keys(request: Request) -> Response:
        only = request.query_params.get("kid", "")
        rows = []
        if not only or _ENDPOINT_ID.fullmatch(only):
            async with database.system() as tx:
                rows = list(await endpoints.with_public_keys(tx, MOST_KEYS, only))
        shown = [_jwk(row.id, endpoints.seed_of(row)) for row in rows]
        headers = {"cache-control": f"public, max-age={_KEPT_SECONDS}", "access-control-allow-origin": "*"}
        return JSONResponse({"keys": shown}, headers=headers, media_type="application/jwk-set+json")

    return Route("/.well-known/webhook-keys.json", keys, methods=["GET"])


def _jwk(endpoint_id: str, seed: bytes) -> dict[str, str]:
    """Return an ed25519 key as RFC 8037 writes it."""
    public = base64.urlsafe_b64encode(signing.public_bytes(seed)).decode().rstrip("=")
    return {"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": endpoint_id, "x": public}
