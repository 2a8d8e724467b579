"""What others' checks are run by: Node and the checks themselves, as `make conformance` has installed them."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio

HOME = Path(__file__).parents[2] / ".venv-conformance"
NODE = HOME / "bin" / "node"
PACKAGES = HOME / "node_modules"
SUITE = PACKAGES / "@modelcontextprotocol" / "conformance"
PROGRAMS = PACKAGES / ".bin"
LONGEST = 240.0
"""Seconds for one run of a check."""


@dataclass(frozen=True, slots=True)
class Ran:
    """What a check ended with."""

    ok: bool
    out: str
    """What it said to whoever reads it."""
    said: str
    """All that it said."""

    @property
    def last(self) -> str:
        """Return the last line that it said."""
        return next((line.strip() for line in reversed(self.said.splitlines()) if line.strip()), "nothing")

    def answer(self) -> dict[str, Any]:
        """Return what it said as JSON; nothing where it said none."""
        told: dict[str, Any] = json.loads(self.out or "{}")
        return told


async def ran(command: Sequence[str], folder: Path | None = None, environment: Mapping[str, str] | None = None) -> Ran:
    """Run a check in a folder until it ends."""
    path = f"{HOME / 'bin'}{os.pathsep}{os.environ['PATH']}"
    known = {**os.environ, "PATH": path, "no_proxy": "*", **(environment or {})}
    with anyio.fail_after(LONGEST):
        ended = await anyio.run_process(command, check=False, cwd=folder, env=known)
    out, err = ended.stdout.decode(), ended.stderr.decode()
    return Ran(ended.returncode == 0, out, out + err)


def suite(*arguments: str) -> list[str]:
    """Return the command that runs the suite."""
    return [str(NODE), str(SUITE / "dist" / "index.js"), *arguments]


def inspector(*arguments: str) -> list[str]:
    """Return the command that runs the inspector."""
    return [str(NODE), str(PROGRAMS / "mcp-inspector"), "--cli", *arguments]


def bundler(*arguments: str) -> list[str]:
    """Return the command that opens bundles and checks their manifests."""
    return [str(NODE), str(PROGRAMS / "mcpb"), *arguments]


def skills(*arguments: str) -> list[str]:
    """Return the command that installs skills."""
    return [str(NODE), str(PROGRAMS / "skills"), *arguments]


def linter(*arguments: str) -> list[str]:
    """Return the command that checks manifests, skills and the entry for directories against their schemas."""
    return [str(HOME / "bin" / "skillsaw"), *arguments]


def version(package: str) -> str:
    """Return the version of a package for Node."""
    told = json.loads((PACKAGES / package / "package.json").read_text())
    return str(told["version"])


def linter_version() -> str:
    """Return the version of the linter."""
    return subprocess.run(linter("--version"), capture_output=True, text=True, check=True).stdout.split()[-1]


def node_version() -> str:
    """Return the version of Node."""
    return subprocess.run([str(NODE), "--version"], capture_output=True, text=True, check=True).stdout.strip()
