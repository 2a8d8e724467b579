"""The Liquid engine, cut down to what reads nothing but the values it is given, and made to count its own work.

Rendering ends soon by construction: each block pays for each time it is gone through, each filter and comparison for
the sizes it works on, and what has cost too much is stopped. No timer is involved: it always stops at the same place.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from io import StringIO
from typing import Any, cast

from liquid import Environment, RenderContext, Undefined, escape
from liquid.ast import BlockNode, Node
from liquid.builtin.content import ContentNode
from liquid.builtin.expressions import FilteredExpression, Path, logical
from liquid.builtin.expressions.primitive import RangeLiteral
from liquid.builtin.output import OutputNode
from liquid.builtin.tags.case_tag import MultiExpressionBlockNode
from liquid.builtin.tags.cycle_tag import CycleNode
from liquid.expression import Expression
from liquid.filter import with_context
from liquid.template import BoundTemplate

LARGEST_OUTPUT = 65_536
"""Characters of a rendered text, and characters and values of anything on the way to it."""
MOST_ITERATIONS = 10_000
MOST_WORK = 40_000
"""About microseconds; a usual e-mail takes a few hundred."""

_BUFFER = 25
"""Work of making the text that a block is rendered to; a block of white space gets one to throw away."""
_LONGEST_INTEGER = 1_024
"""Bits of a number that a filter makes."""
_PLAIN_INTEGER = 2**63
_COMPUTED = frozenset({"size", "first", "last"})
"""What the engine works out of a list or a text."""

FILTERS = tuple(
    """
    abs append at_least at_most base64_encode capitalize ceil compact concat date default divided_by downcase escape
    first floor join last lstrip map minus modulo newline_to_br plus prepend remove remove_first replace
    replace_first reverse round rstrip size slice sort split squish strip strip_newlines sum times truncate
    truncatewords uniq upcase url_decode url_encode where
    """.split()
)
"""The filters there are; each works on its arguments alone."""

TAGS = tuple("assign break capture case comment continue cycle echo for if ifchanged unless".split())
"""The tags that authors may write."""

_INNER_TAGS = ("#", "content", "output", "illegal", "doc", "raw")


class TooLarge(Exception):
    """A rendering takes too long, or makes something too large."""


def extent(value: Any) -> int:
    """Return how many characters and values are in a value, nested ones included.

    Raises TooLarge as soon as there are more than a rendered text may have.
    """
    if isinstance(value, str):
        found = len(value)
    elif isinstance(value, range):
        found = len(value) if value.stop - value.start <= LARGEST_OUTPUT else LARGEST_OUTPUT + 1
    elif not isinstance(value, list | tuple | dict):
        return 1
    else:
        found, open_values = 1, [value]
        while open_values and found <= LARGEST_OUTPUT:
            inner = open_values.pop()
            found += len(inner)
            if found > LARGEST_OUTPUT:
                break
            for item in inner.values() if isinstance(inner, dict) else inner:
                if isinstance(item, str):
                    found += len(item)
                elif isinstance(item, list | tuple | dict):
                    open_values.append(item)
    if found > LARGEST_OUTPUT:
        raise TooLarge
    return found


class Context(RenderContext):
    """The state of one rendering, and what it has cost so far."""

    __slots__ = ("_held", "_sizes", "_work", "gaps")

    def __init__(self, template: BoundTemplate, values: Mapping[str, object]):
        super().__init__(template, globals=values)
        self.gaps: dict[str, None] = {}
        """Names of values that were to be written and came to nothing, in order."""
        self._work = 0
        self._held = 0
        self._sizes: dict[str, int] = {}

    def charge(self, work: int) -> None:
        """Count work; raises TooLarge when it was too much."""
        self._work += work
        if self._work > MOST_WORK:
            raise TooLarge

    def weigh(self, value: Any) -> int:
        """Return the extent of a value that is about to be gone through, after counting it as work."""
        if type(value) is str and len(value) < 512:
            return len(value)
        found = extent(value)
        self.charge(1 + (found >> 9 if isinstance(value, str) else found >> 2))
        return found

    def assign(self, key: str, val: Any) -> None:
        """Set a variable of the template; all of them together may be as large as a rendered text."""
        found = self.weigh(val)
        self._held += found - self._sizes.get(key, 0)
        self._sizes[key] = found
        if self._held > LARGEST_OUTPUT:
            raise TooLarge
        self.locals[key] = val

    def filter(self, name: str, token: Any = None) -> Callable[..., object]:
        """Return a filter that counts its work."""
        return partial(_filtered, self, name, super().filter(name, token))

    def get_buffer(self, buf: Any = None) -> StringIO:
        """Return where a block within the template is rendered to."""
        self.charge(_BUFFER)
        return Buffer(self, buf.room if isinstance(buf, Buffer) else LARGEST_OUTPUT)


class Buffer(StringIO):
    """A text that may not grow too large."""

    def __init__(self, context: Context, room: int = LARGEST_OUTPUT):
        super().__init__()
        self._context = context
        self.room = room
        """Characters that may still be written."""

    def write(self, text: str, /) -> int:
        """Add a text; raises TooLarge when there is no room."""
        self.room -= len(text)
        if self.room < 0:
            raise TooLarge
        if len(text) > 512:
            self._context.charge(len(text) >> 9)
        return super().write(text)


def _filtered(
    context: Context, name: str, function: Callable[..., Any], value: Any, /, *args: Any, **kwargs: Any
) -> Any:
    """Call a filter; refuses what it would blow up: its arguments are small, its result need not be."""
    size = context.weigh(value) + sum(map(context.weigh, args))
    if isinstance(value, list | tuple | range):
        context.charge(len(value) ** 2 >> 4 if name == "uniq" else len(value))
    if name in ("replace", "replace_first") and args:
        old, new = str(args[0]), str(args[1]) if len(args) > 1 else ""
        size += str(value).count(old) * len(new)
    if name == "join" and isinstance(value, list | tuple | range):
        size += len(value) * len(str(args[0]) if args else " ")
    if size > LARGEST_OUTPUT:
        raise TooLarge
    result = function(value, *args, **kwargs)
    if isinstance(result, int) and result.bit_length() > _LONGEST_INTEGER:
        raise TooLarge
    if isinstance(result, str | list) and len(result) > LARGEST_OUTPUT:
        raise TooLarge
    return result


class _Toll(Node):
    """What a block begins with: going through it costs as much as there is in it."""

    __slots__ = ("_work",)

    def __init__(self, block: BlockNode):
        super().__init__(block.token)
        self._work = 2 + _BUFFER * block.blank + sum(_steps(node) for node in block.nodes)

    def __str__(self) -> str:
        return ""

    def render_to_output(self, context: RenderContext, buffer: Any) -> int:
        """Count the work."""
        cast(Context, context).charge(self._work)
        return 0


class _Weighed(Expression):
    """An expression whose value is gone through as a whole: compared, or written out."""

    __slots__ = ("_inner",)

    def __init__(self, inner: Expression):
        super().__init__(inner.token)
        self._inner = inner

    def __str__(self) -> str:
        return str(self._inner)

    def evaluate(self, context: RenderContext) -> object:
        """Return the value, after counting its extent as work."""
        value = self._inner.evaluate(context)
        if isinstance(value, str | list | tuple | dict):
            cast(Context, context).weigh(value)
        return value

    def children(self) -> list[Expression]:
        """Return what it is made of."""
        return [self._inner]


class _Written(_Weighed):
    """What is written into the text; where it comes to nothing, the text has a gap."""

    __slots__ = ("_name",)

    def __init__(self, inner: Expression):
        super().__init__(inner)
        left = inner.left if isinstance(inner, FilteredExpression) else None
        named = itertools.takewhile(lambda part: isinstance(part, str), left.path if isinstance(left, Path) else ())
        self._name = ".".join(map(str, named))

    def evaluate(self, context: RenderContext) -> object:
        """Return the value, and remember its name where there is none."""
        value = super().evaluate(context)
        if self._name and (value is None or value == "" or isinstance(value, Undefined)):
            cast(Context, context).gaps[self._name] = None
        return value


class _Near(Expression):
    """The end of a range, no further from its beginning than a loop may go."""

    __slots__ = ("_start", "_stop")

    def __init__(self, span: RangeLiteral):
        super().__init__(span.token)
        self._start, self._stop = span.start, span.stop

    def __str__(self) -> str:
        return str(self._stop)

    def evaluate(self, context: RenderContext) -> object:
        """Return the end; raises TooLarge when it is too far away."""
        stop = self._stop.evaluate(context)
        try:
            reach = int(cast(Any, stop)) - int(cast(Any, self._start.evaluate(context)) or 0)
        except (TypeError, ValueError):
            reach = 0
        if reach >= MOST_ITERATIONS:
            raise TooLarge
        return stop

    def children(self) -> list[Expression]:
        """Return what it is made of."""
        return [self._start, self._stop]


_NO_CONTEXT = cast(RenderContext, None)  # only nodes that load other templates would look at it


def guard(nodes: list[Node]) -> None:
    """Make parsed nodes count their work when they are rendered."""
    for node in nodes:
        for expression in node.expressions():
            _guard_expression(expression)
        if isinstance(node, OutputNode):
            node.expression = _Written(node.expression)
        elif isinstance(node, CycleNode):
            node.args = [_Weighed(argument) for argument in node.args]
        elif isinstance(node, MultiExpressionBlockNode):
            compared = cast(Any, node.expression)
            compared.left = _Weighed(compared.left)
            compared.expressions = [_Weighed(one) for one in compared.expressions]
        guard(list(node.children(_NO_CONTEXT)))
        if isinstance(node, BlockNode):
            node.nodes.insert(0, _Toll(node))


def _guard_expression(expression: Expression) -> None:
    for part in expression.children():
        _guard_expression(part)
    if isinstance(expression, RangeLiteral):
        expression.stop = _Near(expression)
    elif isinstance(expression, _COMPARISONS):
        expression.left, expression.right = _Weighed(expression.left), _Weighed(expression.right)


_COMPARISONS = (
    *(logical.EqExpression, logical.NeExpression, logical.LtExpression, logical.GtExpression),
    *(logical.LeExpression, logical.GeExpression, logical.ContainsExpression),
)


def _steps(node: Node) -> int:
    """Return about how much work a node is without the blocks in it, which count their own."""
    own = 1 + sum(_parts(expression) for expression in node.expressions())
    return own + sum(_steps(child) for child in node.children(_NO_CONTEXT) if not isinstance(child, BlockNode))


def _parts(expression: Expression) -> int:
    own = len(expression.path) if isinstance(expression, Path) else 1
    filters = len(getattr(expression, "filters", None) or ())
    return own + 4 * filters + sum(map(_parts, expression.children()))


@with_context
def _date(value: Any, layout: Any = "%Y-%m-%d", *, context: RenderContext) -> str:
    """Lay out an instant; `now` is the instant of the decision, never the machine's clock."""
    if value in ("now", "today"):
        value = context.resolve("now")
    if isinstance(value, int | float) and not isinstance(value, bool):
        instant = datetime.fromtimestamp(value, UTC)
    else:
        try:
            instant = datetime.fromisoformat(str(value))
        except ValueError:
            return "" if value is None else str(value)
    return instant.strftime(str(layout)[:200])


