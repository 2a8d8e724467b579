"""Modules that a start does without.

Whoever needs one imports it where it is used, and a process that serves loads them all once it is ready, so that
nobody's first call waits for them.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

from core import collector

LATE = (
    "core.delivery.exchange",  # aiohttp
    "core.domain.workflow.template_reading",  # liquid
    "core.domain.workflow.schema_validator",  # jsonschema
    "email_validator",
    "rapidfuzz.fuzz",
    "holidays",
    "core.domain.webhooks.client_certificates",  # cryptography.x509
    "jwt",
    "mcp_server.app",
)
"""What is loaded after the start, in this order; a test holds that importing the core loads none of it."""


def load(name: str) -> ModuleType:
    """Return a module; the collector rests while it is loaded."""
    if name in sys.modules:
        return importlib.import_module(name)
    with collector.resting():
        return importlib.import_module(name)
