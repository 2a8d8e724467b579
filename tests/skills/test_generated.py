"""What the pack says of the product is what the product gives, and every way to install it brings the same bytes."""

from __future__ import annotations

import importlib.util
import json
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from mcp_server import skill_pack
from tests.skills import written

ROOT = Path(__file__).parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("skills_generate", ROOT / "skills" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_references_passages_scripts_and_manifests_are_fresh(generate: ModuleType) -> None:
    assert generate.stale_files() == []
    assert set(generate.REFERENCES) == set(written.NAMES)


def test_checksums_are_those_of_every_file_and_archive() -> None:
    told = json.loads((written.FOLDER / "checksums.json").read_text())["skills"]
    assert told == {
        skill.name: {"archive": skill.archive_digest, "files": dict(skill.digests)}
        for skill in skill_pack.pack().values()
    }


def manifest(path: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / path).read_text())
    return found


def test_every_manifest_has_the_version_and_name_of_the_product() -> None:
    market = manifest(".claude-plugin/marketplace.json")
    (plugin,) = market["plugins"]
    named = [market, plugin, *map(manifest, (".claude-plugin/plugin.json", "gemini-extension.json", "plugin.json"))]
    assert {one["name"] for one in named} == {"dripstone"}
    assert {one.get("version") or one["metadata"]["version"] for one in named} == {VERSION}
    assert plugin["source"] == "./"
    assert {skill.version for skill in skill_pack.pack().values()} == {VERSION}


def test_the_portable_manifest_has_only_the_fields_of_its_closed_schema() -> None:
    plugin = manifest("plugin.json")
    allowed = {"$schema", "name", "version", "description", "author", "homepage", "repository", "license", "keywords"}
    assert plugin.keys() <= allowed | {"extensions"}
    assert plugin["author"].keys() <= {"name", "email", "url"}
    server = manifest("mcp.json")["mcpServers"]["dripstone"]
    assert server.keys() <= {"type", "command", "args", "env", "cwd"}
    assert server["type"] == "stdio"


def test_every_manifest_starts_the_same_server() -> None:
    servers = [manifest(path)["mcpServers"]["dripstone"] for path in (".mcp.json", "mcp.json", "gemini-extension.json")]
    assert all((one["command"], one["args"]) == ("dripstone", ["mcp"]) for one in servers)


def test_the_wheel_carries_the_pack_where_it_is_looked_for() -> None:
    built = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert "skills" in built["only-include"]
    assert built["sources"]["skills"] == "mcp_server/skills"
    beside = {path.relative_to(ROOT).as_posix() for path in written.FOLDER.iterdir() if path.is_file()}
    assert set(built["exclude"]) == beside, "of the pack, only skills are handed out"


def test_the_example_is_a_workflow_without_problems() -> None:
    example = written.FOLDER / "dripstone-build-workflow" / "references" / "example.yaml"
    assert yaml.safe_load(example.read_text())["title"]
    assert example.read_bytes() == (ROOT / "core" / "templates" / "trial-nurture.yaml").read_bytes()
