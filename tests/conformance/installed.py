"""What the suites run on: Node, the suite and the inspector, as `make conformance` has installed them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

HOME = Path(__file__).parents[2] / ".venv-conformance"
NODE = HOME / "bin" / "node"
MODULES = HOME / "node_modules" / "@modelcontextprotocol"
SUITE = MODULES / "conformance"
INSPECTOR = HOME / "node_modules" / ".bin" / "mcp-inspector"


def suite(*arguments: str) -> list[str]:
    """Return the command that runs the suite."""
    return [str(NODE), str(SUITE / "dist" / "index.js"), *arguments]


def inspector(*arguments: str) -> list[str]:
    """Return the command that runs the inspector."""
    return [str(NODE), str(INSPECTOR), "--cli", *arguments]


def version(package: str) -> str:
    """Return the version of a package of the protocol's project."""
    told = json.loads((MODULES / package / "package.json").read_text())
    return str(told["version"])


def node_version() -> str:
    """Return the version of Node."""
    return subprocess.run([str(NODE), "--version"], capture_output=True, text=True, check=True).stdout.strip()
