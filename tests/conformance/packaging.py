"""Others' checks of what programs and directories install: the bundle, the skills, the manifests, and the wheel."""

from __future__ import annotations

import json
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

from bundle import build
from mcp_server import skill_pack
from skills import generate
from tests.conformance import installed
from tests.conformance.report import Inspection
from tests.conformance.serving import Served

ROOT = Path(__file__).parents[2]


async def inspected(at: Served, home: Path) -> list[Inspection]:
    """Build what is handed out, put it where others look, and return what they say."""
    made = build.build(home / "bundle")
    repository = _repository(home / "repository")
    return [
        *await _bundle(at, made, home / "unpacked"),
        await _skills("the repository", str(repository), home / "from-folder"),
        await _skills("a running core", at.own.removesuffix("/mcp"), home / "from-core"),
        await _linted("the entry for directories", _directory(home / "directory")),
        await _linted("plugin, manifests and skills", repository),
        await _wheel(home / "wheel"),
    ]


async def _bundle(at: Served, bundle: Path, unpacked: Path) -> list[Inspection]:
    opened = await installed.ran(installed.bundler("unpack", str(bundle), str(unpacked)))
    valid = await installed.ran(installed.bundler("validate", str(unpacked / "manifest.json")))
    # Run by this Python, with the packages that are here: what uv would install is the wheel's requirements.
    run = (sys.executable, str(unpacked / "server.py"), "-e", f"DRIPSTONE_TARGET={at.target}")
    asked = ("--protocol-era", "modern", "--method", "tools/list", "--strict", "--format", "json", "-q")
    listed = await installed.ran(installed.inspector(*run, "-e", f"DRIPSTONE_AGENT_KEY={at.key}", *asked))
    told = listed.answer()
    tools = {tool["name"] for tool in told.get("result", told).get("tools", ())}
    named = {tool["name"] for tool in json.loads((unpacked / "manifest.json").read_text())["tools"]}
    return [
        Inspection("mcpb unpack, mcpb validate", "the bundle", valid.last, opened.ok and valid.ok),
        Inspection(
            "mcp-inspector --strict",
            "the bundle, unpacked and run",
            f"{len(tools)} tools, {'' if tools == named else 'not '}those that its manifest names",
            listed.ok and tools == named,
        ),
    ]


async def _skills(against: str, source: str, project: Path) -> Inspection:
    asked = ("add", source, "--agent", "claude-code", "--copy", "-y")
    environment = {"HOME": str(project), "DISABLE_TELEMETRY": "1"}
    done = await installed.ran(installed.skills(*asked), _made(project), environment)
    return _compared("npx skills add", against, project / ".claude" / "skills", done.ok)


def _compared(asked: str, against: str, folder: Path, done: bool) -> Inspection:
    pack = skill_pack.pack()
    there = {one.name: dict(skill_pack.files_in(one)) for one in folder.iterdir()} if folder.is_dir() else {}
    same = there == {skill.name: dict(skill.files) for skill in pack.values()}
    said = f"{len(there)} skills, {'' if same else 'not '}byte for byte ours"
    return Inspection(asked, against, said, done and same)


async def _linted(against: str, folder: Path) -> Inspection:
    linted = await installed.ran(installed.linter("lint", "--strict", "--format", "json", str(folder)))
    said: dict[str, Any] = linted.answer()
    found, kinds = said.get("summary", {}), ", ".join(said.get("stats", {}).get("repo_types", ()))
    told = f"errors: {found.get('errors')}, warnings: {found.get('warnings')}; taken for {kinds}"
    return Inspection("skillsaw lint --strict", against, told, linted.ok and bool(kinds))


async def _wheel(folder: Path) -> Inspection:
    """Build the wheel, and install its skills with its modules alone, before the repository's."""
    asked = ("-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT))
    built = await installed.ran((sys.executable, *asked))
    site = _unpacked(folder)
    listed = (sys.executable, "-m", "core", "skills", "install", "--to", str(folder / "skills"))
    done = await installed.ran(listed, folder, {"PYTHONPATH": str(site)})
    return _compared("dripstone skills install", "the wheel", folder / "skills", built.ok and done.ok)


def _unpacked(folder: Path) -> Path:
    """Unpack the wheels of a folder."""
    for wheel in folder.glob("*.whl"):
        zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder / "site"


def _repository(folder: Path) -> Path:
    """Copy what clients read of the repository, and nothing that a checkout has beside it."""
    shutil.copytree(ROOT / "skills", folder / "skills", ignore=shutil.ignore_patterns("__pycache__"))
    for name in (*generate.manifests(""), "README.md"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder


def _directory(folder: Path) -> Path:
    shutil.copy(ROOT / "server.json", _made(folder))
    return folder


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
