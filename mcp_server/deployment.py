"""What a deployment decides about its MCP server over HTTP, in one frozen value."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Deployment:
    """How MCP is served over HTTP; whatever restricts, restricts every address, key and header."""

    base_url: str = ""
    """Under which clients reach the server, such as `https://crm.example.com`; empty where nobody has said."""
    allowed_hosts: tuple[str, ...] = ()
    """Host headers to accept beside loopback's and the base URL's; `*` for any."""
    toolsets: tuple[str, ...] = ()
    """The only toolsets that are served; empty for all."""
    read_only: bool = False
    """Only tools that read are served."""
    token_audiences: tuple[str, ...] = ()
    """What tokens of identity providers may be made for, beside the addresses of this server."""
    authorization_servers: tuple[str, ...] = ()
    """Issuers of such tokens that clients are told of, where the host of the endpoint does not tell them itself."""
    state_keys: tuple[bytes, ...] = field(default=(), repr=False)
    """Seal what clients carry from one round of a call to the next; the same on every replica, the first for new."""
