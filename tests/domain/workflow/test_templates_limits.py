"""No template stalls the engine or grows without end."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.domain.workflow import templates
from core.domain.workflow.escapes import Escape
from tests.domain.workflow.worst_cases import DATA, MOST_UNITS, TEMPLATES, VARIABLES, units


@pytest.mark.parametrize("text", TEMPLATES, ids=lambda text: text[:50])
@pytest.mark.parametrize("escape", ["none", "html"])
def test_the_worst_templates_end_soon(text: str, escape: Escape) -> None:
    template, _ = templates.check(text, VARIABLES, "text", escape=escape)
    assert template is not None
    for values in DATA.values():
        assert units(lambda values=values: template.render(values)) < MOST_UNITS  # type: ignore[misc]


_FILTERS = st.sampled_from(
    """
    | upcase | split: '' | sort | uniq | join: s | concat: l | concat: k | size | times: 99999 | append: s | prepend: s
    | replace: 'a', s | map: 'a' | where: 'a', 1 | escape | url_encode | newline_to_br | reverse | first | last | sum
    | slice: 0, 9999 | truncate: 9999 | truncatewords: 9999 | date: '%c' | default: m | plus: s | base64_encode
    """.replace("\n", " ")
    .strip()
    .removeprefix("| ")
    .split(" | ")
).map(lambda text: f"| {text} ")
_PIECES = st.one_of(
    st.lists(_FILTERS, max_size=4).map(lambda filters: "{{ s " + "".join(filters) + "}}"),
    st.lists(_FILTERS, max_size=4).map(lambda filters: "{% assign s = l " + "".join(filters) + "%}"),
    st.lists(_FILTERS, max_size=3).map(lambda filters: "{% assign l = l " + "".join(filters) + "%}"),
    st.sampled_from(
        ["{% if l == k %}x{% endif %}", "{% cycle s, l %}", "{% case l %}{% when k, l %}{{ s }}{% endcase %}"]
    ),
)
_BLOCKS = st.recursive(
    st.lists(_PIECES, min_size=1, max_size=3).map("".join),
    lambda inner: st.tuples(
        st.sampled_from(
            [
                ("{% for i in l %}", "{% endfor %}"),
                ("{% for i in (1..99) %}", "{% endfor %}"),
                ("{% capture s %}", "{% endcapture %}"),
                ("{% ifchanged %}", "{% endifchanged %}"),
                ("{% case 1 %}{% when 1, 1, 1 %}", "{% endcase %}"),
            ]
        ),
        inner,
    ).map(lambda parts: parts[0][0] + parts[1] + parts[0][1]),
    max_leaves=4,
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_BLOCKS, st.sampled_from([*DATA]))
def test_no_nesting_of_costly_blocks_stalls(text: str, data: str) -> None:
    template, problems = templates.check(text, VARIABLES, "text")
    assert template is not None, problems
    assert units(lambda: template.render(DATA[data])) < MOST_UNITS


@pytest.mark.parametrize(
    "text",
    [
        "{% case 1 %}{% when 1, 1, 1, 1 %}" * 15 + "{% endcase %}" * 15,
        "{% if (1..1000000000) contains 'x' %}{% endif %}",
        "{{ 9 " + "| times: 99999999999999999999 " * 40 + "}}",
        "{% for i in (1..9000) %}{% if l contains 'b' %}{% endif %}{% endfor %}",
    ],
)
def test_a_template_that_is_too_much_work_is_stopped_and_says_so(text: str) -> None:
    template, _ = templates.check(text, VARIABLES, "text")
    assert template is not None
    rendered = template.render({"l": list(range(900))})
    assert (rendered.text, rendered.error) == (None, "it grows over 65,536 characters or 10,000 loops")


def test_a_letter_to_somebody_with_a_long_order_is_no_trouble() -> None:
    text = """
    {% assign total = 0 %}
    {% for line in m.lines %}
      {% assign amount = line.price | times: line.count %}{% assign total = total | plus: amount %}
      {% if line.count > 1 %}{{ line.count }} x {% endif %}{{ line.name | default: "-" | escape }}: {{ amount }}
    {% endfor %}
    {{ total }}
    """
    template, _ = templates.check(text, VARIABLES, "text")
    assert template is not None
    lines: list[dict[str, Any]] = [{"name": f"Thing {number}", "price": 3, "count": 2} for number in range(300)]
    rendered = template.render({"m": {"lines": lines}})
    assert rendered.error == ""
    assert (rendered.text or "").rstrip().endswith("1800")
