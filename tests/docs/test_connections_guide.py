"""The guide to connections runs as it stands: its commands against one core, its tables against the code."""

from __future__ import annotations

import asyncio
import json
import os
import re
from pathlib import Path

import pytest

from core.domain.connections import limits, result
from core.domain.connections.sample import VARIABLES
from core.domain.webhooks.event_types import CATALOGUE
from tests.running import RunningCore

pytestmark = pytest.mark.anyio

GUIDE = (Path(__file__).parents[2] / "docs" / "connections.md").read_text()
COMMANDS = re.findall(r"^```bash\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_every_command_does_what_it_promises(core: RunningCore, tmp_path: Path) -> None:
    environment = {
        **os.environ, "no_proxy": "*", "DRIPSTONE_HTTP": core.http_url, "DRIPSTONE_API_KEY": core.api_key,
    }  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        "bash", "-ec", "\necho\n".join(COMMANDS), cwd=tmp_path, env=environment,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, err.decode()
    tried, paused = (json.loads(line) for line in out.decode().splitlines() if line)
    assert tried["request_line"] == "POST https://api.example.com/v1/people/%40ada/messages"
    assert json.loads(tried["body"]) == {"text": 'Hi "Ada"', "tag": "sample"}
    assert tried["headers"]["authorization"] == "Bearer ***"
    assert (paused["state"], paused["daily_limit"], paused["call"]["auth"]) == ("paused", 40, {"bearer": {"token": ""}})


def test_the_guide_names_what_texts_may_name() -> None:
    named = GUIDE.replace("`.", "`message.").replace("enrollment.id`, `message.", "enrollment.id`, `enrollment.")
    missing = [name for name in VARIABLES if name.startswith("message.") and f"`{name}`" not in named]
    assert missing == []
    for name in ("key", "workflow_id", "step_id"):
        assert f"`.{name}`" in GUIDE


def test_the_guide_names_limits_and_events_that_there_are() -> None:
    assert limits.USUAL_IN_FLIGHT == 4
    assert "4 unless set, at most 64" in GUIDE
    assert "408, 425, 429 and 5xx" in GUIDE
    assert sorted(result.RETRYABLE) == [408, 425, 429]
    events = re.findall(r"^\| `([a-z_]+\.[a-z_]+)` \|", GUIDE, re.MULTILINE)
    assert len(events) == 5
    assert set(events) <= set(CATALOGUE)
