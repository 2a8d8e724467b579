"""The guide to imports runs as it stands: its file is written down, its commands are carried out against a core."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from core.domain.records import import_files
from tests import warm
from tests.running import RunningCore

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "imports.md").read_text()
FILES = re.findall(r"^<!-- file: (\S+) -->\n```\w+\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
COMMANDS = re.findall(r"^```bash\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
DRIPSTONE = warm.shell()


async def _turned(core: RunningCore) -> None:
    while True:
        await core.settle()
        await asyncio.sleep(0.02)


async def _ran(core: RunningCore, folder: Path, command: str) -> str:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "proto" / "gen"), *sys.path]),
        "no_proxy": "*",
        "DRIPSTONE_HTTP": core.http_url,
        "DRIPSTONE_TARGET": core.grpc_target,
        "DRIPSTONE_API_KEY": core.api_key,
    }
    process = await asyncio.create_subprocess_exec(
        "sh", "-ec", DRIPSTONE + command, cwd=folder, env=environment,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, f"{command}\n{out.decode()}\n{err.decode()}"
    return out.decode()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_every_command_of_the_guide_does_what_it_says(core: RunningCore, tmp_path: Path) -> None:
    for name, text in FILES:
        (tmp_path / name).write_text(text)
    turning = asyncio.create_task(_turned(core))
    try:
        preview, taken, over_http, exported, streamed, again, pairs = [
            await _ran(core, tmp_path, command) for command in COMMANDS
        ]
    finally:
        turning.cancel()
        with suppress(asyncio.CancelledError):
            await turning
    assert "4 rows would be: 2 new, 0 changed, 0 as they were, 2 not taken. Nothing was changed." in preview
    assert "grace.example.com" in preview or "no e-mail address" in preview
    assert "2 new, 0 changed, 0 as they were, 2 not taken" in taken
    assert json.loads(over_http)["row_count"] == 1
    assert "records written into everything.json" in exported
    bundle = json.loads((tmp_path / "everything.json").read_text())
    assert sorted(one["fields"]["email"] for one in bundle["contacts"]) == ["ada@example.com", "grace@example.com"]
    assert bundle["companies"][0]["fields"]["name"] == "Analytical Engines"
    assert (tmp_path / "contacts.csv").read_text().startswith("id,email,")
    assert len(streamed.splitlines()) == 2
    assert "0 new, 0 changed" in again
    assert json.loads(pairs)["duplicates"] == []


def test_the_guide_names_the_limits_that_the_code_has() -> None:
    assert f"{import_files.LARGEST_FILE >> 20} MB, {import_files.MOST_ROWS:,} rows" in GUIDE
    assert f"{import_files.MOST_COLUMNS} columns, {import_files.LONGEST_CELL:,} characters a cell" in GUIDE
