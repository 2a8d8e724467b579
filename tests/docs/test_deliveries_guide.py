"""The guide to deliveries runs as it stands: every block of it, in its order, against one core."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from dripstone.v1 import record_pb2
from tests import warm
from tests.receiver import Receiver
from tests.running import RunningCore

pytestmark = pytest.mark.anyio

GUIDE = (Path(__file__).parents[2] / "docs" / "deliveries.md").read_text()
((NAME, DESK),) = re.findall(r"^<!-- file: (\S+) -->\n```\w+\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
(PROGRAM,) = re.findall(r"^<!-- example: grpc -->\n```python\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
BLOCKS = [text for text in re.findall(r"^```python\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL) if text != DESK]
SAID = re.findall(r"^```text\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
(COMMAND,) = re.findall(r"^```bash\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
BEGINNING = "from desk import call, endpoint\n"


def _environment(core: RunningCore, folder: Path) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(folder), *sys.path]),
        "no_proxy": "*",
        "DRIPSTONE_TARGET": core.grpc_target,
        "DRIPSTONE_HTTP": core.http_url,
        "DRIPSTONE_API_KEY": core.api_key,
    }


async def _ran(core: RunningCore, folder: Path, program: str) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program,
        env=_environment(core, folder), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, f"{program}\n{err.decode()}"
    for _ in range(5):
        await core.pass_time(timedelta(seconds=1))
    return out.decode()


def _timeless(text: str) -> str:
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "then", text)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_every_block_of_the_guide_says_what_it_promises(
    core: RunningCore, tmp_path: Path, receiver: Receiver
) -> None:
    (tmp_path / NAME).write_text(DESK)
    for block, told in zip(BLOCKS, SAID[:-1], strict=True):
        out = await _ran(core, tmp_path, block if block == PROGRAM else BEGINNING + block)
        assert _timeless(out) == _timeless(told), block


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_listening_prints_what_the_guide_shows(core: RunningCore, tmp_path: Path, receiver: Receiver) -> None:
    words = COMMAND.replace("http://localhost:3000/hook", f"{receiver.base}/hook").split()
    process = await asyncio.create_subprocess_exec(
        *warm.command(), *words[1:],
        env=_environment(core, tmp_path), stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    lines = [(await asyncio.wait_for(process.stdout.readline(), 30)).decode() for _ in range(4)]
    async with core.client() as client:
        request = record_pb2.UpsertRecordRequest(type="contact")
        request.fields.update({"email": "ada@example.com"})
        await client.records.UpsertRecord(request)
    lines.append((await asyncio.wait_for(process.stdout.readline(), 30)).decode())
    process.send_signal(signal.SIGINT)
    assert await asyncio.wait_for(process.wait(), 30) == 0
    assert [_shape(line) for line in lines] == [_shape(line) for line in SAID[-1].splitlines(keepends=True)]
    assert receiver.received[0].path == "/hook"


def _shape(line: str) -> str:
    line = re.sub(r"http://\S+?/hook", "URL", line)
    line = re.sub(r"\b(ep|msg|whsec)_\S+", r"\1_", line)
    line = re.sub(r"\d\d:\d\d:\d\d", "then", line)
    return re.sub(r" +\d+  record", " n  record", line)
