"""The text of a workflow, and the two shapes of its document."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from core.domain.errors import Invalid
from core.domain.workflow import source
from core.domain.workflow.document import from_wire, to_wire


def test_yaml_is_read_as_authors_expect() -> None:
    text = """
    reentry: no          # text, not false
    at: 2026-01-01
    time: 12:30
    octal: 010
    ratio: 1.5
    count: 3
    yes: true
    nothing: ~
    quoted: "3"
    lines: |
      a
      b
    """
    assert source.parse(text) == {
        "reentry": "no",
        "at": "2026-01-01",
        "time": "12:30",
        "octal": 10,
        "ratio": 1.5,
        "count": 3,
        "yes": True,
        "nothing": None,
        "quoted": "3",
        "lines": "a\nb\n",
    }


def test_json_is_read_too() -> None:
    assert source.parse('{"title": "x", "steps": [{"id": "a", "n": 1.0}]}') == {
        "title": "x",
        "steps": [{"id": "a", "n": 1.0}],
    }


@pytest.mark.parametrize(
    ("text", "reason", "message"),
    [
        ("", "SOURCE_EMPTY", "the document is empty"),
        ("- a", "SOURCE_NOT_A_MAP", "the document is not a map of keys to values"),
        ("title: a: b", "SOURCE_SYNTAX", "line 1, column 9: this is not YAML: mapping values are not allowed"),
        ("a: 1\nb: [1", "SOURCE_SYNTAX", "line 3, column 1: this is not YAML: did not find expected ',' or ']'"),
        ("a: &x [1]\nb: *x", "ALIAS_REFUSED", "line 1: anchors and aliases are not read here"),
        ("a: 1\nb: 2\na: 3", "DUPLICATE_KEY", "line 3: the key a stands twice"),
        ('{"a": 1, "a": 2}', "DUPLICATE_KEY", "the key a stands twice in one map"),
        ("a: !!python/object:os.system x", "TAG_REFUSED", "line 1: the tag tag:yaml.org,2002:python/object:os"),
        ("a: {{ b }}", "KEY_NOT_TEXT", "line 1: a key must be text"),
        ("a: " + "[" * 60 + "]" * 60, "SOURCE_TOO_DEEP", "the document is nested deeper than 20 levels"),
        ('{"a": ' + "[" * 60 + "]" * 60 + "}", "SOURCE_TOO_DEEP", "the document is nested deeper than 20 levels"),
        ("a: " + "x" * 300_000, "SOURCE_TOO_LARGE", "the document has more than 262,144 bytes"),
        ("a: [" + "1," * 30_000 + "]", "SOURCE_TOO_LARGE", "line 1: more than 20,000 values"),
        ('a: "\\0"', "SOURCE_SYNTAX", "a text has characters that are none"),
        ('{"a": "\\ud800"}', "SOURCE_SYNTAX", "a text has characters that are none"),
        ("a: 1e999", "SOURCE_SYNTAX", "a number is too large"),
        ('{"a": 1e999}', "SOURCE_SYNTAX", "a number is too large"),
        ("a: 1\nb: [9007199254740993]", "NUMBER_INEXACT", "line 2: 9007199254740993 is too large for a number"),
        ("a: 123456789012345678901234567890", "NUMBER_INEXACT", "line 1: 123456789012345678901234567890 is too large"),
        ('{"a": -9007199254740993}', "NUMBER_INEXACT", "-9007199254740993 is too large for a number"),
        ("---\na: 1\n---\nb: 2", "SOURCE_SYNTAX", "line 3, column 1: this is not YAML: but found another document"),
    ],
)
def test_a_text_that_cannot_be_read_is_refused_with_its_line(text: str, reason: str, message: str) -> None:
    with pytest.raises(Invalid) as caught:
        source.parse(text)
    (violation,) = caught.value.violations
    assert violation.field == "source"
    assert violation.reason == reason
    assert violation.message.startswith(message)


@pytest.mark.parametrize(
    "text",
    [
        "a: {when: lead.tier in ['A', 'B']}",
        "steps:\n  - {text: Hi {{ contact.first_name }}}",
        "a: [Hi {{ x }}, b: c: d]",
    ],
)
def test_braces_that_go_wrong_say_what_to_quote_in_them(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        source.parse(text)
    assert [one.hint[:36] for one in caught.value.violations] == ["Inside { } and [ ], quote a value wi"]


def test_whole_numbers_stay_as_they_are_as_far_as_every_client_keeps_them() -> None:
    assert source.parse("a: 9007199254740991\nb: '9007199254740993'\nc: 0.1") == {
        "a": 2**53 - 1, "b": "9007199254740993", "c": 0.1,
    }  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=80) | st.text(alphabet="abc:-[]{}&*!|>'\"#\n 0.,?%@~\t", max_size=80))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        found: object = source.parse(text)
    except Invalid as refused:
        found = refused.violations
    assert isinstance(found, dict | tuple)


TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=12)
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(TEXT, VALUE, min_size=1, max_size=5))
@example({"0": "0E0", "a": "null", "b": "~", "c": "True", "d": "010", "e": "1_0", "f": "=", "g": "2026-01-01"})
def test_what_is_rendered_reads_as_the_same_document(document: dict[str, Any]) -> None:
    assert source.parse(source.render(document)) == document


DOCUMENT = {
    "title": "x",
    "reentry": "after_exit",
    "goals": [{"event": "deal.won"}],
    "triggers": [{"event": "a.b", "key": "event.id"}],
    "steps": [
        {"id": "a", "kind": "wait", "for": "2d", "title": "A pause", "next": "c"},
        {"id": "b", "kind": "branch", "cases": [{"name": "x", "when": "true"}], "exits": {"x": "a", "else": "c"}},
        {"id": "c", "kind": "log", "message": "done"},
    ],
}


def test_a_document_has_its_configuration_apart_on_the_wire() -> None:
    assert to_wire(DOCUMENT) == {
        "title": "x",
        "description": "",
        "timezone": "",
        "reentry": "after_exit",
        "settings": {"goals": [{"event": "deal.won"}]},
        "triggers": [{"event": "a.b", "when": "", "config": {"key": "event.id"}}],
        "steps": [
            {"id": "a", "kind": "wait", "config": {"for": "2d", "title": "A pause"}, "exits": {"next": "c"}},
            {
                "id": "b",
                "kind": "branch",
                "config": {"cases": [{"name": "x", "when": "true"}]},
                "exits": {"x": "a", "else": "c"},
            },
            {"id": "c", "kind": "log", "config": {"message": "done"}, "exits": {}},
        ],
    }


def test_a_document_comes_back_from_the_wire() -> None:
    assert from_wire(to_wire(DOCUMENT)) == DOCUMENT


def test_a_malformed_draft_still_has_a_wire_form() -> None:
    assert to_wire({"steps": [1, {"id": 3, "exits": 4}], "triggers": "x", "title": []}) == {
        "title": "",
        "description": "",
        "timezone": "",
        "reentry": "",
        "settings": {},
        "triggers": [],
        "steps": [{"id": "3", "kind": "", "config": {}, "exits": {}}],
    }


def test_a_configuration_cannot_take_the_names_of_the_step() -> None:
    wire = to_wire(DOCUMENT)
    wire["steps"][2]["config"] = {"id": "z", "exits": {}, "message": "x"}
    with pytest.raises(Invalid) as caught:
        from_wire(wire)
    assert [violation.field for violation in caught.value.violations] == [
        "document.steps[2].config.id",
        "document.steps[2].config.exits",
    ]
