"""Scoring models as callers meet them: versions and which is in use, doubts, and what QualifyLead makes of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from core.domain.errors import EtagMismatch, Invalid, NotFound, PlanStale
from core.domain.records.definitions import Definition, FieldKind
from core.rpc.call import Call, Caller
from core.rpc.convert import from_value, to_timestamp, to_value
from core.rpc.qualification import backtesting, batch_scoring, scoring_models
from core.store.control import usage
from core.store.database import Database
from core.store.events import events
from core.store.metadata import day_of
from core.store.records import record_schema, records
from dripstone.v1 import qualification_pb2 as pb
from tests.rpc.qualifying_calls import HOT, MODEL, ORG, WARM, Service, changes

pytestmark = [pytest.mark.anyio, pytest.mark.one_database]


async def publish(service: Service, source: str, **values: Any) -> pb.ScoringModel:
    request = pb.PublishScoringModelRequest(model_id="default", source=source, **values)
    model: pb.ScoringModel = await service(scoring_models.publish_scoring_model, request)
    return model


async def versions(service: Service, **values: Any) -> pb.ListScoringModelVersionsResponse:
    request = pb.ListScoringModelVersionsRequest(model_id="default", **values)
    page: pb.ListScoringModelVersionsResponse = await service(scoring_models.list_scoring_model_versions, request)
    return page


async def test_a_version_beside_the_active_one_is_used_only_where_it_is_named(service: Service) -> None:
    generous = MODEL.replace("points: 40", "points: 60")
    second = await publish(service, generous, keep_active_version=True)
    assert (second.version, second.active) == (2, False)
    plan = await service.preview(email="a@example.com", fields=WARM)
    tried = await service.preview(email="a@example.com", fields=WARM, model_version=2)
    assert [(one.model_version, one.score) for one in (plan, tried)] == [(1, 60), (2, 70)]
    await service(scoring_models.activate_scoring_model, pb.ActivateScoringModelRequest(model_id="default", version=2))
    assert (await service.preview(email="a@example.com", fields=WARM)).model_version == 2
    listed = [(one.version, one.active, one.source) for one in (await versions(service)).versions]
    assert listed == [(2, True, ""), (1, False, "")]
    assert (await publish(service, MODEL)).active


async def test_versions_come_in_pages(service: Service) -> None:
    for _ in range(4):
        await publish(service, MODEL)
    first = await versions(service, page_size=3)
    rest = await versions(service, page_size=3, page_token=first.next_page_token)
    assert [one.version for one in (*first.versions, *rest.versions)] == [5, 4, 3, 2, 1]
    assert rest.next_page_token == ""


async def test_a_model_or_version_that_is_not_there_is_told_with_those_that_are(service: Service) -> None:
    for request in (
        pb.ActivateScoringModelRequest(model_id="default", version=9),
        pb.ActivateScoringModelRequest(model_id="dfault", version=1),
    ):
        with pytest.raises(NotFound) as caught:
            await service(scoring_models.activate_scoring_model, request)
        assert "default" in caught.value.way_out
    with pytest.raises(NotFound):
        await service.preview(email="a@example.com", model_version=7)


async def test_everything_wrong_and_doubtful_comes_with_its_line(service: Service) -> None:
    async def checked(source: str) -> pb.ValidateScoringModelResponse:
        request = pb.ValidateScoringModelRequest(source=source)
        answer: pb.ValidateScoringModelResponse = await service(scoring_models.validate_scoring_model, request)
        return answer

    wrong = await checked(MODEL.replace("employees >= 50", "emplyees >= 50"))
    assert [(one.path, one.line, one.hint) for one in wrong.problems] == [
        ("fit.rules[0].when", 11, "Did you mean contact.employees?")
    ]
    missing = await checked(MODEL + "on_tier: {A: {enroll: nowhere}}\n")
    assert [(one.path, one.reason) for one in missing.problems] == [("on_tier.A.enroll", "UNKNOWN_WORKFLOW")]
    doubted = await checked(MODEL.replace("bob@example.com", "bo@example.com"))
    assert (len(doubted.problems), [(one.path, one.line) for one in doubted.warnings]) == (
        0,
        [("engagement.cap", 15), ("routing.members[1]", 19)],
    )
    with pytest.raises(Invalid):
        await publish(service, MODEL + "routing_: x\n")


async def test_own_fields_are_compared_by_the_kinds_they_had_when_it_was_published(
    service: Service, database: Database
) -> None:
    ends = Definition("ends", FieldKind.DATE)
    async with database.write(ORG) as tx:
        await record_schema.put_field(tx, "contact", ends, 1, by="key_1")
    asks = MODEL.replace("contact.employees >= 50", 'contact.custom.ends < timestamp("2027-01-01T00:00:00Z")')
    with pytest.raises(Invalid) as refused:
        await publish(service, MODEL.replace("contact.employees >= 50", 'contact.custom.ends < "2027"'))
    assert [(one.field, one.reason) for one in refused.value.violations] == [("fit.rules[0].when", "EXPRESSION_TYPE")]
    await publish(service, asks)
    async with database.write(ORG) as tx:
        await record_schema.put_field(tx, "contact", replace(ends, archived=True), 1, by="key_1")
    contact = await service.contact("ends@example.com", custom={"ends": "2026-12-01"})
    scored = await service.preview(lead_id=contact)
    assert ("size", 40) in {(one.rule_id, one.points) for one in scored.contributions}


async def test_claims_count_for_one_qualification_and_are_never_written(service: Service, database: Database) -> None:
    contact = await service.contact("ida@example.com", country="DE")
    claims = [
        pb.Evidence(path="contact.employees", value=to_value(120), source="https://x.example", confidence=0.9),
        pb.Evidence(path="contact.job_title", value=to_value("Head"), source="a guess", confidence=0.3),
        pb.Evidence(path="contact.country", value=to_value("FR"), source="https://x.example", confidence=0.9),
    ]
    plan = await service.preview(lead_id=contact, evidence=claims)
    assert [one.path for one in plan.used_claims] == ["contact.employees"]
    assert sorted(one.path for one in plan.ignored_claims) == ["contact.country", "contact.job_title"]
    (size,) = [one for one in plan.contributions if one.rule_id == "size"]
    assert [(one.path, one.claimed, one.source) for one in size.inputs] == [
        ("contact.employees", True, "https://x.example")
    ]
    done = await service.commit(plan_id=plan.plan_id, evidence=claims)
    assert (done.applied, done.score) == (True, 60)
    assert "employees" not in await service.fields_of(contact)
    async with database.read(ORG) as tx:
        rows = await tx.all(select(records.record_changes.c.field))
    assert "employees" not in {row.field for row in rows}


async def test_a_claim_that_a_fact_has_overtaken_makes_the_plan_stale(service: Service) -> None:
    contact = await service.contact("ida@example.com", country="DE")
    claims = [pb.Evidence(path="contact.employees", value=to_value(120), source="https://x.example", confidence=0.9)]
    plan = await service.preview(lead_id=contact, evidence=claims)
    await service.change(contact, employees=90)
    with pytest.raises(PlanStale, match="claims that count"):
        await service.commit(plan_id=plan.plan_id)
    other = [pb.Evidence(path="contact.city", value=to_value("X"), source="s", confidence=1)]
    with pytest.raises(Invalid, match="evidence"):
        await service.commit(plan_id=plan.plan_id, evidence=other)


async def test_what_would_move_the_lead_is_told(service: Service) -> None:
    contact = await service.contact("ida@example.com", **{**WARM, "employees": 49})
    plan = await service.preview(lead_id=contact)
    told = {one.path: (from_value(one.value), from_value(one.would_be), one.tier) for one in plan.counterfactuals}
    assert told["contact.employees"] == (49, 50, "B")
    assert told["event:demo.requested"] == (0, 1, "B")


async def test_a_lead_that_has_changed_since_is_refused_by_its_etag(service: Service, database: Database) -> None:
    contact = await service.contact("ida@example.com", **WARM)
    first = await service.commit(lead_id=contact)
    async with database.read(ORG) as tx:
        lead = await records.get(tx, first.lead_id)
    assert lead is not None
    plan = await service.preview(lead_id=first.lead_id, etag=lead.etag)
    await service.change(first.lead_id, source="fair")
    with pytest.raises(EtagMismatch):
        await service.preview(lead_id=first.lead_id, etag=lead.etag)
    with pytest.raises(EtagMismatch):
        await service.commit(plan_id=plan.plan_id, etag=lead.etag)


async def test_coming_into_a_tier_notes_its_event_once(service: Service, database: Database) -> None:
    await publish(service, MODEL.replace("approval:", "on_tier: {B: {event: lead.warm}}\napproval:"))
    contact = await service.contact("ida@example.com", **WARM)
    plan = await service.preview(lead_id=contact)
    assert [(one.kind, one.subject_id) for one in plan.planned_effects] == [
        ("assign", "mem_ada"),
        ("event", "lead.warm"),
    ]
    await service.commit(plan_id=plan.plan_id)
    again = await service.commit(lead_id=contact)
    assert not again.planned_effects
    async with database.read(ORG) as tx:
        noted = [one.fields for one in await events.newest_of(tx, contact, 10) if one.name == "lead.warm"]
    assert noted == [{"lead_id": again.lead_id, "decision": "qualified", "score": 60, "tier": "B"}]


async def test_a_demand_for_an_approval_is_among_the_effects(service: Service) -> None:
    plan = await service.preview(email="ida@example.com", fields=HOT)
    assert [one.kind for one in plan.planned_effects] == ["approval", "assign"]
    assert changes(plan)["tier"] == "A"


async def stream(service: Service, handler: Any, request: Any) -> list[Any]:
    """Return everything that a handler streams."""
    answers: AsyncIterator[Any] = handler(
        request, Call(Caller(ORG, "key_1", "service", "", frozenset()), service.clock.now(), service.parts, "req", {})
    )
    return [one async for one in answers]


async def test_many_leads_are_scored_as_each_would_be_alone(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.store.qualification.lead_facts.AT_ONCE", 2)
    made = {}
    people: tuple[dict[str, Any], ...] = (HOT, WARM, {"industry": "competitor"}, {}, WARM)
    for number, fields in enumerate(people):
        contact = await service.contact(f"p{number}@example.com", **fields)
        async with service.database.write(ORG) as tx:
            lead = (await records.upsert(tx, "lead", {"contact_id": contact}, actor="k", cause="c")).record
        made[lead.id] = contact
    answers = await stream(service, batch_scoring.score_leads, pb.ScoreLeadsRequest())
    assert [(one.done_count, one.total_count) for one in answers] == [(2, 5), (4, 5), (5, 5)]
    scores = [one for answer in answers for one in answer.scores]
    assert [one.lead_id for one in scores] == sorted(made, reverse=True)
    for one in scores:
        alone = await service.preview(lead_id=one.lead_id)
        assert (one.contact_id, one.score, one.tier, one.confidence) == (
            made[one.lead_id], alone.score, alone.tier, alone.confidence,
        )  # fmt: skip
        assert one.decision == alone.pending_decision or one.decision == alone.decision
    few = await stream(service, batch_scoring.score_leads, pb.ScoreLeadsRequest(limit=3))
    assert sum(len(one.scores) for one in few) == 3
    async with service.database.read(ORG) as tx:
        (line,) = await usage.lines(tx, ORG, usage.PRINCIPAL, day_of(tx.now), day_of(tx.now))
    assert line.counts["scored"] == 8
    none = await stream(service, batch_scoring.score_leads, pb.ScoreLeadsRequest(filter='status = "closed"'))
    assert [(one.done_count, len(one.scores)) for one in none] == [(0, 0)]


async def test_named_leads_that_are_not_there_come_with_an_error(service: Service) -> None:
    contact = await service.contact("p@example.com", **WARM)
    lead_id = (await service.commit(lead_id=contact)).lead_id
    request = pb.ScoreLeadsRequest(lead_ids=[lead_id, "lead_nobody"])
    first, last = await stream(service, batch_scoring.score_leads, request)
    assert [(one.lead_id, one.score) for one in first.scores] == [(lead_id, 60)]
    assert [(one.lead_id, one.error) for one in last.scores] == [("lead_nobody", "There is no such lead.")]
    with pytest.raises(Invalid):
        await stream(service, batch_scoring.score_leads, pb.ScoreLeadsRequest(lead_ids=["x"], filter="a = 1", limit=-1))


async def test_a_trial_scores_each_lead_by_what_was_known_then(service: Service) -> None:
    for number in range(6):
        good = number % 2 == 0
        contact = await service.contact(f"p{number}@example.com", country="DE", employees=90 if good else 9)
        async with service.database.write(ORG) as tx:
            said = {"status": "converted"} if number == 0 else {}  # as an import says it, with everything else
            lead = (await records.upsert(tx, "lead", {"contact_id": contact, **said}, actor="k", cause="c")).record
        service.clock.advance(timedelta(days=10))
        await service.change(contact, employees=9 if good else 90)  # later than the moment: must not be read
        service.clock.advance(timedelta(days=1))
        await service.change(lead.id, status="converted" if good else "closed")
    await service.contact("open@example.com")
    await service.commit(email="open@example.com")
    generous = MODEL.replace("contact.employees >= 50, points: 40", "contact.employees >= 50, points: 70")
    known_at_the_end = "{id: won, when: 'lead.status == \"converted\"', points: 5}"
    generous = generous.replace("  rules:\n    - {id: size", f"  rules:\n    - {known_at_the_end}\n    - {{id: size")
    request = pb.BacktestModelRequest(source=generous, outcome_field="lead.status")
    *progress, last = await stream(service, backtesting.backtest_model, request)
    result = last.result
    assert progress[-1].done_count == last.done_count == 7
    assert (result.lead_count, result.positive_count, result.auc, result.left_out_count) == (6, 3, 1.0, 1)
    assert [(one.tier, one.count, one.positive_count) for one in result.calibration_rows] == [
        ("A", 3, 3), ("B", 0, 0), ("C", 3, 0),
    ]  # fmt: skip
    assert [(one.from_tier, one.to_tier, one.count) for one in result.tier_moves] == [("B", "A", 3)]
    assert result.mean_score_change == 5.0
    assert list(result.unmet_rules) == ["won", "title", "demo", "competitor"]
    just_before = pb.BacktestModelRequest(source=generous, outcome_field="status")
    just_before.lead_time.FromSeconds(0)
    (*_, last) = await stream(service, backtesting.backtest_model, just_before)
    assert last.result.auc == 0.0  # by then, it was the other way round
    just_before.lead_time.FromTimedelta(timedelta(days=12))
    (*_, last) = await stream(service, backtesting.backtest_model, just_before)
    assert (last.result.lead_count, last.result.left_out_count, last.result.HasField("auc")) == (0, 7, False)


@pytest.mark.parametrize(
    ("values", "fields"),
    [
        ({"outcome_field": "lead.stats"}, ["outcome_field"]),
        ({"outcome_field": "custom.won", "limit": 100_001, "version": -1}, ["version", "limit"]),
        ({"outcome_field": "contact.custom.won", "source": MODEL, "version": 1}, ["version"]),
        ({"outcome_field": "status", "source": "title: x"}, None),
    ],
)
async def test_a_trial_of_nonsense_is_refused(
    service: Service, values: dict[str, Any], fields: list[str] | None
) -> None:
    with pytest.raises(Invalid) as caught:
        await stream(service, backtesting.backtest_model, pb.BacktestModelRequest(**values))
    if fields is not None:
        assert [one.field for one in caught.value.violations] == fields


async def test_an_instant_to_come_is_refused(service: Service) -> None:
    later = to_timestamp(service.clock.now() + timedelta(seconds=1))
    with pytest.raises(Invalid, match="later than now"):
        await stream(service, batch_scoring.score_leads, pb.ScoreLeadsRequest(as_of=later))
