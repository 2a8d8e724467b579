"""Handlers of OrganizationService: who vouches for members that come with a bearer token."""

from __future__ import annotations

import re
from typing import Any

from google.protobuf.empty_pb2 import Empty
from sqlalchemy import Row

from core.domain.errors import AlreadyExists, Invalid, NotFound, Violation
from core.domain.webhooks import urls
from core.rpc.admission.granting import refuse_role_beyond
from core.rpc.call import Call
from core.rpc.convert import to_timestamp
from core.store.organizations import identity_providers as store
from dripstone.v1 import organization_pb2 as pb

_RESOURCE = re.compile(r"/mcp/o/([^/?#]*)")
"""In an audience, the organization whose part of the MCP server it names, under whichever base address."""

_CLAIM = re.compile(r"[A-Za-z_][A-Za-z0-9_:./-]{0,99}")


async def set_identity_provider(request: pb.SetIdentityProviderRequest, call: Call) -> pb.IdentityProvider:
    """Let members sign in with a provider's tokens, instead of the one there was.

    Whoever vouches for members can be any of them, so only who could make an admin sets it.
    """
    refuse_role_beyond(call.caller, "admin")
    wanted = request.identity_provider
    destinations = call.parts.webhook_sender.destinations
    violations: list[Violation] = []
    for name in ("issuer", "jwks_uri"):
        if address := getattr(wanted, name):
            try:
                urls.parse(address, destinations, f"identity_provider.{name}")
            except Invalid as error:
                violations += error.violations
    if "?" in wanted.issuer:
        message = "an issuer has no query"
        violations.append(
            Violation("identity_provider.issuer", "URL_HAS_QUERY", message, "Leave out the ? and what follows.")
        )
    named = _RESOURCE.search(wanted.audience)
    if named and named[1] != call.caller.org_id:  # it would stand in that organization's way, or take its tokens
        message = "is the MCP address of another organization"
        hint = f"The address of this one ends in /mcp/o/{call.caller.org_id}."
        violations.append(Violation("identity_provider.audience", "NOT_YOUR_RESOURCE", message, hint))
    if wanted.email_claim and not _CLAIM.fullmatch(wanted.email_claim):
        message = f"`{wanted.email_claim}` is no name of a claim"
        violations.append(Violation("identity_provider.email_claim", "BAD_CLAIM", message, "Leave it out for email."))
    if violations:
        raise Invalid(*violations)
    row = await store.put(call.tx, wanted.issuer, wanted.audience, wanted.jwks_uri, wanted.email_claim)
    if row is None:
        raise AlreadyExists(kind="identity provider with this issuer and audience:", id=wanted.audience)
    return _message(row)


async def get_identity_provider(request: pb.GetIdentityProviderRequest, call: Call) -> pb.IdentityProvider:
    """Return the organization's provider."""
    row = await store.get(call.tx)
    if row is None:
        raise NotFound(kind="identity provider", id="of this organization")
    return _message(row)


async def delete_identity_provider(request: pb.DeleteIdentityProviderRequest, call: Call) -> Empty:
    """End signing in by tokens; keys go on working."""
    if not await store.remove(call.tx):
        raise NotFound(kind="identity provider", id="of this organization")
    return Empty()


def _message(row: Row[Any]) -> pb.IdentityProvider:
    return pb.IdentityProvider(
        issuer=row.issuer,
        audience=row.audience,
        jwks_uri=row.jwks_uri,
        email_claim=row.email_claim,
        create_time=to_timestamp(row.created_at),
    )
