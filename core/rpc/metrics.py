"""What the process measures; few metrics, fixed labels, never a tenant among them."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

registry = CollectorRegistry()

rpc_seconds = Histogram(
    "dripstone_rpc_seconds", "Time to answer a call, by method and status code.", ["method", "code"], registry=registry
)
transitions_total = Counter(
    "dripstone_transitions_total",
    "Moves of enrollments, by kind: entered, moved, or the state in which they ended.",
    ["kind"],
    registry=registry,
)
use_total = Counter(
    "dripstone_use_total",
    "What was done, by kind of who did it and metric, as upkeep sees it.",
    ["kind", "metric"],
    registry=registry,
)
cost_total = Counter(
    "dripstone_cost_total",
    "Units of cost, by kind of what they are counted for, as upkeep sees it.",
    ["kind"],
    registry=registry,
)
delivery_attempts_total = Counter(
    "dripstone_delivery_attempts_total", "Webhook attempts, by outcome.", ["outcome"], registry=registry
)
