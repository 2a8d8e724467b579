"""A page of a list: how the listing methods of the contract that take a filter answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from sqlalchemy import Row, Select, Table

from core.domain import filters, steps
from core.domain.control.approval import ApprovalState
from core.domain.control.plan import PlanState
from core.domain.enrollment import State
from core.domain.errors import Invalid, Violation
from core.domain.filters import And, Comparison, Expression, Not, Or
from core.domain.nearest import did_you_mean
from core.domain.webhooks.states import DeliveryState
from core.store import paging
from core.store.agents import tasks
from core.store.control import approvals, plans
from core.store.events import quarantine
from core.store.filtering import filtered
from core.store.merging import identity_conflicts
from core.store.messages import outgoing
from core.store.qualification import assignments
from core.store.transaction import Transaction
from core.store.webhooks import deliveries, replays
from core.store.workflows import dead_letters, enrollments, workflows

_VALUES: Mapping[Table, Mapping[str, Sequence[str]]] = {
    assignments.assignments: {"state": tuple(assignments.AssignmentState)},
    approvals.approvals: {"state": tuple(ApprovalState)},
    dead_letters.dead_letters: {"state": tuple(dead_letters.LetterState), "kind": tuple(steps.BY_NAME)},
    deliveries.deliveries: {"state": tuple(DeliveryState)},
    enrollments.enrollments: {"state": tuple(State)},
    identity_conflicts.identity_conflicts: {"state": tuple(identity_conflicts.ConflictState)},
    outgoing.outgoing_messages: {"state": tuple(outgoing.MessageState)},
    plans.plans: {"state": tuple(PlanState)},
    quarantine.quarantine: {"state": tuple(quarantine.QuarantineState)},
    replays.replays: {"state": tuple(replays.ReplayState)},
    tasks.agent_tasks: {"state": tuple(tasks.TaskState)},
    workflows.workflows: {"state": tuple(workflows.WorkflowState)},
}
"""Columns that hold one of a few words: asking for another one would find nothing, without a word."""


class ListRequest(Protocol):
    """What every such request has."""

    @property
    def filter(self) -> str: ...  # noqa: D102 -- the contract describes the fields
    @property
    def page_size(self) -> int: ...  # noqa: D102
    @property
    def page_token(self) -> str: ...  # noqa: D102


async def listed(
    tx: Transaction,
    request: ListRequest,
    statement: Select[Any],
    table: Table,
    fields: Mapping[str, str],
    *,
    within: str = "",
) -> tuple[Sequence[Row[Any]], str]:
    """Return a page of the rows that fit the request's filter, newest first, and the token of the next page.

    `fields` are the columns to filter by, and their kinds. `within` is what else narrows the list, such as the id of a
    workflow: a token is good for that list alone.

    Raises Invalid for a filter that cannot be read, and for a token of another list.
    """
    return await paging.page(
        tx,
        narrowed(statement, table, request.filter, fields),
        table.c.id,
        request.page_size,
        request.page_token,
        filter_text=f"{within}|{request.filter}",
    )


def narrowed(statement: Select[Any], table: Table, text: str, fields: Mapping[str, str]) -> Select[Any]:
    """Return a statement that keeps the rows which fit a filter.

    Raises Invalid for one that cannot be read, and for a value that its column never has.
    """
    expression = filters.parse(text, fields)  # type: ignore[arg-type]  # tables of plain strings are welcome too
    values = _VALUES.get(table, {})
    wrong = [one for one in _equalities(expression) if one.field in values and one.value not in values[one.field]]
    if wrong:
        raise Invalid(*(_unknown(one, values[one.field]) for one in wrong))
    return filtered(statement, table, text, fields)


def named_in(text: str, fields: Mapping[str, str]) -> frozenset[str]:
    """Return which fields a filter compares. Raises Invalid for one that cannot be read."""
    expression = filters.parse(text, fields)  # type: ignore[arg-type]  # as above
    return frozenset(one.field for one in _comparisons(expression))


def _equalities(expression: Expression | None) -> Iterator[Comparison]:
    """Yield every comparison with a whole value."""
    return (one for one in _comparisons(expression) if one.operator in ("=", "!="))


def _comparisons(expression: Expression | None) -> Iterator[Comparison]:
    match expression:
        case And(items) | Or(items):
            for item in items:
                yield from _comparisons(item)
        case Not(inner):
            yield from _comparisons(inner)
        case Comparison():
            yield expression
        case _:
            pass


def _unknown(comparison: Comparison, known: Sequence[str]) -> Violation:
    given = str(comparison.value)[:40]
    message = f"compares `{comparison.field}` with `{given}`, which it never is"
    hint = did_you_mean(given, known, f"It is one of {', '.join(known)}.")
    return Violation("filter", "UNKNOWN_VALUE", message, hint)