class _Liquid(Environment):
    loop_iteration_limit = MOST_ITERATIONS
    block_nesting_limit = 20


def engine(*, autoescape: bool) -> Environment:
    """Return an engine; with `autoescape` every value is written with its HTML characters escaped."""
    made = _Liquid(autoescape=autoescape)
    made.tags = {name: tag for name, tag in made.tags.items() if name in (*TAGS, *_INNER_TAGS)}
    made.filters = {name: made.filters[name] for name in FILTERS} | {"date": _date}
    return made


def plain_parts(nodes: list[Node]) -> tuple[tuple[str, bool], ...] | None:
    """Return parsed nodes as texts and names of values, each with whether it is a name.

    None where there is more to it than to put values between texts. To be asked before `guard`.
    """
    parts = []
    for node in nodes:
        if isinstance(node, ContentNode):
            parts.append((node.text, False))
        elif name := _plain_name(node):
            parts.append((name, True))
        else:
            return None
    return tuple(parts)


def _plain_name(node: Node) -> str:
    """Return the name of the value that a node writes as it is; empty where it does something else."""
    written = node.expression if isinstance(node, OutputNode) else None
    if not isinstance(written, FilteredExpression) or written.filters or not isinstance(written.left, Path):
        return ""
    path = written.left.path
    plain = all(isinstance(one, str) and one not in _COMPUTED and not one.lstrip("-").isdigit() for one in path)
    return ".".join(map(str, path)) if plain else ""


def join(parts: tuple[tuple[str, bool], ...], values: Mapping[str, Any], *, autoescape: bool) -> str | None:
    """Return what `render` would, without its machinery; None where a value is more than a short number or text."""
    made = []
    for text, named in parts:
        if named:
            value = values[text]
            if value is None:
                continue
            if type(value) is int and -_PLAIN_INTEGER < value < _PLAIN_INTEGER:
                value = str(value)
            if type(value) is not str:
                return None
            text = escape(value) if autoescape else value
        made.append(text)
    joined = "".join(made)
    return joined if len(joined) <= LARGEST_OUTPUT else None


def render(nodes: list[Node], context: Context) -> str:
    """Return the rendered text.

    Raises TooLarge and what the engine raises.
    """
    buffer = Buffer(context)
    for node in nodes:
        node.render(context, buffer)
    return buffer.getvalue()
