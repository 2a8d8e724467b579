"""What the engine does is told by kind to whoever measures, once it is committed."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest

from core.clock import ManualClock
from core.engine.driver import EnrollmentDriver, Entry
from core.engine.ticker import Ticker
from core.store.database import Database
from tests.engine.parts import ORG, Parts

pytestmark = pytest.mark.anyio


async def test_moves_are_counted_by_kind_and_only_when_they_are_committed(
    database: Database, clock: ManualClock
) -> None:
    parts = Parts(database, clock)
    await parts.begin()
    text = "steps:\n  - {id: a, kind: wait, for: 1h}\n  - {id: b, kind: wait, for: 1h}\n  - {id: c, kind: exit}\n"
    await parts.publish(text)
    contacts = [Entry(one, "key_1") for one in await parts.contacts(3)]
    told: Counter[str] = Counter()
    driver = EnrollmentDriver(parts.versions, on_moved=told.update)

    async def enter(*, and_fail: bool = False) -> None:
        async with database.write(ORG) as tx:
            await driver.enter(tx, ORG, await parts.versions.load(tx, ORG, "w", 1), contacts)
            if and_fail:
                raise ArithmeticError

    with pytest.raises(ArithmeticError):
        await enter(and_fail=True)
    assert told == {}
    await enter()
    await enter()  # they are there already
    assert told == {"entered": 3}
    for _ in range(2):
        clock.advance(timedelta(hours=1))
        while await Ticker(database, driver).turn():
            pass
    assert told == {"entered": 3, "moved": 3, "exited": 3}
