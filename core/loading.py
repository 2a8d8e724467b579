"""Modules that a start does without.

Whoever needs one imports it where it is used, and a process that serves loads them all once it is ready, so that
nobody's first call waits for them.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from types import ModuleType

import structlog

from core import collector

_log = structlog.get_logger()

_MCP = "mcp_server.app"
"""Loaded by the endpoint of a process that serves HTTP; no other needs it."""

LATE = (
    "core.delivery.exchange",  # aiohttp
    "core.domain.workflow.template_reading",  # liquid
    "core.domain.workflow.schema_validator",  # jsonschema
    "email_validator",
    "rapidfuzz.fuzz",
    "holidays",
    "core.domain.webhooks.client_certificates",  # cryptography.x509
    "jwt",
    _MCP,
)
"""What is loaded after the start, in this order; a test holds that importing the core loads none of it."""


def load(name: str) -> ModuleType:
    """Return a module; the collector rests while it is loaded."""
    if name in sys.modules:
        return importlib.import_module(name)
    with collector.resting():
        return importlib.import_module(name)


async def load_late(ending: asyncio.Event) -> None:
    """Load what the start did without, until the process ends; one that cannot be loaded stops no other."""
    for name in LATE:
        if ending.is_set():
            return
        if name == _MCP:
            continue
        try:
            await asyncio.to_thread(load, name)
        except Exception:
            _log.exception("a module cannot be loaded", module=name)
