"""DBOS: workflows of three durable steps, each step checkpointed as one row of its history.

Modes: `default` is DBOS as it comes; `wal` gives it an SQLite engine in WAL mode with synchronous=FULL, the journal
that Dripstone uses. Eight threads call workflows, the fastest way we found.
"""

from __future__ import annotations

import threading
import time

import sqlalchemy
from dbos import DBOS
from telling import PAYLOAD, arguments, tell

STEPS = 3
THREADS = 8


@DBOS.step()
def branch(number: int) -> str:
    return "big" if number % 2 else "small"


@DBOS.step()
def update(number: int) -> str:
    return f"{number}{PAYLOAD}"


@DBOS.step()
def log(number: int) -> str:
    return f"step {number}"


@DBOS.workflow()
def nurture(number: int) -> str:
    branch(number)
    update(number)
    return log(number)


def wal_engine(url: str) -> sqlalchemy.Engine:
    """Return an engine with the pragmas that DBOS sets, and WAL with FULL beside them."""
    engine = sqlalchemy.create_engine(url)

    @sqlalchemy.event.listens_for(engine, "connect")
    def connected(connection, _record):  # type: ignore[no-untyped-def]
        connection.isolation_level = "IMMEDIATE"
        for pragma in ("busy_timeout=30000", "foreign_keys=ON", "journal_mode=WAL", "synchronous=FULL"):
            connection.execute(f"PRAGMA {pragma}")

    return engine


def main() -> None:
    given = arguments()
    config: dict[str, object] = {"name": "bench", "system_database_url": given.url, "log_level": "ERROR"}
    if given.mode == "wal":
        config["system_database_engine"] = wal_engine(given.url)
    DBOS(config=config)  # type: ignore[arg-type]
    DBOS.launch()
    for number in range(THREADS):
        nurture(number)
    finished = [0] * THREADS
    start = time.perf_counter()

    def lane(index: int) -> None:
        while time.perf_counter() - start < given.seconds and finished[index] * THREADS < given.jobs:
            nurture(index)
            finished[index] += 1

    lanes = [threading.Thread(target=lane, args=(index,)) for index in range(THREADS)]
    for one in lanes:
        one.start()
    while any(one.is_alive() for one in lanes):
        time.sleep(0.2)
        tell(done=time.perf_counter() - start, total=given.seconds)
    spent = time.perf_counter() - start
    tell(result={"per_second": sum(finished) * STEPS / spent, "workflows": sum(finished)})
    DBOS.destroy()


if __name__ == "__main__":
    main()
