"""The command that puts a new master key before the others, and wraps what is sealed under it."""

from __future__ import annotations

from pathlib import Path

import click

from core.clock import SystemClock
from core.commands.serving import default_data_dir
from core.commands.telling import run
from core.domain.systems.envelope import CannotOpen
from core.store import migrate
from core.store.database import Database
from core.store.systems import credentials, sealing
from core.store.systems.master_keys import FILE_NAME, MasterKeys, NoMasterKeys
from core.store.systems.vault import Vault


@click.command("rotate-master", short_help="Put a new master key before the others.")
@click.option("--data-dir", type=click.Path(path_type=Path), default=default_data_dir, show_default=".dripstone")
@click.option("--db", "database_url", default="", help="Default: SQLite in the data directory.")
@click.option("--master-key-file", "file", envvar="DRIPSTONE_MASTER_KEY_FILE", type=click.Path(path_type=Path))
@click.option("--rewrap-only", is_flag=True, help="Make no new key; wrap everything under the first one there is.")
@click.option("--drop-old", is_flag=True, help="Afterwards, leave only the new key in the file.")
def rotate_master(data_dir: Path, database_url: str, file: Path | None, rewrap_only: bool, drop_old: bool) -> None:
    """Put a new master key before the others and wrap the keys of all that is encrypted under it.

    What stands unencrypted, from before there was a key that every process has, is encrypted too.

    The core may run meanwhile: it reads the file again. With several processes and files of their own, give each the
    new key first, and then rotate with --rewrap-only.
    """
    known = MasterKeys(file or data_dir / FILE_NAME, may_make=file is None)
    try:
        if not rewrap_only:
            known.rotate()
        url = database_url or f"sqlite:///{data_dir / 'dripstone.db'}"
        count = run(_rewrap(known, url, drop_old=drop_old))
    except NoMasterKeys as error:
        raise click.ClickException(str(error)) from None
    except CannotOpen as error:
        raise click.ClickException(f"Some secrets could not be opened: {error}. No key was dropped.") from None
    click.echo(f"{known.all()[0].id} seals from now on; {count} connections and endpoints were wrapped anew")


async def _rewrap(known: MasterKeys, database_url: str, *, drop_old: bool) -> int:
    database = await Database.open(database_url, SystemClock())
    try:
        await migrate.upgrade(database)
        total = 0
        while True:
            # Again until nothing is left to do: who read the file before it was changed may have sealed meanwhile.
            while count := await _once(database, known):
                total += count
            if not drop_old:
                return total
            async with database.system() as tx:
                if await sealing.drop_old(tx, known):
                    return total
    finally:
        await database.close()


async def _once(database: Database, known: MasterKeys) -> int:
    """Go through everything once; return how much of it was changed."""
    total = 0
    while True:
        async with database.system() as tx:
            count = await credentials.rewrap(tx, known.all())
        if not count:
            break
        total += count
    vault = Vault(known, seals=not database.is_postgresql or known.are_given)
    for renew in (sealing.renew_endpoints, sealing.renew_connections):
        after = ("", "")
        while True:
            async with database.system() as tx:
                done = await renew(tx, vault, after)
            total, after = total + done.count, done.after
            if not any(after):
                break
    return total
