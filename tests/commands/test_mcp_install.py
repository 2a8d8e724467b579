"""An agent's program is told of the server in its own file, once, without a secret, and nothing else there changes."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from core import connection
from core.commands.mcp import nearest_data_dir, where
from core.commands.mcp_clients import CLIENTS
from core.commands.mcp_install import install

URL = "https://crm.example.com/mcp"
KEY = "DRIPSTONE_AGENT_KEY"
HTTP = {
    "claude-code": {"type": "http", "url": URL, "headers": {"Authorization": f"Bearer ${{{KEY}}}"}},
    "codex": {"url": URL, "bearer_token_env_var": KEY},
    "gemini-cli": {"httpUrl": URL, "headers": {"Authorization": f"Bearer ${KEY}"}},
    "cursor": {"url": URL, "headers": {"Authorization": f"Bearer ${{env:{KEY}}}"}},
    "vscode": {"type": "http", "url": URL, "headers": {"Authorization": "Bearer ${input:dripstone-key}"}},
}
HANDED_ON = {
    "codex": {"env_vars": ["DRIPSTONE_TARGET", KEY, "DRIPSTONE_API_KEY", "DRIPSTONE_CA_FILE"]},
    "gemini-cli": {"env": {KEY: f"${KEY}", "DRIPSTONE_API_KEY": "$DRIPSTONE_API_KEY"}},
}
"""What programs that hand a command only part of their environment are told to hand on."""
OTHERS = {
    False: {"theme": "dark", "UNDER": {"other": {"command": "other", "args": []}}},
    True: """model = "o1"

[mcp_servers.other]
command = "other" # mine

[mcp_servers.dripstone.env]
A = "b"

[z]
q = 1
""",
}


def told(client: str, *options: str, exit_code: int = 0) -> str:
    result = CliRunner().invoke(install, [client, *options])
    assert result.exit_code == exit_code, result.output
    return result.output


def entries(client: str, file: Path) -> dict[str, Any]:
    text = file.read_text()
    read: dict[str, Any] = (tomllib.loads(text) if CLIENTS[client].is_toml else json.loads(text))[CLIENTS[client].under]
    return read


@pytest.mark.parametrize("client", CLIENTS)
def test_the_entry_is_written_once_and_others_stay(client: str, tmp_path: Path) -> None:
    file = tmp_path / "deep" / "settings"
    known = CLIENTS[client]
    said = told(client, "--file", str(file), "--url", URL)
    assert "is written" in said
    assert ("trusts the folder" in said, "asks whether" in said) == (client == "gemini-cli", client == "claude-code")
    assert entries(client, file) == {"dripstone": HTTP[client]}
    assert "has it already" in told(client, "--file", str(file), "--url", URL)

    before = OTHERS[known.is_toml]
    file.write_text(before if isinstance(before, str) else json.dumps(before).replace("UNDER", known.under))
    file.chmod(0o600)
    told(client, "--file", str(file), "--read-only", "--toolsets", "read,author", "--data-dir", str(tmp_path))
    written = entries(client, file)
    assert written["other"]["command"] == "other"
    args = [*written["dripstone"]["args"]]
    assert args[args.index("mcp") :] == [
        "mcp", "--data-dir", str(tmp_path), "--toolsets", "author,read", "--read-only",
    ]  # fmt: skip
    more = {name: value for name, value in written["dripstone"].items() if name not in ("type", "command", "args")}
    assert more == HANDED_ON.get(client, {})
    assert file.stat().st_mode & 0o777 == 0o600
    if known.is_toml:
        assert "# mine\n" in file.read_text()
        assert tomllib.loads(file.read_text())["z"] == {"q": 1}


def test_an_address_is_narrowed_as_the_options_say() -> None:
    printed = told("cursor", "--print", "--url", "https://crm.example.com", "--toolsets", "read", "--read-only")
    assert json.loads(printed)["mcpServers"]["dripstone"]["url"] == f"{URL}/x/read/read-only"
    assert json.loads(told("vscode", "--print", "--url", URL))["inputs"][0]["password"] is True


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--url", "crm.example.com"], "is no address"),
        (["--url", "https://me:secret@crm.example.com/mcp"], "leave the key to the header"),
        (["--name", "a]\nb"], "letters, digits"),
        (["--toolsets", "admin"], "there are read, operate, author, approve"),
    ],
)
def test_what_cannot_be_written_is_refused(options: list[str], says: str) -> None:
    assert says in told("codex", "--print", *options, exit_code=2)


def test_a_link_in_a_project_leads_no_write_out_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project, outside = tmp_path / "project", tmp_path / "outside"
    project.mkdir()
    monkeypatch.chdir(project)
    outside.write_text("{}")
    (project / "..mcp.json.new").symlink_to(outside)
    (project / "..mcp.json.").symlink_to(outside)
    assert "is written" in told("claude-code", "--url", URL)
    assert outside.read_text() == "{}"
    (project / ".mcp.json").unlink()
    (project / ".mcp.json").symlink_to(outside)
    assert f"--file {outside}" in told("claude-code", "--url", URL, exit_code=1)
    assert outside.read_text() == "{}"
    told("claude-code", "--url", URL, "--file", ".mcp.json")
    assert (project / ".mcp.json").is_symlink()
    assert URL in outside.read_text()


def test_the_core_of_a_folder_is_used_there_and_that_of_the_user_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DRIPSTONE_DATA_DIR", raising=False)
    assert nearest_data_dir() == tmp_path / "home" / ".dripstone"
    (tmp_path / ".dripstone").mkdir()
    assert nearest_data_dir() == Path(".dripstone")
    monkeypatch.setenv("DRIPSTONE_DATA_DIR", "/srv/crm")
    assert nearest_data_dir() == Path("/srv/crm")


MINE, THEIRS = {"DRIPSTONE_AGENT_KEY": "mine"}, {"DRIPSTONE_TARGET": "crm.example.com:443"}


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({}, ("127.0.0.1:2", "stored")),
        (MINE, ("127.0.0.1:2", "stored")),
        (THEIRS, ("crm.example.com:443", "")),
        ({**MINE, **THEIRS}, ("crm.example.com:443", "mine")),
        ({"DRIPSTONE_TARGET": "127.0.0.1:2"}, ("127.0.0.1:2", "stored")),
    ],
)
def test_a_key_goes_only_where_its_own_source_leads(
    environment: dict[str, str], found: tuple[str, str], tmp_path: Path
) -> None:
    file = connection.write(tmp_path, connection.Connection("127.0.0.1:2", "", "", "", "stored", ""))
    assert where(environment, tmp_path) == found
    file.chmod(0o620)
    assert where({}, tmp_path) == ("", ""), "others may have written it"


@pytest.mark.parametrize(("client", "text"), [("vscode", "{ // mine\n}"), ("cursor", "[]"), ("codex", "= 1")])
def test_a_file_that_cannot_be_read_stays_and_the_entry_is_told(client: str, text: str, tmp_path: Path) -> None:
    file = tmp_path / "settings"
    file.write_text(text)
    said = told(client, "--file", str(file), "--url", URL, exit_code=1)
    assert "is left as it is" in said
    assert URL in said
    assert file.read_text() == text
