"""What narrows a key, as a request says it: every name must name something, or the key could do nothing for a typo."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from functools import cache

from core.domain.control import key_limits
from core.domain.control.key_limits import LISTS, KeyLimits
from core.domain.errors import Invalid, Violation
from core.rpc.call import Call
from core.store.organizations import projects
from core.store.records import record_schema
from core.store.workflows import workflows
from dripstone.v1 import organization_pb2 as pb


async def limits_in(message: pb.KeyLimits, call: Call, prefix: str = "limits") -> KeyLimits:
    """Return the limits of a request. Raises Invalid with every name that names nothing."""
    lists = {name: list(getattr(message, name)) for name in LISTS}
    if not any(lists.values()):
        return key_limits.UNLIMITED
    schema = await record_schema.of(call.tx)
    problems = key_limits.check(lists, method_names(), schema.types, prefix)
    there = await workflows.known(call.tx, lists["workflow_ids"])
    problems += _missing(lists["workflow_ids"], there, f"{prefix}.workflow_ids", "workflow")
    there = await projects.known(call.tx, lists["project_ids"])
    problems += _missing(lists["project_ids"], there, f"{prefix}.project_ids", "project")
    if problems:
        raise Invalid(*problems)
    return KeyLimits(**{name: frozenset(given) for name, given in lists.items()})


def _missing(names: Iterable[str], known: Collection[str], path: str, kind: str) -> Iterator[Violation]:
    for index, name in enumerate(names):
        if name not in known:
            message = f"there is no {kind} `{name[:100]}`"
            yield Violation(f"{path}[{index}]", "UNKNOWN_NAME", message, f"List the {kind}s to see what there is.")


@cache
def method_names() -> frozenset[str]:
    """Return every method of the contract as limits name it."""
    from core.rpc.methods import SERVICES  # it imports every handler, and this is imported by one

    return frozenset(
        f"{service.name}.{method.name}"
        for contract, *_ in SERVICES
        for service in contract.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    )
