"""What delivering webhooks costs beside a bare loop of POSTs, how soon they leave, what bad receivers do to good."""

from __future__ import annotations

from statistics import median
from typing import Any

from core.store.webhooks.delivery_turns import AT_ONCE
from tests.bench.figures import Aim, Figure
from tests.bench.session import LABELS, Session

_ENDPOINTS = 40
_CONNECTIONS = _ENDPOINTS * AT_ONCE
"""Of the bare loop: as many as the dispatcher keeps for so many endpoints."""

_FEW = 64
"""Connections with which a bare loop is cheapest; told beside."""

_RATE = 100.0
_BAD = 0.1
"""A tenth hangs, a tenth answers 500, a tenth has a name that nobody resolves."""

_AIM = Aim("ratio", ">=", 0.5)
_FAIR = Aim("ratio", "<=", 2.0)


async def measure(session: Session) -> None:
    """Measure deliveries for each second of CPU, plain and over TLS, then the time from commit to first attempt."""
    for kind in session.options.databases:
        for tls in (False, True):
            await _throughput(session, kind, tls)
        told = await _latency(session, kind, bad=0.0)
        for name in ("p50", "p99"):
            what = f"commit to first attempt, {name}"
            session.add(
                Figure("webhooks", what, LABELS[kind], told[name] * 1e3, "ms", note=f"{told['count']} messages")
            )


async def measure_fairness(session: Session) -> None:
    """Measure how long healthy endpoints wait while three tenths of all are bad, against a run where none is."""
    for kind in session.options.databases:
        clean = [await _latency(session, kind, bad=0.0) for _ in range(session.options.rounds)]
        mixed = [await _latency(session, kind, bad=_BAD) for _ in range(session.options.rounds)]
        for name, aim in (("p50", None), ("p99", _FAIR)):
            samples = tuple(one[name] * 1e3 for one in mixed)
            session.add(
                Figure(
                    "endpoints", f"healthy endpoints beside 30 % bad ones, first attempt {name}", LABELS[kind],
                    median(samples), "ms", "ms with none", median(one[name] for one in clean) * 1e3, aim, samples,
                    note=f"{sum(one['missing'] for one in mixed)} missing",
                )
            )  # fmt: skip


async def _throughput(session: Session, kind: str, tls: bool) -> None:
    bare: list[dict[str, Any]] = []
    few: list[dict[str, Any]] = []
    ours: list[dict[str, Any]] = []
    for _ in range(session.options.rounds):
        for told, concurrency in ((bare, _CONNECTIONS), (few, _FEW)):
            seconds = session.options.seconds / 2
            told.append(await _job(session, kind, "bare", tls, concurrency=concurrency, seconds=seconds))
        ours.append(
            await _job(session, kind, "throughput", tls, count=session.options.deliveries, endpoints=_ENDPOINTS)
        )
    over = "over TLS" if tls else "plain"
    for key, unit in (("per_cpu_second", "a second of CPU"), ("per_second", "a second")):
        samples = tuple(one[key] for one in ours)
        with_few = median(one[key] for one in few)
        session.add(
            Figure(
                "webhooks", f"deliveries, {over}, {unit}", LABELS[kind], median(samples), "/s",
                f"POSTs/s, bare aiohttp, {_CONNECTIONS} connections", median(one[key] for one in bare),
                _AIM if key == "per_cpu_second" else None, samples,
                note=f"{with_few:,.0f} POSTs/s with {_FEW} connections: {median(samples) / with_few:.2f}",
            )
        )  # fmt: skip


async def _latency(session: Session, kind: str, bad: float) -> dict[str, Any]:
    endpoints = session.options.endpoints
    return await _job(
        session, kind, "latency", False, endpoints=endpoints, bad=bad, rate=_RATE, seconds=session.options.seconds
    )


async def _job(session: Session, kind: str, what: str, tls: bool, **spec: Any) -> dict[str, Any]:
    url = "" if what == "bare" else await session.new_database(kind)
    folder = str(session.storage.new_folder("webhooks"))
    title = f"{LABELS[kind]}: webhooks, {what}{', TLS' if tls else ''}"
    told = await session.run(title, "webhooks", what=what, tls=tls, url=url, folder=folder, **spec)
    if url:
        await session.drop(url)
    return told
