"""What ids say by how they begin: what they name, and which tool takes them as which argument."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from mcp_server.values import invocation


class Shown(NamedTuple):
    """The tool that shows what an id names, and the argument that takes it."""

    tool: str
    argument: str
    many: bool = False
    """The argument is a list of ids."""

    def call(self, identifier: str) -> str:
        """Return the call that shows it."""
        value: Any = [identifier] if self.many else identifier
        return invocation(self.tool, **{self.argument: value})


_RECORD = Shown("get-record", "record_id")
_UNDO = Shown("undo-changes", "undo")

RECORDS = frozenset({"cnt", "cmp", "lead", "opp", "act", "todo", "note", "obj"})
"""How ids of records begin."""

SHOWN: Mapping[str, Shown] = {
    **dict.fromkeys(sorted(RECORDS), _RECORD),
    "enr": Shown("get-enrollment", "enrollment_id"),
    "exe": Shown("get-execution", "execution_id"),
    "wfl": Shown("get-workflow", "workflow_id"),
    "dlv": Shown("find-deliveries", "delivery_id"),
    "ep": Shown("find-deliveries", "endpoint_id"),
    "apr": Shown("list-approvals", "approval_id"),
    "tsk": Shown("claim-task", "task_id"),
    "dl": Shown("redrive-dead-letters", "dead_letter_ids", many=True),
    "chg": _UNDO,
    "mrg": _UNDO,
}
"""By the beginning of an id."""

_TAKES: Mapping[str, frozenset[str]] = {
    "record_id": RECORDS,
    "contact_id": frozenset({"cnt"}),
    "lead_id": frozenset({"lead", "cnt"}),
    "kept_id": frozenset({"cnt", "cmp"}),
    "merged_id": frozenset({"cnt", "cmp"}),
    "plan_id": frozenset({"pln"}),
    "agent_id": frozenset({"agt"}),
    **{one.argument: frozenset({prefix}) for prefix, one in SHOWN.items() if one not in (_RECORD, _UNDO)},
}
"""What arguments take, by the beginnings of ids."""

_ID = re.compile(r"([a-z]{2,4})_[0-9a-z]{1,40}")
_EMAIL = re.compile(r"[^\s@<>\"',;]{1,64}@[^\s@<>\"',;]+\.[^\s@<>\"',;.]{2,}")


def prefix_of(value: Any) -> str:
    """Return how an id begins; empty for what is none that a tool takes."""
    found = _ID.fullmatch(value) if isinstance(value, str) else None
    prefix = found[1] if found else ""
    return prefix if prefix in SHOWN or prefix in ("pln", "agt") else ""


def is_email(value: Any) -> bool:
    """Tell whether a value reads like an e-mail address."""
    return isinstance(value, str) and len(value) <= 320 and _EMAIL.fullmatch(value.strip()) is not None


def takes_id(argument: str) -> bool:
    """Tell whether an argument takes ids that say by how they begin what they name."""
    return argument in _TAKES


def misplaced(argument: str, value: Any) -> bool:
    """Tell whether an argument was given an e-mail address or the id of something else than what it takes."""
    if argument not in _TAKES:
        return False
    return is_email(value) or (prefix_of(value) not in _TAKES[argument] and prefix_of(value) != "")


def place_for(value: Any, names: Any) -> str:
    """Return the one of these arguments that takes such an e-mail address or id; empty where none does."""
    if is_email(value):
        return "email" if "email" in names else ""
    prefix = prefix_of(value)
    fits = [name for name, taken in _TAKES.items() if prefix in taken and name in names]
    return min(fits, key=lambda name: len(_TAKES[name])) if prefix and fits else ""


def shown_by(value: Any) -> str:
    """Return the call that shows what an e-mail address or an id names; empty where no tool does."""
    if is_email(value):
        return invocation("find-records", email=value.strip())
    prefix = prefix_of(value)
    return SHOWN[prefix].call(value) if prefix in SHOWN else ""


def held(arguments: Any, value: str, name: str = "") -> Iterator[tuple[Any, str]]:
    """Yield each object within arguments that holds this value, with the name under which it does."""
    if isinstance(arguments, dict):
        for key, inner in arguments.items():
            if inner == value and isinstance(inner, str):
                yield arguments, key
            else:
                yield from held(inner, value, key)
    elif isinstance(arguments, list):
        for inner in arguments:
            yield from held(inner, value, name)
