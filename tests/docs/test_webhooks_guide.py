"""The guide to webhooks runs as it stands: its endpoint is made, and its verifiers check what really arrives."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from core.domain.webhooks.classify import MEANINGS
from core.rpc.webhooks.endpoint_messages import OPTIONS
from tests.receiver import Receiver
from tests.running import RunningCore

pytestmark = pytest.mark.anyio

GUIDE = (Path(__file__).parents[2] / "docs" / "webhooks.md").read_text()
FILES = dict(re.findall(r"^<!-- file: (\S+) -->\n```\w+\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL))
CONTACT = {"type": "contact", "fields": {"email": "ada@example.com", "first_name": "Ädä \U0001f600"}}


async def created(core: RunningCore, receiver: Receiver, folder: Path) -> dict[str, Any]:
    """Run the guide's program; return what it printed."""
    (folder / "create.py").write_text(FILES["create.py"])
    environment = {**os.environ, "no_proxy": "*", "DRIPSTONE_HTTP": core.http_url, "DRIPSTONE_API_KEY": core.api_key}
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(folder / "create.py"), receiver.url, env=environment, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0
    return dict(json.loads(out))


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_the_endpoint_of_the_guide_is_made_and_every_verifier_takes_what_arrives(
    core: RunningCore, receiver: Receiver, tmp_path: Path
) -> None:
    made = await created(core, receiver, tmp_path)
    secret, public_key = made["secret"], made["endpoint"]["public_key"]
    async with core.http() as http:
        assert (await http.post("/api/v1/crm/records", json=CONTACT)).status_code == 200
        await core.settle()
        (key,) = (await http.get("/.well-known/webhook-keys.json")).json()["keys"]
    (request,) = receiver.received
    verify: Any = ModuleType("verify")
    exec(compile(FILES["verify.py"], "verify.py", "exec"), verify.__dict__)
    now = core.clock.now().timestamp()
    headers, body = request.headers, request.body
    calls = (
        lambda sent, at: verify.verify(secret, headers, sent, at),
        lambda sent, at: verify.verify_asymmetric(public_key, headers, sent, at),
        lambda sent, at: verify.verify_timestamped(secret, headers["x-stamped-signature"], sent, at),
        lambda sent, _: verify.verify_hex(secret, headers["x-hub-signature-256"], sent),
    )
    for call in calls:
        call(body, now)
        with pytest.raises(verify.NotGenuine):
            call(body + b" ", now)
    for call in calls[:3]:
        with pytest.raises(verify.NotGenuine):
            call(body, now + 301)
    assert "whpk_" + base64.b64encode(base64.urlsafe_b64decode(key["x"] + "=")).decode() == public_key
    assert headers["x-team"] == "sales"
    assert headers["authorization"] == "Basic " + base64.b64encode(b"dripstone:correct horse").decode()


def test_the_guide_tells_of_every_option_and_of_every_code() -> None:
    for name in OPTIONS:
        assert f"`{name}`" in GUIDE or name == "description", name
    for meaning in MEANINGS.values():
        assert f"| {meaning.code} |" in GUIDE


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_the_guide_tells_of_every_header_that_is_sent(
    core: RunningCore, receiver: Receiver, tmp_path: Path
) -> None:
    await created(core, receiver, tmp_path)
    async with core.http() as http:
        await http.post("/api/v1/webhooks", json={"url": receiver.base + "/new", "require_verification": True})
        await http.post("/api/v1/crm/records", json=CONTACT)
        await core.settle()
    sent = {name for request in receiver.received for name in request.headers}
    ours = {name for name in sent if name.startswith("webhook-")} | {"content-type", "authorization"}
    assert "webhook-challenge" in ours
    assert {name for name in ours if f"| `{name}` |" not in GUIDE} == set()
