"""A merge and its undoing, for any two contacts: the database is as it was."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select

from core.clock import ManualClock
from core.store.database import Database
from core.store.events import events
from core.store.messages import consent
from core.store.messages.consent import consents
from tests.store.people import Life, standing
from tests.store.test_merges import ORG, merge_of, two, undo_of

pytestmark = pytest.mark.anyio

STATES = st.sampled_from([("active", "event"), ("active", "timer"), ("active", "order"), ("completed", "timer")])
PATHS = st.sampled_from(["city", "country", "custom.plan", "custom.deep.er", "custom.deep", "custom.seats"])
VALUES = st.one_of(st.sampled_from(["a", "b"]), st.integers(0, 2), st.booleans())


@st.composite
def lives(draw: st.DrawFn) -> Life:
    fields: dict[str, Any] = {
        path: str(value) if path in ("city", "country") else value
        for path, value in draw(st.dictionaries(PATHS, VALUES, max_size=4)).items()
    }
    if "custom.deep" in fields:
        fields.pop("custom.deep.er", None)
    for name in draw(st.sets(st.sampled_from(["email", "phone", "unsubscribed"]))):
        fields[name] = {"unsubscribed": draw(st.booleans())}.get(name, name)
    keys = draw(st.sets(st.tuples(st.sampled_from("wxy"), st.sampled_from(["", "k"])), max_size=4))
    answers = st.dictionaries(
        st.tuples(st.sampled_from(["email", "*"]), st.sampled_from(["news", "*"])), st.booleans(), max_size=3
    )
    return Life(
        fields,
        lists=frozenset(draw(st.sets(st.sampled_from(["vip", "beta", "old"])))),
        enrollments=[(*key, *draw(STATES)) for key in sorted(keys)],
        consents=draw(answers),
        leads=draw(st.integers(0, 2)),
        events=draw(st.integers(0, 3)),
        messages=draw(st.integers(0, 2)),
    )


def _own(life: Life, number: int) -> Life:
    """Give a life addresses of its own."""
    own = {"email": f"p{number}@example.com", "phone": f"+44 20 7946 {1000 + number}"}
    fields = {name: own.get(name, value) for name, value in life.fields.items()}
    return Life(fields, (), life.lists, life.enrollments, life.consents, life.leads, life.events, life.messages)


_serial = itertools.count()


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(one=lives(), other=lives())
async def test_a_merge_and_its_undoing_leave_the_database_as_it_was(
    database: Database, clock: ManualClock, one: Life, other: Life
) -> None:
    org = f"org_{next(_serial)}"
    kept, merged = await two(database, _own(one, 1), _own(other, 2), org)
    before = await standing(database, org)
    row = await merge_of(database, kept, merged, org)
    assert (await undo_of(database, row.id, org)).conflicts == []
    assert await standing(database, org) == before
    again = await merge_of(database, kept, merged, org)  # and it can be done, and undone, again
    assert again.moved_counts == row.moved_counts
    await undo_of(database, again.id, org)
    assert await standing(database, org) == before


@pytest.mark.parametrize("answered", [False, True])
async def test_an_answer_given_anew_since_stays_and_the_stricter_one_is_the_others(
    answered: bool, database: Database, clock: ManualClock
) -> None:
    kept, merged = await two(database, Life(), Life(consents={("email", "news"): not answered}))
    row = await merge_of(database, kept, merged)
    clock.advance(timedelta(days=1))
    async with database.write(ORG) as tx:
        said = {"actor": "one_click", "reason": "said so", "cause": "message:msg_1"}
        await consent.answer(tx, kept, "email", "news", answered, **said)
    undone = await undo_of(database, row.id)
    told = f"was given anew since the merge: it is {kept}'s, and {merged} has the stricter of both."
    assert undone.conflicts == [f"The answer about news by email {told}"]
    async with database.read(ORG) as tx:
        found = await tx.all(select(consents))
    assert {one.contact_id: one.granted for one in found} == {kept: answered, merged: False}


async def test_many_events_that_are_kept_no_more_are_told_in_one_sentence(database: Database) -> None:
    kept, merged = await two(database, Life(), Life(events=12))
    row = await merge_of(database, kept, merged)
    async with database.write(ORG) as tx:
        await tx.run(delete(events.events).where(events.events.c.contact_id == kept))
    (told,) = (await undo_of(database, row.id)).conflicts
    assert told.startswith("12 events have changed or gone since the merge")
