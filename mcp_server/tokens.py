"""MCP as a resource server of OAuth 2.1: what it says about itself, and which tokens were made for it.

A token is proved by the core alone: signature, issuer, time, member. Here it is only read, to turn away one that the
same issuer made for something else (RFC 8707), before it is used at all. It goes to the core, which is the same
resource behind the same door, and nowhere else.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Collection, Sequence
from typing import Any

from mcp_server.views import View

METADATA_PATH = "/.well-known/oauth-protected-resource"

_LONGEST = 16_384


def is_token(secret: str) -> bool:
    """Tell whether a credential has a token's form; API keys have not."""
    return secret.count(".") == 2


def is_made_for(token: str, accepted: Collection[str]) -> bool:
    """Tell whether a token names one of these audiences."""
    if len(token) > _LONGEST:
        return False
    body = token.split(".")[1]
    try:
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        named = claims.get("aud")
    except (ValueError, binascii.Error, AttributeError, RecursionError):
        return False
    given = [named] if isinstance(named, str) else named if isinstance(named, list) else []
    return any(isinstance(one, str) and one.removesuffix("/") in accepted for one in given)


def audiences(base_url: str, view: View, others: Collection[str] = ()) -> frozenset[str]:
    """Return what a token for a view may name: its resource, the whole server's, and what the deployment adds."""
    own = {base_url + view.resource, base_url + View().resource} if base_url else set()
    return frozenset(own | {other.removesuffix("/") for other in others})


def metadata(base_url: str, view: View, issuers: Sequence[str], scopes: Collection[str]) -> dict[str, Any]:
    """Return what clients are told of a view's resource (RFC 9728)."""
    told = {
        "resource": base_url + view.resource,
        "resource_name": "Dripstone",
        "bearer_methods_supported": ["header"],
        "scopes_supported": sorted(scopes),
    }
    return told | ({"authorization_servers": list(issuers)} if issuers else {})


def challenge(base_url: str, view: View, error: str = "", description: str = "", scope: str = "") -> str:
    """Return the `WWW-Authenticate` of a refusal; `error` is empty where no credential was sent at all."""
    said = {
        "realm": "dripstone",
        "error": error,
        "error_description": description,
        "scope": scope,
        "resource_metadata": base_url and base_url + METADATA_PATH + view.resource,
    }
    return "Bearer " + ", ".join(f'{name}="{value}"' for name, value in said.items() if value)
