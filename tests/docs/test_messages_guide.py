"""The guide to messages runs as it stands: every block of it, in its order, with a real mail server."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from core.clock import ManualClock
from core.commands.serving import serving_options
from tests import warm
from tests.mail_server import MailServer, serving_mail
from tests.running import RunningCore, running

pytestmark = pytest.mark.anyio

GUIDE = (Path(__file__).parents[2] / "docs" / "messages.md").read_text()
FILES = re.findall(r"^<!-- file: (\S+) -->\n```\w+\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
BLOCKS = [
    (language, text)
    for language, text in re.findall(r"^```(bash|python)\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
    if text not in [written for _, written in FILES]
]
DRIPSTONE = warm.shell()
DESK = "from desk import call\n"
SAID = (
    "news is published: version 1",
    "2 enrolled\n",
    "sends news messages by email to <strong>a***@e***.com</strong>\nYou get no more news messages from Acme by email.",
    "email news False one_click\nada@example.com news unsubscribed\n",
    "{'data': 'ok'}\n",
    "email * bounced\nlifted 2026-03-02\n[]\n",
    "reason REQUIRED\nTrue\n",
    "email news True key signed up again at the fair\nemail news False one chose purpose by the link of a message\n",
    "@example.com sent 2.0.0 queued\n",
)
"""What each block says, among the rest."""


@pytest.fixture
async def mail(anyio_backend: str) -> AsyncIterator[MailServer]:
    async with serving_mail() as server:
        yield server


@pytest.fixture
async def core(database_url: str, tmp_path: Path, clock: ManualClock, mail: MailServer) -> AsyncIterator[RunningCore]:
    """Return a core that sends e-mail through a server of the test's own."""
    settings = {"smtp_url": f"smtp://127.0.0.1:{mail.port}", "mail_from": "Acme <hello@acme.example>"}
    async with running(database_url, tmp_path, clock, **settings) as started:
        yield started


def _link(mail: MailServer) -> str:
    found = [str(one["List-Unsubscribe"]).strip("<>") for one in mail.mails if one["To"] == "ada@example.com"]
    return found[0] if found else ""


async def _ran(core: RunningCore, folder: Path, link: str, *command: str) -> str:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(folder), *sys.path]),
        "no_proxy": "*",
        "DRIPSTONE_TARGET": core.grpc_target,
        "DRIPSTONE_HTTP": core.http_url,
        "DRIPSTONE_API_KEY": core.api_key,
        "LINK": link,
    }
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, f"{command[-1]}\n{out.decode()}\n{err.decode()}"
    await core.settle()
    return out.decode()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_every_block_of_the_guide_says_what_it_promises(
    core: RunningCore, mail: MailServer, tmp_path: Path
) -> None:
    for name, text in FILES:
        (tmp_path / name).write_text(text)
    assert len(BLOCKS) == len(SAID)
    for (language, block), told in zip(BLOCKS, SAID, strict=True):
        command = ("sh", "-ec", DRIPSTONE + block) if language == "bash" else (sys.executable, "-c", DESK + block)
        core.clock.advance(timedelta(seconds=1))
        out = await _ran(core, tmp_path, _link(mail), *command)
        assert told in out, f"{block}\n{out}"
    assert [one["Subject"] for one in mail.mails] == ["News", "News"]


def test_every_option_of_the_table_is_one_of_serve() -> None:
    def command() -> None:
        """Do nothing."""

    parameters = serving_options(command).__click_params__
    there = {(option, one.envvar) for one in parameters for option in one.opts}
    told = re.findall(r"^\| `(--[\w-]+)` \| `(\w+)` \|", GUIDE, re.MULTILINE)
    assert len(told) == 4
    assert set(told) <= there
