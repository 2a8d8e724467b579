"""Every method of the contract, over gRPC and over HTTP with the same expectations: good calls and typical refusals."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from core.clock import ManualClock
from core.demo.setting import document
from core.rpc.methods import Access, Method, table
from core.store.control.audit import audit_entries
from core.store.events import refusing
from core.store.events.refusing import Said as Refused
from core.store.messages import suppressions
from tests.contract import refusals
from tests.contract.asking import Grpc, Http, Said, Way, ways
from tests.contract.case_files import Case, all_cases, at, differs, filled
from tests.contract.refusals import Refusal
from tests.databases import Databases
from tests.receiver import receiving
from tests.running import RunningCore, running
from tests.story import tell

pytestmark = pytest.mark.anyio

METHODS = {method.name: method for method in table()}
MARKER = "case"
ROUTING = "title: Everybody\ncatch_all: {members: [ada@example.com, bob@example.com]}\n"
EVERY = "DRIPSTONE_CASES" in os.environ
"""Whether every refusal and every trial comes both ways (`make cases`); else each method's come by one of the ways."""
TURN = {name: number for number, name in enumerate(sorted(METHODS))}
ONLY_GRPC = {"EventService.StreamEvents", "WebhookService.StreamMessages"}
"""HTTP has one body a request."""


@dataclass(slots=True)
class Stage:
    """A running core with the story told, and what went wrong so far."""

    core: RunningCore
    variables: Mapping[str, Any]
    grpc: Grpc
    http: Http
    wrong: list[str] = field(default_factory=list)
    carried_out: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Idempotency key of a good write to its method and way."""

    def key(self, who: str) -> str:
        keys = {"service": self.core.api_key, "agent": self.core.agent_key, "approver": self.core.approver_api_key}
        return keys[who]

    def fault(self, case: str, way: str, what: str) -> None:
        self.wrong.append(f"{case} by {way}: {what}")


@asynccontextmanager
async def staged(url: str, tmp_path: Path, clock: ManualClock) -> AsyncIterator[Stage]:
    async with receiving() as receiver, running(url, tmp_path, clock, requests_per_second=1e6) as core:
        told = await tell(core, receiver.url, MARKER)
        await core.core.outward.sealer.turn()
        variables = {
            **asdict(told),
            "marker": MARKER,
            "receiver": receiver.url,
            "model_source": document("default-model.yaml"),
            "routing_source": ROUTING,
        }
        async with ways(core.grpc_target, core.http_url) as transports:
            yield Stage(core, variables, *transports)


def test_every_method_has_a_good_call() -> None:
    good = {case.method for case in all_cases() if case.refused is None}
    assert {case.method for case in all_cases()} <= set(METHODS)
    assert sorted(set(METHODS) - good) == []


@pytest.fixture
def migrated_sqlite(tmp_path: Path, databases: Databases) -> str:
    return databases.on_sqlite(tmp_path / "dripstone.db", "migrated")


@pytest.fixture
def migrated_postgresql(postgresql_server: str, databases: Databases) -> Iterator[str]:
    with databases.on_postgresql(postgresql_server, "migrated") as url:
        yield url


async def test_every_case_is_answered_alike_over_grpc_and_http(
    migrated_sqlite: str, tmp_path: Path, clock: ManualClock
) -> None:
    async with staged(migrated_sqlite, tmp_path, clock) as stage:
        for method in METHODS.values():
            for way in _sampled(method, stage):
                for refusal in refusals.of_shape(method, way.name) if not method.client_streaming else ():
                    await _refused(stage, way, method, refusal, "service")
        await _run(stage, all_cases())
        await _audited(stage)
        assert stage.wrong == [], "\n".join(["", *stage.wrong])


async def test_a_sample_of_the_cases_is_answered_alike_on_postgresql(
    migrated_postgresql: str, tmp_path: Path, clock: ManualClock
) -> None:
    async with staged(migrated_postgresql, tmp_path, clock) as stage:
        await _run(stage, [case for case in all_cases() if case.also == "postgresql"])
        await _audited(stage)
        assert stage.wrong == [], "\n".join(["", *stage.wrong])


async def _run(stage: Stage, cases: Sequence[Case]) -> None:
    for case in cases:
        method = METHODS[case.method]
        for way in _ways_of(method, stage):
            try:
                await _case(stage, way, method, case)
            except Exception as error:
                stage.fault(case.name, way.name, f"{type(error).__name__}: {str(error)[:300]}")


def _ways_of(method: Method, stage: Stage) -> Sequence[Way]:
    return [stage.grpc] if method.name in ONLY_GRPC else [stage.grpc, stage.http]


def _sampled(method: Method, stage: Stage) -> Sequence[Way]:
    """Return the ways by which a method's refusals come: both, or one of them in turn."""
    ways_of = _ways_of(method, stage)
    return ways_of if EVERY else [ways_of[TURN[method.name] % len(ways_of)]]


