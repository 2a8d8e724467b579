"""What a deployment decides, in one frozen value."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from core.domain.frozen import frozen

ROLES = ("grpc", "http", "engine", "dispatcher", "scheduler")
"""Every role of a process; one process may have them all."""


@frozen
class Settings:
    """One deployment."""

    database_url: str
    data_dir: Path
    roles: frozenset[str] = frozenset(ROLES)
    grpc_listen: str = "127.0.0.1:7443"
    http_listen: str = "127.0.0.1:7480"
    tls_certificate: Path | None = None
    """PEM chain for both listeners."""
    tls_key: Path | None = None
    insecure: bool = False
    """Allow plaintext on an address that others can reach."""
    allowed_destinations: tuple[IPv4Network | IPv6Network, ...] = ()
    """Networks that tenants' webhooks may reach although the address table forbids them."""
    allowed_hosts: tuple[str, ...] = ()
    """Host headers under which MCP is served beside the loopback's; `*` for any."""
    mcp_toolsets: tuple[str, ...] = ()
    """The only toolsets of tools that MCP serves; empty for all."""
    mcp_read_only: bool = False
    """MCP serves only tools that read, whatever address, key or header comes."""
    token_audiences: tuple[str, ...] = ()
    """What identity providers' tokens for MCP may be made for, beside the address of `/mcp` itself."""
    smtp_url: str = ""
    """Server that e-mail leaves by, `smtp://user:password@host:587` or `smtps://…`; empty for none."""
    mail_from: str = ""
    """Sender of e-mail, such as `Acme <hello@acme.example>`."""
    unsubscribe_address: str = ""
    """E-mail address to which people may write to unsubscribe, for whoever reads it; empty for none."""
    public_url: str = ""
    """Under which people reach this deployment, for links in messages; empty for where HTTP is listened on."""
    master_key_file: Path | None = None
    """File of the keys that credentials are sealed under; none for one in the data directory."""
    keep_webhooks_days: int = 30
    """Days that messages, deliveries and attempts of webhooks are kept; 0 for ever, here and below."""
    keep_events_days: int = 90
    keep_traces_days: int = 365
    """Days that the traces of enrollments which are over are kept."""
    keep_audit_days: int = 0
    requests_per_second: float = 500.0
    """Limit of one API key; bursts of twice as many pass."""
    drain_seconds: float = 20.0

    @property
    def links_url(self) -> str:
        """Return under which people reach the pages of this deployment, as far as settings tell."""
        return self.public_url or f"{'https' if self.tls_certificate else 'http'}://{self.http_listen}"
