"""The route with the public keys of endpoints, for receivers that verify `v1a` signatures: a JWK Set (RFC 7517).

Anybody may ask, so an answer has few rows, of nothing but what is public, and may be kept by whoever stands between.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from core.domain.webhooks import signing
from core.store.database import Database
from core.store.webhooks import endpoints

MOST_KEYS = 500
"""Keys in one answer; `?kid=` asks for one by the endpoint's id, the Link header leads to those that follow."""

PATH = "/.well-known/webhook-keys.json"

_ENDPOINT_ID = re.compile(r"ep_[0-9a-z]{26}")
_KEPT_SECONDS = 300


def webhook_keys(database: Database) -> Route:
    """Return the route; it tells nothing of an endpoint but its id and its key."""

    async def keys(request: Request) -> Response:
        only, after = request.query_params.get("kid", ""), request.query_params.get("after", "")
        rows: Sequence[Row[Any]] = ()
        if all(not given or _ENDPOINT_ID.fullmatch(given) for given in (only, after)):
            async with database.system() as tx:
                rows = await endpoints.public_keys(tx, MOST_KEYS + 1, only=only, after=after)
        shown, more = rows[:MOST_KEYS], rows[MOST_KEYS:]
        body = json.dumps({"keys": [_jwk(row.id, row.public_key) for row in shown]}, separators=(",", ":")).encode()
        headers = {
            "cache-control": f"public, max-age={_KEPT_SECONDS}",
            "access-control-allow-origin": "*",
            "etag": f'"{hashlib.sha256(body).hexdigest()[:32]}"',
        }
        if more:
            headers["link"] = f'<{PATH}?after={shown[-1].id}>; rel="next"'
        if _knows(request.headers.get("if-none-match", ""), headers["etag"]):
            return Response(status_code=304, headers=headers)
        return Response(body, headers=headers, media_type="application/jwk-set+json")

    return Route(PATH, keys, methods=["GET"])


def _knows(condition: str, etag: str) -> bool:
    """Tell whether `If-None-Match` names this version (RFC 9110, 13.1.2: weakly compared)."""
    return etag in [one.strip().removeprefix("W/") for one in condition.split(",")] or condition.strip() == "*"


def _jwk(endpoint_id: str, public_key: str) -> dict[str, str]:
    """Return an ed25519 key as RFC 8037 writes it."""
    raw = base64.b64decode(public_key.removeprefix(signing.PUBLIC_PREFIX))
    public = base64.urlsafe_b64encode(raw).decode().rstrip("=")
    return {"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": endpoint_id, "x": public}
