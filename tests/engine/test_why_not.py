"""Why a contact is not in a workflow, gathered from what the engine left behind."""

from __future__ import annotations

from datetime import timedelta

import pytest

from core.clock import ManualClock
from core.domain.errors import NotFound, NotPublished
from core.domain.workflow.why_not import WhyNot
from core.engine.why_not import explain
from core.store.database import Database
from core.store.workflows import entries, missed_firings, pausing, workflows
from tests.engine.parts import ORG, Parts

pytestmark = pytest.mark.anyio


@pytest.fixture
async def parts(database: Database, clock: ManualClock) -> Parts:
    made = Parts(database, clock)
    await made.begin()
    return made


async def asked(parts: Parts, contact_id: str, workflow_id: str = "w") -> WhyNot:
    async with parts.database.read(ORG) as tx:
        return await explain(tx, parts.versions, workflow_id, contact_id)


def rules(answer: WhyNot) -> list[tuple[str, bool]]:
    return [(reason.rule, reason.holds) for reason in answer.reasons]


async def test_refusals_triggers_and_rules_are_told_together(parts: Parts) -> None:
    await parts.publish(
        "entry: {when: contact.employees > 10, suppress_lists: [customers]}\n"
        "triggers: [{event: trial.started, when: event.fields.plan == 'pro'}, {source: Web form, event: form.sent}]"
    )
    ada = await parts.contact("ada@example.com", employees=5)
    await parts.put_on("customers", ada)
    for plan in ("free", "pro", "pro"):
        await parts.send("trial.started", "ada@example.com", plan=plan)
    await parts.send("page.viewed", "ada@example.com")
    await parts.settle()
    answer = await asked(parts, ada)
    assert answer.verdict == "kept_out"
    assert answer.summary == "The contact is on customers, which this workflow leaves out."
    assert rules(answer) == [
        ("suppression", False),
        ("entry", False),
        ("trigger", True),
        ("trigger", True),
        ("trigger", False),
        ("attempt", False),
    ]
    assert "(2 times, last at 2026-03-02 09:00 UTC, for event:evt_" in answer.reasons[-1].sentence
    await parts.put_on("customers", ada, on=False)
    await parts.change(ada, employees=50)
    assert (await asked(parts, ada)).verdict == "may_enter"
    await parts.send("form.sent", "ada@example.com")
    await parts.settle()
    assert (await asked(parts, ada)).verdict == "enrolled"


async def test_a_change_is_judged_as_things_were_then(parts: Parts) -> None:
    await parts.publish("triggers: [{record: contact, on: changed, when: 'contact.city == \"Bonn\"'}]")
    ada = await parts.contact("ada@example.com", city="Köln")
    await parts.send("start", "ada@example.com")
    for city in ("Bonn", "Ulm"):
        parts.clock.advance(timedelta(seconds=1))
        await parts.change(ada, city=city)
    looks = [reason.holds for reason in (await asked(parts, ada)).reasons if reason.rule == "trigger"]
    assert looks == [False, True, False]  # the newest first; the last one is the creation


async def test_a_pool_says_who_is_before_one_and_a_schedule_whom_it_leaves_out(parts: Parts) -> None:
    first, second, eve = [await parts.contact(f"{name}@example.com", country="DE") for name in ("a", "b", "c")]
    await parts.put_on("pros", first, second)
    await parts.change(first, country="US")
    await parts.publish("triggers: [{pool: {per_day: 1, at: '09:00'}, audience: {list: pros}}]")
    await parts.publish("triggers: [{schedule: {cron: '0 9 * * mon'}, audience: {filter: 'country = DE'}}]", "s")
    next_of_pool, next_of_schedule = (
        "Tuesday 2026-03-03 09:00 (Europe/Berlin)",
        "Monday 2026-03-09 09:00 (Europe/Berlin)",
    )
    in_line, schedule = "and the pool of 1 a day has it in line:", "the schedule 0 9 * * mon"
    expected = {
        (first, "w"): f"{in_line} it is the next, and its turn is on {next_of_pool} at the latest",
        (second, "w"): f"{in_line} 1 contact is before it, and its turn is on Wednesday",
        (eve, "w"): f"but the pool of 1 a day, which comes round next on {next_of_pool}, does not take it: "
        "it is not on the list pros.",
        (first, "s"): f"but {schedule}, which comes round next on {next_of_schedule}, does not take it: "
        "country = DE does not hold (contact.country is US).",
        (second, "s"): f"and {schedule} takes it on {next_of_schedule}",
    }
    for (contact, workflow), told in expected.items():
        answer = await asked(parts, contact, workflow)
        assert (answer.verdict, told in answer.summary) == ("may_enter", True), answer.summary
    await parts.pass_time(timedelta(days=1))
    assert (await asked(parts, first)).verdict == "enrolled"
    told = (await asked(parts, first)).reasons[-1]
    assert (told.holds, "takes nobody who has been in the workflow" in told.sentence) == (False, True)
    assert "It came round last on Tuesday 2026-03-03 10:00 (Europe/Berlin) and enrolled 1." in told.sentence
    assert "it is the next, and its turn is on Wednesday" in (await asked(parts, second)).summary
    async with parts.database.write(ORG) as tx:
        await pausing.pause(tx, ORG, "w", "look", "key_1")
    for _ in range(2):
        await parts.pass_time(timedelta(days=1))
    told = (await asked(parts, second)).reasons[-1]
    assert told.sentence.endswith(
        "It came round 2 times in this pause, last on Thursday 2026-03-05 09:00 (Europe/Berlin); "
        "resuming says what becomes of it."
    )
    async with parts.database.write(ORG) as tx:
        row = await workflows.get(tx, "w")
        assert row is not None
        version = await parts.versions.load(tx, ORG, "w", 1)
        missed = await missed_firings.of(tx, version, "skip_overdue", row.paused_at, lock=True)
        await missed_firings.resolve(tx, "w", missed, "skip_overdue")
        await pausing.resume(tx, row, "skip_overdue")
    assert "which the resumption left out" in (await asked(parts, second)).summary


async def test_refusals_are_forgotten_after_thirty_days(parts: Parts) -> None:
    await parts.publish("triggers: [{event: start}]")
    ada = await parts.contact("ada@example.com", unsubscribed=True)
    await parts.send("start", "ada@example.com")
    await parts.settle()
    async with parts.database.read(ORG) as tx:
        (refusal,) = await entries.of_contact(tx, "w", ada)
    assert (refusal.reason, refusal.outcome, refusal.times) == ("UNSUBSCRIBED", "suppressed", 1)
    parts.clock.advance(timedelta(days=31))
    async with parts.database.system() as tx:
        assert await entries.forget_old(tx, tx.now) == 1
    async with parts.database.read(ORG) as tx:
        assert await entries.of_contact(tx, "w", ada) == []


async def test_what_is_not_there_cannot_be_asked_about(parts: Parts) -> None:
    await parts.publish("triggers: [{event: start}]")
    ada = await parts.contact("ada@example.com")
    company = await parts.company(name="Acme")
    async with parts.database.write(ORG) as tx:
        await workflows.create(tx, "draft", title="", source="", document={})
    for contact, workflow, error in (
        (ada, "gone", NotFound), (ada, "draft", NotPublished), ("cnt_gone", "w", NotFound), (company, "w", NotFound),
    ):  # fmt: skip
        with pytest.raises(error):
            await asked(parts, contact, workflow)
