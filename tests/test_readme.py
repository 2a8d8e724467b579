"""Every example of the README is run as it stands there, against a running core."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from core.demo.setting import prepare
from dripstone.v1 import workflow_pb2
from tests import warm
from tests.running import RunningCore

pytestmark = pytest.mark.anyio
ONCE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""What starts process after process, whose calls others make on both databases."""

README = (Path(__file__).parent.parent / "README.md").read_text()


def _examples(kind: str) -> list[str]:
    found = re.findall(rf"<!-- example: {kind} -->\n```\w+\n(.*?)```", README, re.DOTALL)
    assert found, f"the README has no {kind} example"
    return found


@pytest.fixture
async def ready(core: RunningCore) -> RunningCore:
    async with core.client() as client:
        await prepare(client, "https://example.com/hooks")
    return core


def _environment(core: RunningCore) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "DRIPSTONE_TARGET": core.grpc_target,
        "DRIPSTONE_HTTP": core.http_url,
        "DRIPSTONE_MCP": core.mcp_url,
        "DRIPSTONE_API_KEY": core.api_key,
        "DRIPSTONE_AGENT_KEY": core.agent_key,
    }


async def _run(core: RunningCore, *command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, env=_environment(core), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0, err.decode()
    return out.decode()


@ONCE
async def test_the_agent_example_qualifies_a_lead(ready: RunningCore) -> None:
    (example,) = _examples("agent")
    assert "score" in await _run(ready, sys.executable, "-c", example)


async def test_the_grpc_example_enrolls_once_however_often_it_runs(ready: RunningCore) -> None:
    (example,) = _examples("grpc")
    first = await _run(ready, sys.executable, "-c", example)
    assert "enr_" in first
    assert await _run(ready, sys.executable, "-c", example) == first


async def test_the_curl_examples_are_answered_as_their_readers_expect(ready: RunningCore) -> None:
    enroll, event = _examples("curl")
    assert '"created_count": 1' in await _shell(ready, enroll)
    assert await _shell(ready, event) == '{"data": "ok"}'


async def _shell(core: RunningCore, example: str) -> str:
    """Run a curl line; where there is no curl, send what it says with another client."""
    if shutil.which("curl"):
        return _spaced(await _run(core, "sh", "-c", example))
    words = shlex.split(example.replace("\\\n", " "))
    environment = _environment(core)
    words = [re.sub(r"\$(\w+)", lambda name: environment[name.group(1)], word) for word in words]
    headers = dict(words[n + 1].split(": ", 1) for n, word in enumerate(words) if word == "-H")
    async with core.http() as http:
        answer = await http.post(
            next(word for word in words if word.startswith("http")),
            content=words[words.index("-d") + 1],
            headers=headers,
        )
    return _spaced(answer.text)


def _spaced(text: str) -> str:
    return re.sub(r'":(?=\S)', '": ', text.strip())


async def test_the_workflow_example_can_be_published(ready: RunningCore) -> None:
    (example,) = _examples("workflow")
    async with ready.client() as client:
        made = await client.workflows.CreateWorkflow(
            workflow_pb2.CreateWorkflowRequest(workflow_id="from-the-readme", source=example, publish=True)
        )
    assert made.published_version == 1


@ONCE
async def test_the_workflow_commands_try_and_publish_a_template(ready: RunningCore, tmp_path: Path) -> None:
    (example,) = _examples("workflow commands")
    commands = example.replace(".venv/bin/dripstone", shlex.join(warm.command()))
    said = await _run(ready, "sh", "-ec", f"cd {shlex.quote(str(tmp_path))}\n{commands}")
    assert "trial.yaml: valid" in said
    assert "Trial nurture: 1,000 contacts over 90 days" in said
    assert "trial is published: version 1" in said
