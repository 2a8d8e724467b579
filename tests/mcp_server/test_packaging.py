"""What programs and directories are told of the server agrees with the server."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

from bundle import build
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
    assert {"pyproject.toml", manifest["server"]["entry_point"], "proto/gen/dripstone/v1/client.py"} <= set(names)
    assert not [name for name in names if "__pycache__" in name or name.startswith("tests")]
    assert [tool["name"] for tool in manifest["tools"]] == [tool.name for tool in served_tools()]
    assert manifest["user_config"]["api_key"]["sensitive"] is True
    asked = {f"${{user_config.{name}}}" for name in manifest["user_config"]}
    assert set(manifest["server"]["mcp_config"]["env"].values()) == asked
