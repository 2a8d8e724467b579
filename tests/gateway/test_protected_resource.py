"""MCP clients are told who issues tokens, of the organization in the address alone; replicas share keys for state."""

from __future__ import annotations

import base64
from pathlib import Path

import httpx2
import pytest
from starlette.applications import Starlette

from core.gateway.mcp_endpoint import McpEndpoint, state_keys
from core.gateway.protected_resource import protected_resource
from core.provisioning import create_organization
from core.store.database import Database
from core.store.organizations import identity_providers
from core.store.systems.master_keys import MasterKeys

WELL_KNOWN = "/.well-known/oauth-protected-resource"
ISSUERS = ("https://login.example.com/acme", "https://login.example.com/other")


@pytest.mark.anyio
async def test_an_issuer_is_told_to_whom_it_concerns(database: Database) -> None:
    mcp = McpEndpoint("127.0.0.1:1")
    mcp.base_url = "https://crm.example.com"
    app = Starlette(routes=protected_resource(database, mcp))
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:

        async def servers(path: str) -> list[str]:
            answer = await http.get(WELL_KNOWN + path)
            assert answer.headers["access-control-allow-origin"] == "*"
            return list(answer.json().get("authorization_servers", []))

        organizations = []
        for issuer in ISSUERS:
            org_id = (await create_organization(database, "Acme")).org_id
            organizations.append(org_id)
            assert await servers("/mcp") == [], "one without a provider must not be sent to that of another"
            async with database.write(org_id) as tx:
                await identity_providers.put(tx, issuer, "https://crm.example.com/mcp", "", "")
            assert await servers(f"/mcp/o/{org_id}/read-only") == [issuer]
            assert await servers("/mcp") == ([issuer] if len(organizations) == 1 else [])
        assert await servers("/mcp/o/org_nobody") == []
        async with database.write(organizations[1]) as tx:
            await identity_providers.put(tx, ISSUERS[0], "https://crm.example.com/mcp/o/other", "", "")
        assert await servers("/mcp") == [ISSUERS[0]], "what all have"
        told = (await http.get(f"{WELL_KNOWN}/mcp/o/{organizations[0]}/interactive")).json()
        assert told["resource"] == f"https://crm.example.com/mcp/o/{organizations[0]}"
        assert "records:read" in told["scopes_supported"]
        assert "keys:admin" not in told["scopes_supported"]
        assert (await http.get(f"{WELL_KNOWN}/mcp/x/admin")).status_code == 404


def test_keys_for_state_follow_from_the_master_keys_and_make_none(tmp_path: Path) -> None:
    file = tmp_path / "master.key"
    masters = MasterKeys(file)
    assert state_keys(None) == state_keys(masters) == ()
    assert not file.exists()
    file.write_text(base64.b64encode(b"1" * 32).decode() + "\n")
    (first,) = state_keys(masters)
    assert len(first) == 32
    assert state_keys(MasterKeys(file, may_make=False)) == (first,)
    masters.rotate()
    newer, older = state_keys(MasterKeys(file))
    assert older == first != newer
