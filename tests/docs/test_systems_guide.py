"""The guide to systems of record runs as it stands, against one core and one stand-in; its tables are the code's."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from core.fakes.faults import KINDS
from core.fakes.hubspot import IN_TEN_SECONDS, HubSpotFake
from core.fakes.samples import people
from core.fakes.serving import serving
from core.store.systems.syncs import OUTCOMES
from tests import warm
from tests.running import RunningCore

pytestmark = pytest.mark.anyio

GUIDE = (Path(__file__).parents[2] / "docs" / "systems.md").read_text()
DRIPSTONE = warm.shell()
COMMANDS = re.findall(r"^```bash\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_every_command_does_what_it_promises(core: RunningCore, tmp_path: Path) -> None:
    fake = HubSpotFake(core.clock)
    fake.seed("contacts", people("hubspot", 3))
    async with serving(fake.application()) as url:
        environment = {
            **os.environ, "no_proxy": "*", "FAKE": url, "PYTHONPATH": os.pathsep.join(sys.path),
            "DRIPSTONE_TARGET": core.grpc_target, "DRIPSTONE_HTTP": core.http_url, "DRIPSTONE_API_KEY": core.api_key,
        }  # fmt: skip
        process = await asyncio.create_subprocess_exec(
            "bash", "-ec", DRIPSTONE + "\n".join(COMMANDS), cwd=tmp_path, env=environment,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        ended = asyncio.create_task(process.communicate())
        async with asyncio.timeout(60):
            while not ended.done():  # the loops of a core in tests turn by hand
                await core.core.outward.syncer.turn()
                await asyncio.wait([ended], timeout=0.05)
        out, err = await ended
        assert process.returncode == 0, err.decode()
        said = out.decode().splitlines()
        assert said[:2] == ["True", "HubSpot portal 4242"]
        assert "succeeded, 3 looked at: 3 changed here" in said[2]
        assert [line.split()[0][:4] for line in said[3:-3]] == ["conn", "con_", "sync", "syn_", "syn_"]
        assert said[-3] == "3"
        assert said[-2] in {one["id"] for one in fake.stored()["contacts"]}
        assert said[-1:] == ['["502-after-commit@batch/upsert*1"]True']
        for _ in range(3):
            await core.pass_time(timedelta(seconds=10))
        emails = sorted(one["email"] for one in fake.stored()["contacts"])
        assert len(emails) == len(set(emails)) == 4
        assert "grace@example.com" in emails


def test_the_guide_names_every_outcome_and_every_fault_that_people_ask_for() -> None:
    assert [name for name in OUTCOMES if name != "unchanged" and f"`{name}`" not in GUIDE] == []
    assert [name for name in KINDS if f"`{name}`" not in GUIDE] == []
    assert f"{IN_TEN_SECONDS} calls in ten seconds" in GUIDE
