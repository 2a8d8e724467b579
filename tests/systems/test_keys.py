"""The master keys of a deployment: made once, rotated while everything stays readable, lost without a leak."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner

from core.__main__ import main
from core.clock import ManualClock
from core.domain.systems.envelope import CannotOpen, MasterKey
from core.store.database import Database
from core.store.systems import credentials, sealing
from core.store.systems.master_keys import VARIABLE, MasterKeys, NoMasterKeys

pytestmark = pytest.mark.anyio


def test_a_key_is_made_once_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "master.key"
    made = MasterKeys(path).all()
    assert MasterKeys(path).all() == made
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(NoMasterKeys, match=VARIABLE):
        MasterKeys(tmp_path / "other.key", may_make=False).all()


def test_a_key_and_its_name_are_on_the_disk_before_it_seals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[bool] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: kept.append(stat.S_ISDIR(os.fstat(descriptor).st_mode)))
    keys = MasterKeys(tmp_path / "master.key")
    keys.all()
    keys.rotate()
    assert kept == [False, True, False, True], "the file, then its directory"
    assert [path.name for path in tmp_path.iterdir()] == ["master.key"]


@pytest.mark.parametrize("kind", ["bytes", "directory"])
def test_what_is_no_key_file_is_told_as_such_and_not_what_it_has(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "master.key"
    path.write_bytes(b"\x9c" * 32) if kind == "bytes" else path.mkdir()
    with pytest.raises(NoMasterKeys, match=r"master\.key (cannot|is no text)") as error:
        MasterKeys(path).all()
    assert "9c" not in str(error.value)


def test_the_environment_goes_before_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = MasterKey(b"k" * 32)
    monkeypatch.setenv(VARIABLE, key.text)
    keys = MasterKeys(tmp_path / "master.key")
    assert keys.all() == (key,)
    with pytest.raises(NoMasterKeys):
        keys.rotate()
    monkeypatch.setenv(VARIABLE, "not a key")
    with pytest.raises(NoMasterKeys) as error:
        keys.all()
    assert "not a key" not in str(error.value)


async def test_a_running_process_reads_a_rotated_file_and_every_row_is_wrapped_anew(
    database: Database, tmp_path: Path
) -> None:
    running = MasterKeys(tmp_path / "master.key")
    async with database.write("org_1") as tx:
        for number in range(3):
            await credentials.put(tx, running.all(), f"con_{number}", {"token": f"t{number}"})
        await credentials.put(tx, running.all(), "con_0", {"token": "second"})
    (old,) = running.all()
    elsewhere = MasterKeys(tmp_path / "master.key")
    new = elsewhere.rotate()
    async with database.system() as tx:
        assert await credentials.rewrap(tx, elsewhere.all(), limit=2) == 2
        assert not await sealing.drop_old(tx, elsewhere), "one is still sealed under it"
        assert await credentials.rewrap(tx, elsewhere.all()) == 1
        assert await credentials.rewrap(tx, elsewhere.all()) == 0
    assert running.all() == (new, old)
    async with database.system() as tx:
        assert await sealing.drop_old(tx, elsewhere)
    assert running.all() == (new,)
    async with database.read("org_1") as tx:
        assert await credentials.get(tx, running.all(), "con_0") == {"token": "second"}
        with pytest.raises(CannotOpen):
            await credentials.get(tx, (old,), "con_1")
        assert await credentials.get(tx, running.all(), "con_9") is None
    async with database.read("org_2") as tx:
        assert await credentials.get(tx, running.all(), "con_0") is None


def test_the_command_rotates(tmp_path: Path, clock: ManualClock) -> None:
    (old,) = MasterKeys(tmp_path / "master.key").all()
    ran = CliRunner().invoke(main, ["keys", "rotate-master", "--data-dir", str(tmp_path), "--drop-old"])
    assert ran.exit_code == 0, ran.output
    (new,) = MasterKeys(tmp_path / "master.key").all()
    assert new != old
    assert ran.output == f"{new.id} seals from now on; 0 connections and endpoints were wrapped anew\n"
