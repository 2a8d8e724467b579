"""Whatever a document holds, reading it ends soon, in a version or in problems; nothing else is ever raised."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.demo.setting import document
from core.domain.errors import Invalid, Violation
from core.domain.qualification import parse as models
from core.domain.routing import parse as routings
from core.domain.workflow import source
from core.domain.workflow.compile import compile_document
from core.templates import templates

LONGEST_SECONDS = 3.0
"""Of the processor, for one document: a hundred times of what an ordinary one takes."""

ROUTING = """
title: Leads of the north
sla: {respond_within: 2h, reroute: 2}
rules:
  - id: large
    when: company.employees > 500
    method: weighted
    members: [{member: ada@example.com, weight: 3}, bob@example.com]
  - id: account
    method: account_match
    match: [company]
    members: [ada@example.com]
catch_all: {members: [ada@example.com]}
"""


def _workflow(text: str) -> None:
    compiled = compile_document(source.parse(text))
    assert (compiled.version is None) == bool(compiled.problems)
    if compiled.problems:
        raise Invalid(*compiled.problems)


def _problems(read: Callable[[str], Any], text: str) -> tuple[Violation, ...]:
    try:
        read(text)
    except Invalid as refused:
        return refused.violations or (Violation("", "", ""),)
    return ()


READERS: dict[str, tuple[list[str], Callable[[str], Any]]] = {
    "workflow": ([one.source for one in templates()], _workflow),
    "scoring model": ([document("default-model.yaml")], models.compiled),
    "routing": ([ROUTING], routings.compiled),
}

ODD: list[Any] = [
    *(None, True, 0, -1, 10**18, 1e308, -0.5, "", " ", "0", "x" * 5_000, "ä\u2028\ud83d\ude00", "a\tb"),
    *([], [[]], {}, {"": {}}, [None], {"id": 7}, ["x"] * 300, {str(number): number for number in range(300)}),
    *("{{", "{{ contact.email | upcase }}", "{% for i in (1..99999999) %}x{% endfor %}", "contact.", "1 +", "((((((("),
    *("contact.email.matches('(a+)+$')", "[1,2,3].map(x, [1,2,3].map(y, x * y))", "true", "2d", "P1D", "99999999999d"),
    *("2026-02-30", "25:61", "Europe/Atlantis", "* * * * * *", "no", "~", "!!python/object:os.system"),
]
"""Values that stand for kinds of mistakes and of attacks."""


def _places(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if way:
        yield way
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from _places(inner, (*way, key))


def _changed(held: Any, way: tuple[Any, ...], what: str, odd: Any) -> None:
    for part in way[:-1]:
        held = held[part]
    last = way[-1]
    if what == "replace":
        held[last] = odd
    elif what == "remove":
        del held[last]
    elif what == "nest":
        held[last] = {"and": [held[last]] * 3, "when": held[last]}
    elif isinstance(held, list):
        held.insert(last, copy.deepcopy(held[last]))
    else:
        held[f"{last}s"] = held.pop(last)


@st.composite
def _documents(draw: st.DrawFn, texts: list[str]) -> str:
    """Return a good document with a few things in it replaced, removed, renamed, repeated or nested."""
    read: Any = source.parse(draw(st.sampled_from(texts)))
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(read))
        if not places:
            break
        what = draw(st.sampled_from(["replace", "replace", "replace", "remove", "repeat", "nest"]))
        _changed(read, draw(st.sampled_from(places)), what, copy.deepcopy(draw(st.sampled_from(ODD))))
    return json.dumps(read)


@st.composite
def _texts(draw: st.DrawFn, texts: list[str]) -> str:
    """Return the text of a good document with a piece cut out, doubled or overwritten."""
    text = draw(st.sampled_from(texts))
    start = draw(st.integers(0, len(text)))
    end = draw(st.integers(start, min(len(text), start + 40)))
    pieces = ["", text[start:end] * 2, "&a *a", "<<: *a", "\t", "'", "{", "- - -", "? :", "\x00", "%", "|\n", "\ud800"]
    return text[:start] + draw(st.sampled_from(pieces) | st.text(max_size=6)) + text[end:]


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("made", [_documents, _texts], ids=["values", "text"])
def test_hostile_documents_end_soon_in_a_version_or_in_problems(kind: str, made: Callable[[list[str]], Any]) -> None:
    good, read = READERS[kind]

    @settings(max_examples=40)
    @given(made(good))
    def holds(text: str) -> None:
        started = time.process_time()
        assert all(one.field and one.message for one in _problems(read, text))
        assert time.process_time() - started < LONGEST_SECONDS

    holds()


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize(
    "text",
    [
        "",
        "[" * 100_000,
        "{" * 100_000,
        "a: &a [*a]",
        "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nd: [*c, *c]",
        "title: " + "x" * 300_000,
        "steps: [" + "{id: a, kind: wait, for: 2d}," * 8_000 + "]",
        "rules: [" + "{id: a}," * 20_000 + "]",
        "{" + ",".join(f'"k{number}": {number}' for number in range(19_000)) + "}",
        "- a\n" * 1_000,
        "\ufeff\x00",
    ],
    ids=lambda text: text[:12] or "nothing",
)
def test_huge_deep_and_twisted_documents_are_refused_soon(kind: str, text: str) -> None:
    _, read = READERS[kind]
    started = time.process_time()
    assert _problems(read, text)
    assert time.process_time() - started < LONGEST_SECONDS
