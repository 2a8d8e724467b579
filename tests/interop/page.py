"""docs/interop.md: which frameworks played the story, over what, and which revision of the protocol they spoke."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "interop.md"

_TOP = """\
# Clients that were tried

Written by `make interop`; do not edit. Each row is a process in an environment of its own, with the pinned packages of
`tests/interop/`, against a fresh `dripstone serve` on SQLite. No model is asked: where a framework has agents, the
model is a script that makes the next call of the story, from the text of the answers alone, as models do. The clients
reach nothing but this machine.

The story: list workflows; qualify a lead, as a preview and as a commit that must wait for approval; as **another
principal**, list approvals, look at the decision and approve it; commit the qualification; update the contact with the
version that was read; enroll it, preview and commit; execute a workflow and watch it to its end. Afterwards the
records, the enrollment and the execution are compared over gRPC with what they must be.

The other principal's agent decides without its person, because the story sets a policy that trusts its key: for
`ApprovalService.DecideApproval`, where `principal.role == "approver"`, the effect is `allow`. Without such a policy a
decision is a person's, whom the client has to ask in a form; where it cannot, the answer is `PERSON_REQUIRED`.

HTTP is `/mcp` (plain JSON), `HTTP, streams` is `/mcp/interactive`, stdio is `dripstone mcp`, which finds the running
core. Where a client lets its user choose the era of the protocol, both are tried.

"""
_COLUMNS = ("client", "versions", "transport", "era", "revision agreed on", "calls", "result")
_HEAD = f"| {' | '.join(_COLUMNS)} |\n|---|---|---|---|---|---:|---|\n"


@dataclass(frozen=True, slots=True)
class Row:
    """One client over one transport in one era."""

    name: str
    versions: dict[str, str]
    mode: str
    """What its user chose; empty where it chooses by itself."""
    transport: str
    told: dict[str, Any]

    @property
    def failed(self) -> str:
        """Return why it failed; empty when it did not."""
        return str(self.told.get("failed", ""))

    def line(self) -> str:
        """Return it for a terminal."""
        head = f"{self.name}, {self.mode or 'its own era'}, {self.transport}: "
        if self.failed:
            return f"{head}FAILED\n{self.failed}"
        told = self.told
        return f"{head}{told['calls']} calls, {told['protocol'] or 'revision not told'}, {told['seconds']} s"

    def cells(self) -> tuple[str, ...]:
        """Return it for the page."""
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        agreed, calls = (self.told.get(part, "") for part in ("protocol", "calls"))
        return (
            self.name, versions, self.transport, self.mode or "its own", agreed or "not told", str(calls),
            "failed" if self.failed else "complete",
        )  # fmt: skip


def written(rows: list[Row]) -> str:
    """Return the page."""
    table = "".join(f"| {' | '.join(row.cells())} |\n" for row in rows)
    where = f"{platform.system()}, Python {platform.python_version()}"
    return f"{_TOP}{_HEAD}{table}\nOn {where}. `make interop` does it again; `make interop ARGS=langgraph` tries one.\n"
