"""Builds the MCP bundle: one file that desktop programs install, with the sources and a manifest beside them.

Run as `make bundle`. The same sources always give the same bytes, so that a digest says what is inside.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "proto" / "gen")]

_FOLDERS = ("core", "mcp_server", "proto/gen", "skills")
_FILES = ("pyproject.toml", "README.md", "LICENSE")
_SUFFIXES = {".py", ".pyi", ".typed", ".yaml", ".json", ".md", ".html", ".mako", ".sql", ".txt", ".csv"}
_ENTRY = "server.py"
_EPOCH = (1980, 1, 1, 0, 0, 0)
_ONLY_WHAT_RUNS = b"\n[tool.uv]\ndefault-groups = []\n"
"""Added to the bundle's project file: whoever installs a bundle does not want the tools of those who write it."""


def manifest() -> dict[str, Any]:
    """Return the bundle's manifest: how a program runs it, what it asks its user, which tools there are."""
    from mcp_server.server import served_tools

    project = _described()["project"]
    return {
        "manifest_version": "0.4",
        "name": project["name"],
        "display_name": "Dripstone",
        "version": project["version"],
        "description": "Qualify leads, enroll contacts, update records and execute workflows.",
        "long_description": "Connects to a running Dripstone core, or starts one on this machine when there is none.",
        "author": {"name": "Dripstone"},
        "license": project["license"],
        "server": {
            "type": "uv",
            "entry_point": _ENTRY,
            "mcp_config": {
                "command": "uv",
                "args": ["run", "--directory", "${__dirname}", _ENTRY],
                "env": {
                    "DRIPSTONE_TARGET": "${user_config.target}",
                    "DRIPSTONE_AGENT_KEY": "${user_config.api_key}",
                    "DRIPSTONE_DATA_DIR": "${user_config.data_dir}",
                    "DRIPSTONE_MCP_READ_ONLY": "${user_config.read_only}",
                },
            },
        },
        "tools": [
            {"name": tool.name, "description": (tool.function.__doc__ or tool.title).partition("\n")[0]}
            for tool in served_tools()
        ],
        "prompts_generated": True,
        "compatibility": {"platforms": ["darwin", "linux"], "runtimes": {"python": project["requires-python"]}},
        "user_config": {
            "target": {
                "type": "string",
                "title": "Core",
                "description": "gRPC address of a core, such as 127.0.0.1:7443; empty for one on this machine.",
                "required": False,
                "default": "",
            },
            "api_key": {
                "type": "string",
                "title": "API key",
                "description": "Of an agent of your organization; empty for that of the core on this machine.",
                "sensitive": True,
                "required": False,
                "default": "",
            },
            "data_dir": {
                "type": "directory",
                "title": "Data folder",
                "description": "Where the core on this machine keeps its files: of one that runs, its own .dripstone.",
                "required": False,
                "default": "${HOME}/.dripstone",
            },
            "read_only": {
                "type": "boolean",
                "title": "Only read",
                "description": "Leave out every tool that changes something.",
                "required": False,
                "default": False,
            },
        },
    }


def contents() -> Iterator[tuple[str, bytes]]:
    """Yield what is in the bundle, by path: the manifest, then all else in the order of the paths."""
    yield "manifest.json", (json.dumps(manifest(), indent=2) + "\n").encode()
    found = {name: ROOT / name for name in _FILES} | {_ENTRY: ROOT / "bundle" / _ENTRY}
    for folder in _FOLDERS:
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in _SUFFIXES and path.is_file():
                found[path.relative_to(ROOT).as_posix()] = path
    for name in sorted(found.keys() - _described()["tool"]["hatch"]["build"]["targets"]["wheel"]["exclude"]):
        yield name, found[name].read_bytes() + (_ONLY_WHAT_RUNS if name == "pyproject.toml" else b"")


def build(into: Path) -> Path:
    """Write the bundle into a folder and return its path."""
    into.mkdir(parents=True, exist_ok=True)
    path = into / f"dripstone-{_described()['project']['version']}.mcpb"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, data in contents():
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            bundle.writestr(entry, data)
    return path


def _described() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


if __name__ == "__main__":
    made = build(ROOT / "dist")
    sys.stdout.write(f"{hashlib.sha256(made.read_bytes()).hexdigest()}  {made.relative_to(ROOT)}\n")
