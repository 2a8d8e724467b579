"""A rendered JSON body has the shape that its author gave it, whatever the values hold."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.connections.json_body import BadBody, finished
from core.domain.workflow import templates

VARIABLES: dict[str, Any] = {"text": "string", "n": "any", "items": "list"}


def render(template: str, **values: Any) -> str:
    checked, problems = templates.check(template, VARIABLES, "body", escape="json")
    assert checked is not None, problems
    rendered = checked.render(values)
    assert rendered.text is not None, rendered.error
    return finished(rendered.text)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=200))
def test_any_text_arrives_as_it_is(text: str) -> None:
    assert json.loads(render('{"a": {"text": "<{{ text }}>"}, "b": [1]}', text=text)) == {
        "a": {"text": f"<{text}>"},
        "b": [1],
    }


@given(st.text(max_size=30))
def test_a_value_outside_quotes_is_a_scalar_or_refused(text: str) -> None:
    try:
        body = json.loads(render('{"n": {{ text }}}', text=text))
    except BadBody:
        return
    assert set(body) == {"n"}
    assert not isinstance(body["n"], str | list | dict)


@pytest.mark.parametrize(
    ("template", "values", "expected"),
    [
        ('{"n": {{ n }}}', {"n": 7}, {"n": 7}),
        ('{"n": {{ n }}}', {"n": True}, {"n": True}),
        ('{"n": "{{ text | upcase }}"}', {"text": 'a"b'}, {"n": 'A"B'}),
        ('{% capture x %}{{ text }}"{% endcapture %}{"n": "{{ x }}"}', {"text": "a\n"}, {"n": 'a\n"'}),
        ('[{% for i in items %}"{{ i }}"{% unless forloop.last %},{% endunless %}{% endfor %}]',
         {"items": ['"', "\\"]}, ['"', "\\"]),
        ('{"n": "{% cycle text, text %}"}', {"text": '"'}, {"n": '"'}),
        ('{"n": "\\"{{ text }}\\\\"}', {"text": '"'}, {"n": '""\\'}),
    ],
)  # fmt: skip
def test_values_stand_where_authors_put_them(template: str, values: dict[str, Any], expected: Any) -> None:
    assert json.loads(render(template, **values)) == expected


@pytest.mark.parametrize(
    ("template", "text", "why"),
    [
        ('{"n": {{ text }}}', '1, "to": "x"', "outside quotes"),
        ('{"n": {{ text }}}', "", "outside quotes"),
        ('{"n": "\\{{ text }}"}', '", "to": "x', "follows a backslash"),
        ('{"n": "{{ text }}}', "x", "not JSON"),
    ],
)
def test_what_would_change_the_shape_is_refused(template: str, text: str, why: str) -> None:
    with pytest.raises(BadBody, match=why):
        render(template, text=text)
