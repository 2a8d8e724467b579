"""The audit notices what it is there for: whatever of a sound database is lost, doubled or bent, it says so."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.chaos.audit import audit, rows, rows_within
from tests.engine.model import LONG
from tests.engine.stage import Stage, staged
from tests.engine.world import World

EMAILS = ["ada@example.com", "bob@example.com", "cyd@example.com"]
_ONE = "(SELECT min(id) FROM enrollments)"
_TIMED = "(SELECT min(id) FROM enrollments WHERE deadline IS NOT NULL)"
_FAILED = "(SELECT min(id) FROM enrollments WHERE state = 'failed')"
SABOTAGE = [
    ("an enrollment is lost", f"DELETE FROM enrollments WHERE id = {_ONE}", "has a trace and is not there"),
    ("a contact is doubled", f"UPDATE enrollments SET occurrence = 2 WHERE id = {_ONE}", "has the occurrences [2]"),
    (
        "an entry is lost",
        f"DELETE FROM trace_entries WHERE enrollment_id = {_ONE} AND seq = 2",
        "entries and has [1, 3",
    ),
    (
        "a step is skipped",
        f"UPDATE trace_entries SET step_id = 'thanks' WHERE enrollment_id = {_ONE} AND seq = 3",
        "stands where the way leads to nap",
    ),
    (
        "a timer is lost",
        f"UPDATE enrollments SET due_at = NULL WHERE id = {_TIMED}",
        "has a timer that nobody looks at",
    ),
    ("somebody is left behind", f"UPDATE enrollments SET due_at = 1 WHERE id = {_TIMED}", "is due and was left behind"),
    ("an end is forgotten", f"UPDATE enrollments SET state = 'active' WHERE id = {_FAILED}", "says that it ended"),
    (
        "a message is doubled",
        "INSERT INTO messages SELECT org_id, id || 'x', day, bucket, event_type, payload, enrollment_id, created_at "
        "FROM messages WHERE event_type = 'model.hello' LIMIT 1",
        "was caused 0 times and is there 1 times",
    ),
    ("a message is lost", "DELETE FROM messages WHERE event_type = 'model.hello'", "was caused 1 times and is there 0"),
    ("a delivery is lost", "DELETE FROM deliveries WHERE event_type = 'model.hello'", "goes to nobody"),
    (
        "an end is announced twice",
        "INSERT INTO messages SELECT org_id, id || 'x', day, bucket, event_type, payload, enrollment_id, created_at "
        "FROM messages WHERE event_type = 'enrollment.failed' LIMIT 1",
        "ended 1 times and told",
    ),
    ("an approval is lost", "DELETE FROM approvals", "which is not there"),
    ("a dead letter is lost", "DELETE FROM dead_letters", "has another number of open dead letters"),
    ("a count is off", "UPDATE step_outcomes SET count = count + 1 WHERE outcome = 'state'", "is counted as"),
    ("an outcome is not counted", "DELETE FROM step_outcomes WHERE outcome = 'failed'", "is counted as 0 and is"),
]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stage, World]]:
    """Return an organization in which somebody waits, decides, and has failed."""
    folder: Path = tmp_path_factory.mktemp("audit")
    with staged(folder) as stage:
        world = stage.on_sqlite()
        stage.run(_live(world))
        yield stage, world
        stage.run(world.stop())


async def _live(world: World) -> None:
    await world.start()
    world.model.grumpy = {EMAILS[0]}
    await world.enroll(EMAILS[:2], "")
    await world.publish(LONG)
    await world.enroll(EMAILS[2:], "")
    for hours in (2, 3, 1):
        world.clock.advance(timedelta(hours=hours))
        await world.settle()
    await world.enroll(EMAILS[:1], "other")
    await world.settle()
    assert sorted(one.state for one in world.model.journeys) == ["active", "active", "awaiting_approval", "failed"]


def test_a_sound_database_passes(sound: tuple[Stage, World]) -> None:
    stage, world = sound
    assert audit(stage.run(rows(world.processes[0].core.database, world.keys.org_id))) == []


@pytest.mark.parametrize(("sql", "noticed"), [case[1:] for case in SABOTAGE], ids=[case[0] for case in SABOTAGE])
def test_sabotage_is_noticed(sound: tuple[Stage, World], sql: str, noticed: str) -> None:
    stage, world = sound
    assert any(noticed in sentence for sentence in stage.run(_sabotaged(world, sql)))


class _Enough(Exception):
    """Nothing of this shall stay."""


async def _sabotaged(world: World, sql: str) -> list[str]:
    """Return what the audit says of a database in which somebody did this; it is as before afterwards."""
    found: list[str] = []
    with contextlib.suppress(_Enough):
        async with world.processes[0].core.database.write(world.keys.org_id) as tx:
            await tx.fetch(sql)
            found = audit(await rows_within(tx))
            raise _Enough
    return found
