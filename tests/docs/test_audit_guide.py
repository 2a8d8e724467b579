"""The guide to the audit log runs as it stands, in its order, against one core."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

from dripstone.v1 import record_pb2
from tests.running import RunningCore

pytestmark = pytest.mark.anyio

GUIDE = (Path(__file__).parents[2] / "docs" / "audit.md").read_text()
BLOCKS = re.findall(r"^<!-- run(, ends with 1)? -->\n```sh\n(.*?)^```(?:\n\n```text\n(.*?)^```)?", GUIDE, re.M | re.S)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_every_command_of_the_guide_does_what_it_says(core: RunningCore, tmp_path: Path) -> None:
    async with core.client() as client:
        for number in range(3):
            request = record_pb2.UpsertRecordRequest(type="contact")
            request.fields.update({"email": f"a{number}@example.com"})
            await client.records.UpsertRecord(request)
    await core.core.outward.sealer.turn()
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "no_proxy": "*",
        "COLUMNS": "120",
        "DRIPSTONE_TARGET": core.grpc_target,
        "DRIPSTONE_HTTP": core.http_url,
        "DRIPSTONE_API_KEY": core.api_key,
    }
    assert len(BLOCKS) == 3
    outputs = []
    for fails, block, told in BLOCKS:
        process = await asyncio.create_subprocess_exec(
            *("sh", "-e", "-c", block),
            env=environment,
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        out, _ = await asyncio.wait_for(process.communicate(), 60)
        outputs.append(out.decode())
        assert process.returncode == (1 if fails else 0), out.decode()
        if told:
            assert out.decode() == told
    assert "Intact: every entry is what it was" in outputs[0]
    assert outputs[2].count('"method":"RecordService.UpsertRecord"') == 3
