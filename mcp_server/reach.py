"""Which tools a caller does not have where it came, and why: nothing that it is told to do next names one of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextvars import ContextVar
from functools import lru_cache

_hidden: ContextVar[Mapping[str, str]] = ContextVar("hidden_tools", default={})  # noqa: B039  never changed
"""Why each tool is not there for the caller of this request, as a clause about a call of it."""

_WORDS = re.compile(r"[a-z]+")
"""Names of tools that are words as well: they name the tool only before what is to be done with it."""


def enter(hidden: Mapping[str, str]) -> None:
    """Say which tools are not there for the rest of this request, and why."""
    _hidden.set(hidden)


def missing(tool: str) -> str:
    """Return why a tool is not there for the caller; empty where it is."""
    return _hidden.get().get(tool, "")


def kept(text: str) -> str:
    """Return what is to be done next, cut before the first call of a tool that is not there, with what it takes."""
    hidden = _hidden.get()
    found = _calls(tuple(hidden)).search(text) if hidden and text else None
    if found is None:
        return text
    before = re.sub(r"[\s,;:]+(?:then|to see [^,;:.]*)?[\s,;:]*$", "", text[: found.start()])
    return f"{before or 'Tell the person'}: the next call {hidden[found[1]]}."


@lru_cache(maxsize=256)
def _calls(tools: tuple[str, ...]) -> re.Pattern[str]:
    named = [f"{tool}(?= [{{]| contact | with )" if _WORDS.fullmatch(tool) else tool for tool in tools]
    return re.compile(rf"(?<![\w-])({'|'.join(sorted(named, key=len, reverse=True))})(?![\w-])")
