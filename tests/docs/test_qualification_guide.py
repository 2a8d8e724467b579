"""The guide to qualification runs as it stands, and no key of models is missing from it."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from core.commands.model import model
from core.domain.qualification.lint import warnings
from core.domain.qualification.parse import GROUP_KEYS, KEYS, RULE_KEYS
from core.domain.qualification.schema import document_schema
from core.domain.workflow import source
from core.rpc.convert import to_struct
from dripstone.v1 import record_pb2
from tests import warm
from tests.running import RunningCore

GUIDE = (Path(__file__).parents[2] / "docs" / "qualification.md").read_text()
FILES = re.findall(r"^<!-- file: (\S+) -->\n```\w+\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
COMMANDS = re.findall(r"^```bash\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
DRIPSTONE = warm.shell()


@pytest.mark.parametrize(("name", "text"), FILES)
def test_a_model_compiles_without_a_doubt_and_fits_the_schema(name: str, text: str) -> None:
    assert warnings(text) == ()
    assert list(Draft202012Validator(document_schema()).iter_errors(source.parse(text))) == []


def test_every_key_of_a_model_is_explained() -> None:
    keys = {*KEYS, *(key for keys in (*GROUP_KEYS.values(), *RULE_KEYS.values()) for key in keys)}
    plain = {"id", "when", "event", "rules", "points", "per"}  # the examples show them
    assert sorted(key for key in keys - plain if f"`{key}" not in GUIDE) == []


def test_there_is_a_model_to_start_from_for_each_that_the_guide_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shown = re.findall(r"^dripstone model (.*?) +# (.*)$", GUIDE, re.MULTILINE)
    said = [CliRunner().invoke(model, arguments.split()).output for arguments, _ in shown]
    assert [arguments.split()[0] for arguments, _ in shown] == ["templates", "new", "lint"]
    assert all(name in said[0] and f"| `{name}` |" in GUIDE for name in shown[0][1].split(", "))
    assert said[2] == f"{shown[2][1]}\n"


async def _ran(core: RunningCore, folder: Path, commands: str) -> str:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "DRIPSTONE_TARGET": core.grpc_target,
        "DRIPSTONE_API_KEY": core.api_key,
    }
    process = await asyncio.create_subprocess_exec(
        *("sh", "-ec", DRIPSTONE + commands), cwd=folder, env=environment,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, out.decode()
    return out.decode()


@pytest.mark.anyio
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_every_command_runs_and_brings_what_the_guide_says(core: RunningCore, tmp_path: Path) -> None:
    for name, text in FILES:
        (tmp_path / name).write_text(text)
    async with core.client() as client:
        for number, employees in enumerate((90, 8, 70, 5)):
            fields = {"email": f"p{number}@example.com", "employees": employees, "country": "DE"}
            contact = await client.records.UpsertRecord(
                record_pb2.UpsertRecordRequest(type="contact", fields=to_struct(fields))
            )
            status = "converted" if employees > 50 else "closed"
            lead = {"contact_id": contact.record.id, "status": status}
            await client.records.UpsertRecord(record_pb2.UpsertRecordRequest(type="lead", fields=to_struct(lead)))
    said = [await _ran(core, tmp_path, commands) for commands in COMMANDS]
    assert "inbound.yaml: valid\n" in said[0]
    assert "inbound is published: version 1, in use." in said[0]
    assert said[1] == "matrix.yaml: valid\n"
    assert "4 leads that ended, 2 of them well" in said[2]
    assert "AUC 1.000" in said[2]
    assert '"left_out_count": 4' in said[2]
    assert (tmp_path / "inbound.svg").read_text().startswith("<?xml")
