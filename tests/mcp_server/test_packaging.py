"""What programs and directories are told of the server agrees with the server."""

from __future__ import annotations

import json
import tomllib
import zipfile
from pathlib import Path

import pytest

from bundle import build
from bundle.server import settle
from mcp_server import skill_pack
from mcp_server.server import served_tools, version
from mcp_server.tools import TOOLSETS
from mcp_server.views import TOOLSET_NAMES

ROOT = Path(__file__).parents[2]


def test_toolsets_are_called_as_addresses_and_options_call_them() -> None:
    assert tuple(toolset.name for toolset in TOOLSETS) == TOOLSET_NAMES


def test_the_description_for_directories_has_our_version_and_no_secret() -> None:
    server = json.loads((ROOT / "server.json").read_text())
    assert server["version"] == version()
    assert len(server["description"]) <= 100
    (remote,) = server["remotes"]
    assert remote["url"] == "https://{host}/mcp"
    assert remote["headers"][0]["value"] == "Bearer {api_key}"


def test_the_bundle_is_the_same_each_time_and_runs_what_is_in_it(tmp_path: Path) -> None:
    with zipfile.ZipFile(build.build(tmp_path)) as bundle:
        names = bundle.namelist()
        assert {entry.date_time for entry in bundle.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert names[1:] == sorted(names[1:])
        manifest = json.loads(bundle.read("manifest.json"))
        project = tomllib.loads(bundle.read("pyproject.toml").decode())
        skills = {name: bundle.read(name) for name in names if name.startswith("skills/")}
    assert {manifest["server"]["entry_point"], manifest["server"]["mcp_config"]["args"][-1]} == {"server.py"}
    assert {"server.py", "core/__main__.py", "proto/gen/dripstone/v1/client.py"} <= set(names)
    assert not [name for name in names if "__pycache__" in name or name.startswith("tests")]
    assert project["tool"]["uv"] == {"default-groups": []}, "no tools of developers"
    assert skills == {
        f"skills/{skill.name}/{path}": content
        for skill in skill_pack.pack().values()
        for path, content in skill.files.items()
    }
    assert [tool["name"] for tool in manifest["tools"]] == [tool.name for tool in served_tools()]
    assert manifest["user_config"]["api_key"]["sensitive"] is True
    asked = {f"${{user_config.{name}}}" for name in manifest["user_config"]}
    assert set(manifest["server"]["mcp_config"]["env"].values()) == asked


@pytest.mark.parametrize("said", [None, "", "${HOME}/.dripstone", "${user_config.data_dir}"])
def test_a_bundle_keeps_nothing_in_its_own_folder(said: str | None) -> None:
    given = {"PATH": "/bin", "DRIPSTONE_AGENT_KEY": "${user_config.api_key}"}
    given |= {} if said is None else {"DRIPSTONE_DATA_DIR": said}
    settle(given, Path("/home/ada"))
    assert given == {"PATH": "/bin", "DRIPSTONE_DATA_DIR": "/home/ada/.dripstone"}


def test_a_bundle_keeps_its_files_where_its_user_says() -> None:
    given = {"DRIPSTONE_DATA_DIR": "/srv/crm", "DRIPSTONE_TARGET": "127.0.0.1:7443"}
    settle(given, Path("/home/ada"))
    assert given == {"DRIPSTONE_DATA_DIR": "/srv/crm", "DRIPSTONE_TARGET": "127.0.0.1:7443"}
