"""The routes that tell MCP clients who issues tokens for this server (RFC 9728).

The issuer is that of the organization in the address. An address without one has an issuer only where every
organization of the deployment has the same: no organization may send the members of others to its own provider, and
which other providers there are is nobody's business.
"""

from __future__ import annotations

import json

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from core.domain.control.scopes import AGENT_SCOPES
from core.gateway.mcp_endpoint import McpEndpoint
from core.store.database import Database
from core.store.organizations import identity_providers
from core.store.transaction import EVERY_ORGANIZATION
from mcp_server import tokens
from mcp_server.views import ROOT, TOOLSET_NAMES, NoSuchView, view_of

_KEPT_SECONDS = 300


def protected_resource(database: Database, mcp: McpEndpoint) -> list[Route]:
    """Return the routes, for every address under which MCP is served."""

    async def told(request: Request) -> Response:
        headers = {"access-control-allow-origin": "*"}
        try:
            view = view_of(request.path_params.get("view", ""), TOOLSET_NAMES)
        except NoSuchView as error:
            body = {"error": "not_found", "error_description": str(error)}
            return Response(json.dumps(body), 404, headers, "application/json")
        async with database.read(EVERY_ORGANIZATION) as tx:
            if view.organization:
                issuer = await identity_providers.issuer_of(tx, view.organization)
            else:
                issuer = await identity_providers.issuer_of_all(tx)
        metadata = tokens.metadata(mcp.base_url, view, [issuer] if issuer else (), AGENT_SCOPES)
        headers["cache-control"] = f"public, max-age={_KEPT_SECONDS}"
        return Response(json.dumps(metadata), 200, headers, "application/json")

    below = ("", ROOT, ROOT + "/{view:path}")
    return [Route(tokens.METADATA_PATH + path, told, methods=["GET"]) for path in below]
