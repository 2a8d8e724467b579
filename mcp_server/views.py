"""Views: how much of the server an address shows. A view narrows what a key may do there, and never widens it.

`/mcp` shows everything; after it come, in any order and each at most once: `o/{organization}`, `x/{toolsets}`,
`read-only`, `interactive`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

ROOT = "/mcp"
TOOLSET_NAMES = ("read", "operate", "author", "approve")
"""Every toolset, for who must not wait until the tools are loaded."""

READ_ONLY, INTERACTIVE, TOOLSETS, ORGANIZATION = "read-only", "interactive", "x", "o"

_LONGEST = 300
_ORGANIZATION = re.compile(r"[A-Za-z0-9_-]{1,64}")


class NoSuchView(Exception):
    """An address names a view that there is not; the message says what there is."""


@dataclass(frozen=True, slots=True)
class View:
    """What one address shows."""

    toolsets: frozenset[str] = frozenset()
    """Empty for all."""
    read_only: bool = False
    organization: str = ""
    """Whose keys are admitted; empty for anybody's."""
    interactive: bool = False
    """Answers come as a stream: with progress, and with questions to clients of the handshake era."""

    def shows(self, toolset: str, *, reads: bool) -> bool:
        """Tell whether a tool of a toolset is there, which reads or writes."""
        return (reads or not self.read_only) and (not self.toolsets or toolset in self.toolsets)

    @property
    def resource(self) -> str:
        """Return the path that tokens are made for: what only narrows is the same resource."""
        return f"{ROOT}/{ORGANIZATION}/{self.organization}" if self.organization else ROOT

    @property
    def path(self) -> str:
        """Return the address, in the one order in which it is told."""
        narrower = f"/{TOOLSETS}/{','.join(sorted(self.toolsets))}" if self.toolsets else ""
        ways = (READ_ONLY if self.read_only else "", INTERACTIVE if self.interactive else "")
        return self.resource + narrower + "".join(f"/{way}" for way in ways if way)


WHOLE = View()


@lru_cache(maxsize=256)  # asked for every request, and few are asked for
def view_of(path: str, toolsets: tuple[str, ...] | frozenset[str]) -> View:
    """Return the view that a path below `/mcp` names, of a server with these toolsets. Raises NoSuchView."""
    parts = [part for part in path[: _LONGEST + 1].split("/") if part]
    given: dict[str, str] = {}
    while parts and len(path) <= _LONGEST:
        part = parts.pop(0)
        takes = part in (TOOLSETS, ORGANIZATION)
        if part in given or part not in (READ_ONLY, INTERACTIVE, TOOLSETS, ORGANIZATION) or (takes and not parts):
            parts = [part]
            break
        given[part] = parts.pop(0) if takes else part
    if parts or not _ORGANIZATION.fullmatch(given.get(ORGANIZATION, "org")):
        raise NoSuchView(
            f"There is {ROOT}, and after it, each at most once: /{ORGANIZATION}/{{organization id}}, "
            f"/{TOOLSETS}/{{toolset}}, /{READ_ONLY}, /{INTERACTIVE}."
        )
    wanted = frozenset(given[TOOLSETS].split(",")) if TOOLSETS in given else frozenset()
    if wanted - set(toolsets):
        served = ", ".join(name for name in TOOLSET_NAMES if name in toolsets)
        raise NoSuchView(f"The toolsets served here are {served}; separate several with commas.")
    return View(wanted, READ_ONLY in given, given.get(ORGANIZATION, ""), INTERACTIVE in given)
