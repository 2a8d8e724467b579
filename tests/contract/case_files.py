"""Contract cases as data: `cases/<service>.yaml` names methods, and for each what is asked and what must come back.

    GetRecord:                                # a method of the file's service
      - by: agent                             # whose key: service (unless said; it has every scope), agent, approver
        before:                               # calls by gRPC that must pass first, of any service; `call: turn`
                                              # turns every loop, after `request: {minutes: n}` where that is said;
                                              # `call: posted` posts `body` to `path` without a key;
                                              # `call: bounced` has an `address` give a message back
          - call: RecordService.UpsertRecord
            request: {type: contact, fields: {email: "$via@example.com"}}
            keep: {mine: record.id}           # names parts of their answers; `refused: REASON` where it must be
        request: {record_id: $mine}           # as HTTP's JSON has it
        answer: {id: $mine, type: contact}    # a part of the answer is enough
      - request: {record_id: cnt_nobody}
        refused: {code: NOT_FOUND, reason: NOT_FOUND}          # and `field`, where one is named

`$name` stands for an id of the story (`tests.story.Told`), for what `keep` named, and `$via` for `grpc` or `http`: each
case is run over both. In answers "*" is any value but an empty one, and {some: X} asks a list for one item like X; of a
stream the answer is the list of messages (`take: n` ends it after so many). `file: true` says that HTTP's body is the
file that gRPC sends in parts. Further: `also: postgresql` runs it there too; `without: [replay, dry, unknown, etag]`
leaves out what else is tried with a good call.

No other case is needed for calls without a key, missing required fields, too long texts, unknown enum values, unknown
ids and stale etags: `refusals` makes them from the contract and from the good calls.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent / "cases"

_KNOWN = frozenset("by before request answer refused take file also without name".split())
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


@dataclass(frozen=True, slots=True)
class Before:
    """A call that a case needs first."""

    call: str
    request: Mapping[str, Any]
    keep: Mapping[str, str]
    by: str
    refused: str
    """The reason by which it must be refused."""


@dataclass(frozen=True, slots=True)
class Case:
    """One thing asked of a method, and what must come back."""

    method: str
    """`RecordService.GetRecord`."""
    number: int
    request: Any
    before: tuple[Before, ...]
    by: str
    answer: Any
    refused: Mapping[str, str] | None
    take: int
    file: bool
    also: str
    without: frozenset[str]

    @property
    def name(self) -> str:
        """Return what a failure is told by."""
        return f"{self.method}#{self.number}"


@cache
def all_cases() -> tuple[Case, ...]:
    """Return every case of every file."""
    return tuple(case for path in sorted(FOLDER.glob("*.yaml")) for case in _cases(path))


def _cases(path: Path) -> Iterator[Case]:
    service = "".join(word.title() for word in path.stem.split("_")) + "Service"
    for method, cases in (yaml.safe_load(path.read_text()) or {}).items():
        for number, given in enumerate(cases, 1):
            assert set(given) <= _KNOWN, f"{path.name} {method}: {set(given) - _KNOWN}"
            yield Case(
                method=f"{service}.{method}",
                number=number,
                request=given.get("request", {}),
                before=tuple(
                    Before(
                        one["call"],
                        one.get("request", {}),
                        one.get("keep", {}),
                        one.get("by", "service"),
                        one.get("refused", ""),
                    )
                    for one in given.get("before", ())
                ),
                by=given.get("by", "service"),
                answer=given.get("answer"),
                refused=given.get("refused"),
                take=given.get("take", 0),
                file=given.get("file", False),
                also=given.get("also", ""),
                without=frozenset(given.get("without", ())),
            )


def filled(value: Any, variables: Mapping[str, Any]) -> Any:
    """Return a value of a case with its variables replaced."""
    if isinstance(value, str):
        whole = _VARIABLE.fullmatch(value)
        if whole:
            return variables[whole[1] or whole[2]]
        return _VARIABLE.sub(lambda match: str(variables[match[1] or match[2]]), value)
    if isinstance(value, Mapping):
        return {str(filled(name, variables)): filled(one, variables) for name, one in value.items()}
    if isinstance(value, list):
        return [filled(one, variables) for one in value]
    return value


def at(answer: Any, path: str) -> Any:
    """Return the part of an answer that a path such as `results.0.id` names."""
    for part in path.split("."):
        answer = answer[int(part)] if isinstance(answer, list) else answer[part]
    return answer


def differs(expected: Any, answer: Any, where: str = "answer") -> str:
    """Return where an answer lacks something that is expected of it; empty where it has it all."""
    if expected == "*":
        return "" if answer not in (None, "", 0, [], {}, False) else f"{where} is empty"
    if isinstance(expected, Mapping):
        if set(expected) == {"some"}:
            found = isinstance(answer, list) and any(not differs(expected["some"], one) for one in answer)
            return "" if found else f"{where} has nothing like {expected['some']!r}: {str(answer)[:300]}"
        if not isinstance(answer, Mapping):
            return f"{where} is {answer!r}, not an object"
        parts = (differs(one, answer.get(name), f"{where}.{name}") for name, one in expected.items())
        return next(filter(None, parts), "")
    if isinstance(expected, list):
        if not isinstance(answer, list) or len(answer) != len(expected):
            return f"{where} is {str(answer)[:300]}, not {len(expected)} items"
        pairs = enumerate(zip(expected, answer, strict=True))
        return next(filter(None, (differs(one, other, f"{where}[{index}]") for index, (one, other) in pairs)), "")
    return "" if expected == answer else f"{where} is {answer!r}, not {expected!r}"
