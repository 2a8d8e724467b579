"""Compiling documents in a thread: a big one takes a second of processor time, and the loops go on meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from core.domain.steps.shapes import Lookups
from core.domain.workflow.compile import Compiled, compile_document


async def compiled(
    document: Mapping[str, Any], lookups: Lookups | None = None, *, workflow_id: str = "", number: int = 0
) -> Compiled:
    """Return the version that a document describes, or everything that is wrong with it."""
    return await asyncio.to_thread(compile_document, document, lookups, workflow_id=workflow_id, number=number)
