"""What an attacker would write: expressions and templates that ask for more work than any machine has."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

VARIABLES: dict[str, Any] = {
    "s": "string",
    "t": "string",
    "zone": "string",
    "l": "list",
    "k": "list",
    "m": "map",
    "a": "any",
    "n": "integer",
    "now": "instant",
}
_FIXED = {"n": 7, "zone": "Europe/Berlin", "now": datetime(2026, 1, 1, tzinfo=UTC)}
DATA: dict[str, dict[str, Any]] = {
    "as much as fits": {
        **_FIXED,
        "s": "a" * 65_000,
        "t": "a" * 30_000 + "b",
        "l": list(range(9_000)),
        "k": [-number for number in range(9_000)],
        "m": {f"k{number}": number for number in range(4_000)},
        "a": [["x" * 10] * 30] * 30,
    },
    "just what is allowed": {
        **_FIXED,
        "s": "a" * 8_000,
        "t": "a" * 4_000 + "b",
        "l": list(range(500)),
        "k": [-number for number in range(500)],
        "m": {f"k{number}": number for number in range(500)},
        "a": [{"a": ["y" * 50] * 20}] * 20,
    },
    "large texts": {
        **_FIXED,
        "s": "a" * 60_000,
        "t": "b" * 60_000,
        "l": ["a" * 600] * 100,
        "k": ["b" * 600] * 100,
        "m": {"a": "x" * 60_000},
        "a": [{"a": ["y" * 500] * 20}] * 20,
    },
    "more than is ever given": {
        **_FIXED,
        "s": "a" * 1_000_000,
        "t": "b" * 1_000_000,
        "l": list(range(100_000)),
        "k": ["b" * 600] * 10_000,
        "m": {f"k{number}": "v" * 50 for number in range(20_000)},
        "a": 10**4_000,
        "n": 10**4_000,
    },
}

EXPRESSIONS = [
    "l.all(x, k.all(y, x != y))",
    "l.map(x, x).map(x, x).map(x, x)",
    "l.filter(x, x in k).size()",
    "l.all(x, !(x in k) && !(x in k) && !(x in k) && !(x in k))",
    "l.all(x, l == l)",
    "l.all(x, m == m)",
    "l.all(x, " + " && ".join(f"x != 'q{number}'" for number in range(130)) + ")",
    "'aaaa'" + ".replace('a', 'aaaaaaaaaaaaaaaaaaaa')" * 7,
    "s.replace('', s)",
    "s.replace(t, '')",
    "s" + ".replace('a', 'aa')" * 20,
    "[s]" + ".map(x, x + x)" * 8,
    "[1]" + ".map(x, [x, x])" * 8,
    "[[1]" + ".map(x, [x, x, x, x])" * 7 + "].map(y, y == y)",
    "[l]" + ".map(x, x + x)" * 5 + ".size()",
    "[1]" + ".map(x, {'a': x, 'b': x, 'c': x, 'd': x})" * 7,
    "l.map(x, s + s)",
    "l.map(x, s.split('').size()).size()",
    "s.split('').map(x, x)",
    "l.map(x, s.reverse())",
    "l.all(x, s.lowerAscii() == s)",
    "l.all(x, s.contains(t))",
    "s.lastIndexOf(t) == s.indexOf(t)",
    "s.matches('(a+)+b')",
    "s.matches('(a|aa)+$')",
    "s.matches('a{500}')",
    "s.matches('[a-z]{1,400}b')",
    "l.all(x, s.matches('(a{1,20}){1,20}b') == false)",
    "l.all(x, string(x).matches('^[0-9]{1,5}$'))",
    "'%s %s %s'.format([s, s, s])",
    "l.map(x, '%.1000f'.format([1.0]))",
    "l.all(x, '%s'.format([l]) != '')",
    "l.map(x, now.getHours(zone)).size()",
    "l.map(x, string(x)).join(s)",
    "l.map(x, string(x)).join(',').split(',').join('--').size()",
    " && ".join(["l == l"] * 150),
    " && ".join(["m == m"] * 150),
    "[" + ",".join(["s"] * 480) + "]",
    "[" + ",".join(["l"] * 480) + "]",
    "m.map(x, m[x]).map(y, [y, y, y])",
    "a.map(x, a.map(y, a))",
    "a.map(x, a.map(y, x == y))",
    "!" * 1_500 + "true",
]

_MANY_TIMES = "{% case 1 %}{% when " + ",".join(["1"] * 300) + " %}"
TEMPLATES = [
    "{% for i in (1..9999) %}{% endfor %}" * 400,
    "{% for i in (1..9999) %}" + "{% if i == 3 %}{% endif %}" * 500 + "{% endfor %}",
    "{% for i in (1..100) %}{% for j in (1..99) %}{{ i }}{{ j }}{% endfor %}{% endfor %}",
    "{% for i in l %}{{ i }}{% endfor %}",
    "{% for i in l %}{% for j in l %}{% endfor %}{% endfor %}",
    "{% for i in l reversed %}{{ i }}{% endfor %}" * 300,
    "{% for a in (1..2) %}" * 18 + "x" + "{% endfor %}" * 18,
    _MANY_TIMES * 15 + "{% endcase %}" * 15,
    (_MANY_TIMES + "{% assign a = 1 %}") * 10 + "{% endcase %}" * 10,
    "{% assign x = 99999 %}" + "{% assign x = x | times: x %}" * 400 + "{{ x }}",
    "{{ '9' | times: '" + "9" * 4_000 + "' | times: '" + "9" * 4_000 + "' }}",
    "{{ n | times: n | times: n }}",
    "{{ '1e300' | times: '1e300' | floor }}",
    "{{ '1e999999999' | plus: 1 }}",
    "{{ 5 | round: 99999999999 }}",
    "{{ s | upcase }}" * 900,
    "{{ s | split: '' | uniq | size }}",
    "{{ l | uniq | size }}",
    "{% for i in (1..9000) %}{{ l | sort | size }}{% endfor %}",
    "{% for i in (1..9000) %}{% if s contains 'b' %}{% endif %}{% endfor %}",
    "{% for i in (1..9000) %}{% if l contains 'b' %}{% endif %}{% endfor %}",
    "{% for i in (1..9000) %}{% if l == l %}{% endif %}{% endfor %}",
    "{% for i in (1..9000) %}{% case m %}{% when m %}{% endcase %}{% endfor %}",
    "{% if (1..1000000000) contains 'x' %}{% endif %}",
    "{% assign r = (1..1000000000) %}{{ r | last }}",
    "{% for i in (1..1000000000) limit: 1 offset: 99999999 %}{% endfor %}",
    "{% for i in (1..9000) %}{% capture x %}{{ s }}{% endcapture %}{% endfor %}",
    "{% for i in (1..9000) %}{% ifchanged %}{{ s }}{% endifchanged %}{% endfor %}",
    "".join(f"{{% assign a{number} = s %}}" for number in range(700)),
    "".join(f"{{% assign a{number} = 1 %}}" for number in range(400))
    + "{% for i in (1..9000) %}{% assign a0 = i %}{% endfor %}",
    "{% assign a = s | split: 'zz' %}" + "{% assign a = a | concat: a %}" * 20 + "{{ a | join: '' | size }}",
    "{% assign a = s | split: 'zz' %}" + "{% assign a = a | concat: a %}" * 20 + "{{ a }}",
    "{{ s | replace: '', s }}",
    "{{ s | split: 'a' | join: s }}",
    "{{ l | join: s }}",
    "{{ now | date: '%100000000d' }}",
    "{% for i in (1..9999) %}{{ now | date: '%c%c%c%c' }}{% endfor %}",
    "{% for i in (1..3000) %}{{ 'a' | append: 'b' | upcase | downcase | size | plus: 1 | times: 2 }}{% endfor %}",
    "{% for i in (1..900) %}{% cycle l, m %}{% endfor %}",
    "{% for i in (1..9999) %}{{ m[m.k1] }}{% endfor %}",
    "{{ m }}{{ k }}{{ a }}",
]


def _unit() -> float:
    """Return the processor time of a fixed piece of work, a few milliseconds, on this machine as it is now."""
    started = time.thread_time()
    sum(number * number for number in range(50_000))
    return time.thread_time() - started


MOST_UNITS = 60
"""About a tenth of a second on a machine of 2020, against fractions of a second to centuries without the limits."""


def units(work: Callable[[], Any]) -> float:
    """Return how much processor time some work takes, as a multiple of a fixed piece of work done at the same time.

    What a busy machine adds is noise: where it seems too much, the least of three tries counts.
    """
    least = float("inf")
    for _ in range(3):
        unit = min(_unit() for _ in range(3))
        started = time.thread_time()
        work()
        least = min(least, (time.thread_time() - started) / unit)
        if least < MOST_UNITS:
            break
    return least
