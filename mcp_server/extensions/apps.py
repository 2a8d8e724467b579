"""MCP Apps (SEP-1865): the card on which a person sees what waits for a decision, and decides.

It is a page without an address: it loads nothing and asks nobody but its host, which calls `decide-approval` under the
key of the connection. Who may not decide cannot do so by the card either. The text of `list-approvals` says as much.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from mcp.server.apps import Apps, ResourceCsp

APPROVAL_CARD = "ui://dripstone/approval"
"""Where clients read the card."""


def approval_card() -> Apps:
    """Return the extension that serves the card."""
    apps = Apps()
    apps.add_html_resource(
        APPROVAL_CARD,
        _page(),
        name="approval-card",
        title="Approvals",
        description="What waits for a decision: what changes, who asks, and buttons to decide.",
        csp=ResourceCsp(connect_domains=[], resource_domains=[], frame_domains=[], base_uri_domains=[]),
        prefers_border=True,
    )
    return apps


@cache
def _page() -> str:
    return Path(__file__).with_name("approval_card.html").read_text(encoding="utf-8")
