"""The guide to routing says what the code does: its document compiles, its calls answer what stands there."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import pytest
from anyio import to_thread

from core.domain.routing.document import MATCHES, METHODS
from core.domain.routing.parse import RULE_KEYS, compiled
from tests.running import RunningCore

pytestmark = pytest.mark.anyio

GUIDE = (Path(__file__).parents[2] / "docs" / "routing.md").read_text()
FILES = dict(re.findall(r"^<!-- file: (\S+) -->\n```\w+\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL))
HELP = FILES["crm.py"]
BLOCKS = [text for text in re.findall(r"^```python\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL) if text != HELP]
SAID = re.findall(r"^```text\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)


def test_every_key_and_method_is_explained() -> None:
    assert [key for key in (*RULE_KEYS, *METHODS, *MATCHES) if f"`{key}`" not in GUIDE] == []
    assert [rule.id for rule in compiled(FILES["inbound.yaml"]).rules] == [
        "customers",
        "dach",
        "enterprise",
        "catch_all",
    ]


def _run(program: str, names: dict[str, Any]) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(program, names)
    return out.getvalue()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_every_block_of_the_guide_says_what_it_promises(
    core: RunningCore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "inbound.yaml").write_text(FILES["inbound.yaml"])
    monkeypatch.chdir(tmp_path)
    for name, value in {"HTTP": core.http_url, "API_KEY": core.api_key}.items():
        monkeypatch.setenv(f"DRIPSTONE_{name}", value)
    monkeypatch.setenv("no_proxy", "*")
    names: dict[str, Any] = {}
    await to_thread.run_sync(_run, HELP, names)
    for block, told in zip(BLOCKS, SAID, strict=True):
        assert await to_thread.run_sync(_run, block, names) == told, block
