"""What a value holds becomes neither markup in an HTML body nor a header in a subject."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.domain.workflow import templates
from core.domain.workflow.escapes import Escape
from core.domain.workflow.templates import Template

VARIABLES = {"contact.first_name": "string", "event.fields": "map", "now": "instant"}
EVIL = "<script>alert('x')</script> & \"co\""
VALUES: dict[str, Any] = {"contact.first_name": EVIL, "event.fields": {"items": [EVIL, {"n": EVIL}], "k": EVIL}}


def _template(text: str, escape: Escape = "html") -> Template:
    template, problems = templates.check(text, VARIABLES, "text", escape=escape)
    assert template is not None, problems
    return template


@pytest.mark.parametrize(
    "text",
    [
        "<p>{{ contact.first_name }}</p>",
        "<p>{{ event.fields.items }}</p>",
        "<p>{{ event.fields }}</p>",
        "<p>{% for item in event.fields.items %}{{ item }}{{ item.n }}{% endfor %}</p>",
        "<p>{% assign x = contact.first_name %}{{ x | upcase | downcase }}</p>",
        "<p>{% capture x %}{{ contact.first_name }}{% endcapture %}{{ x }}</p>",
        "<p>{{ 'Dear ' | append: contact.first_name }}{{ 'x' | prepend: contact.first_name }}</p>",
        "<p>{{ 'a-b' | replace: '-', contact.first_name }}</p>",
        "<p>{{ contact.first_name | split: ' ' | join: contact.first_name }}</p>",
        "<p>{{ contact.first_name | url_encode | url_decode }}</p>",
        "<p>{{ contact.nothing | default: contact.first_name }}</p>".replace("contact.nothing", "event.fields.nothing"),
        "<p>{{ contact.first_name | newline_to_br | strip_newlines | squish }}</p>",
        "<p>{{ contact.first_name | date: '%Y' }}{{ now | date: contact.first_name }}</p>",
        "<p>{% cycle contact.first_name, 'b' %}{% echo contact.first_name %}</p>",
        "<p>{% case 1 %}{% when 1 %}{{ contact.first_name | slice: 0, 9 }}{% endcase %}</p>",
    ],
)
def test_an_html_body_takes_values_as_text(text: str) -> None:
    rendered = _template(text).render(VALUES | {"now": "2026-01-01"}).text
    assert rendered is not None
    assert rendered.startswith("<p>")
    assert rendered.endswith("</p>")
    assert not {"<", ">", '"'} & set(rendered[3:-4])


def test_the_authors_own_markup_stays() -> None:
    text = "<b>{{ contact.first_name }}</b>{{ '<br>' }}{{ event.fields.note | newline_to_br }}"
    rendered = _template(text).render({"contact.first_name": "A&B", "event.fields": {"note": "<1\n2"}})
    assert rendered.text == "<b>A&amp;B</b><br>&lt;1<br />\n2"


def test_other_texts_are_written_as_they_are() -> None:
    assert _template("{{ contact.first_name }}", "none").render(VALUES).text == EVIL


def test_what_is_shown_as_an_input_is_never_escaped() -> None:
    assert _template("{{ contact.first_name }}").render(VALUES).inputs == {"contact.first_name": EVIL}


_PARTS = st.sampled_from(
    [
        *("upcase", "downcase", "capitalize", "strip", "squish", "reverse", "sort", "uniq", "first", "last", "compact"),
        *("split: 'a'", "split: ''", "join: ','", "append: v", "prepend: v", "replace: 'a', v", "remove: 'b'"),
        *("slice: 1, 5", "truncate: 6, v", "truncatewords: 1, v", "url_encode", "url_decode"),
        *("strip_newlines", "default: v", "concat: l", "map: 'n'", "date: v", "base64_encode", "escape", "size"),
    ]
)


@settings(max_examples=250, deadline=None)
@given(st.text("<>&\"'ab%3C%3E \n", max_size=12), st.sampled_from(["v", "l", "'a b'"]), st.lists(_PARTS, max_size=5))
def test_no_chain_of_filters_lets_a_value_become_markup(value: str, start: str, filters: list[str]) -> None:
    text = "{{ " + " | ".join([start, *filters]) + " }}"
    template, problems = templates.check(text, {"v": "string", "l": "list"}, "text", escape="html")
    assert template is not None, problems
    rendered = template.render({"v": value, "l": [value, {"n": value}]}).text or ""
    assert not {"<", ">"} & set(rendered)


@pytest.mark.parametrize(
    ("name", "subject"),
    [
        ("Ada\r\nBcc: everybody@example.com", "Hello Ada Bcc: everybody@example.com"),
        ("  Ada \t Lovelace\u2028x\x85y\x1fz\x7f ", "Hello Ada Lovelace x y z"),
        ("\u00c5sa \U0001f600", "Hello \u00c5sa \U0001f600"),
    ],
)
def test_a_subject_is_one_line_whatever_the_values_hold(name: str, subject: str) -> None:
    template = _template("Hello\n {{ contact.first_name }}", "none")
    assert template.render_line({"contact.first_name": name}).text == subject


def test_a_line_that_cannot_be_rendered_says_why() -> None:
    rendered = _template("{{ 1 | divided_by: 0 }}", "none").render_line({})
    assert (rendered.text, rendered.error) == (None, "divided_by: can't divide by 0")