async def _case(stage: Stage, way: Way, method: Method, case: Case) -> None:
    variables = await _before(stage, way, case)
    request = filled(case.request, variables)
    key = stage.key(case.by)
    if case.refused is not None:
        _compare(stage, way, case.name, await way.ask(method, request, key), Refusal("", None, **_expected(case)))
        return
    sampled = way in _sampled(method, stage)
    for refusal in refusals.of_good_call(method, request, case.without) if sampled else ():
        await _refused(stage, way, method, refusal, case.by)
    dry = way.name == "grpc" and "dry" not in case.without
    if dry and "validate_only" in method.request_class.DESCRIPTOR.fields_by_name:
        said = await way.ask(method, {**request, "validate_only": True}, key)
        if said.code:
            stage.fault(case.name, way.name, f"tried out: {said.code} {said.reason} {said.message}")
    if method.key_field and not request.get(method.key_field):
        request = {**request, method.key_field: f"case-{case.method}.{case.number}-{way.name}"}
    said = await way.ask(method, request, key, take=case.take)
    if said.code:
        details = dict(said.violations)
        stage.fault(case.name, way.name, f"{said.code} {said.reason} {said.message} {details or ''}")
        return
    if problem := differs(filled(case.answer, variables), said.answer) if case.answer is not None else "":
        stage.fault(case.name, way.name, problem)
    if case.file and not said.raw:
        stage.fault(case.name, way.name, f"the answer is no file: {str(said.answer)[:200]}")
    if method.access is Access.WRITE:
        stage.carried_out[request[method.key_field]] = (case.method, way.name)
        if way.name == "http" and "replay" not in case.without:
            again = await way.ask(method, request, key)
            if again.code or not again.replayed:
                stage.fault(case.name, way.name, f"repeated under its key: {again.code or 'carried out again'}")


async def _before(stage: Stage, way: Way, case: Case) -> dict[str, Any]:
    """Carry out what a case needs first, and return what its names stand for."""
    variables = {**stage.variables, "via": way.name}
    for step in case.before:
        request = filled(step.request, variables)
        if step.call == "turn":
            stage.core.clock.advance(timedelta(minutes=request.get("minutes", 0)))
            await stage.core.settle()
            await stage.core.core.outward.sealer.turn()
            continue
        if step.call == "posted":
            answer = (await stage.http.http.post(request["path"], json=request["body"])).json()
        elif step.call == "bounced":
            answer = {"id": await _bounced(stage.core, request["address"])}
        else:
            said = await stage.grpc.ask(METHODS[step.call], request, stage.key(step.by))
            if said.reason != step.refused:
                raise LookupError(f"{step.call} beforehand: {said.code} {said.reason} {said.message}")
            answer = said.answer
        variables |= {name: at(answer, path) for name, path in step.keep.items()}
    return variables


async def _bounced(core: RunningCore, address: str) -> str:
    """Have an address give a message back, and return the suppression that follows."""
    async with core.core.database.write(core.organization.org_id) as tx:
        await refusing.bounce(tx, Refused("recipient_server", f"message:{address}", address=address), hard=True)
        (suppression,) = await suppressions.standing(tx, "", [suppressions.key_of(tx, "email", address)])
    return str(suppression.id)


def _expected(case: Case) -> dict[str, Any]:
    assert case.refused is not None
    fields = {case.refused["field"]: ""} if "field" in case.refused else {}
    return {"code": case.refused["code"], "reason": case.refused.get("reason", ""), "violations": fields}


async def _refused(stage: Stage, way: Way, method: Method, refusal: Refusal, by: str) -> None:
    said = await way.ask(method, refusal.request, stage.key(by) if refusal.key else "")
    _compare(stage, way, f"{method.name} {refusal.what}", said, refusal)


def _compare(stage: Stage, way: Way, name: str, said: Said, refusal: Refusal) -> None:
    """Note where a refusal is another one than expected; the bare form of capture routes tells no reasons."""
    if isinstance(said.message, str) and said.code and not said.reason and way.name == "http":
        return
    wrong = said.code != refusal.code or (refusal.reason and said.reason != refusal.reason)
    for one, reason in refusal.violations.items():
        wrong = wrong or one not in said.violations or (reason and said.violations[one] != reason)
    if wrong:
        found = f"{said.code or said.answer} {said.reason} {said.message} {dict(said.violations) or ''}"
        expected = f"{refusal.code} {refusal.reason} {dict(refusal.violations) or ''}"
        stage.fault(name, way.name, f"expected {expected}, got {found[:400]}")


async def _audited(stage: Stage) -> None:
    """Every good write has left one entry, told by its key, however often it was tried out or repeated."""
    async with stage.core.core.database.read(stage.core.organization.org_id) as tx:
        rows = await tx.all(select(audit_entries).where(audit_entries.c.request_id.like("case-%")))
    entries = sorted((row.request_id, row.method, row.surface) for row in rows)
    expected = sorted((key, method, way) for key, (method, way) in stage.carried_out.items())
    for entry in {*entries, *expected}:
        if entries.count(entry) != expected.count(entry):
            stage.fault(entry[1], entry[2], f"{entries.count(entry)} audit entries, not {expected.count(entry)}")
