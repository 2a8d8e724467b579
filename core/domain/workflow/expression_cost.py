"""An upper bound of the work an expression does, from its tree and the sizes of the values it is given.

The engine limits loops to 10,000 rounds, but not what one round does: a text can be replaced into a longer one again
and again, a list doubled in a list, and `map` copies its result once a round. So before an expression of that sort
runs, this walk over its tree adds up, in nanoseconds, the most that it could take. The figures are measured, and round
up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from core.domain.frozen import frozen
from core.domain.workflow.expression_tree import Tree
from core.domain.workflow.pattern_cost import states

MOST_WORK = 20_000_000
"""Nanoseconds that one evaluation may be estimated at."""
LARGEST_RESULT = 65_536
"""Characters and values in what an expression comes to, and in anything on the way there."""
MOST_ROUNDS = 10_000
"""Rounds of all loops together, after which the engine itself gives up."""

_CALL, _CHARACTER, _VALUE, _APPEND, _ZONE, _CONVERTED, _MOMENT = 100, 1, 40, 32, 15_000, 2_000, 10_000


class TooMuchWork(Exception):
    """An expression would take too long, or come to something too large."""


@frozen
class Size:
    """How large a value is at most."""

    length: int = 0
    """Characters of a text, items of a list, entries of a map; 0 for all else."""
    characters: int = 0
    """In it and all that is nested in it."""
    values: int = 1
    """Itself and all that is nested in it."""
    item: Size | None = None
    """The largest thing in it; None where it holds nothing."""

    def rounded(self) -> Size:
        """Return a size at least as large, one of few, so that what is worked out for it can be kept."""
        item = self.item and self.item.rounded()
        return Size(_round(self.length), _round(self.characters), _round(self.values), item)


SMALL = Size()
_NOTHING = Size(values=0)


def _round(number: int) -> int:
    return 1 << (number - 1).bit_length() if number > 8 else number


def text_of(length: int) -> Size:
    """Return the size of a text."""
    return Size(length, length)


def join(*sizes: Size | None) -> Size | None:
    """Return a size that is at least as large as each of these."""
    known = [size for size in sizes if size is not None]
    if len(known) < 2:
        return known[0] if known else None
    return Size(
        max(size.length for size in known),
        max(size.characters for size in known),
        max(size.values for size in known),
        join(*(size.item for size in known)),
    )


def measure(value: Any) -> Size:
    """Return the size of a value as the engine is given it."""
    match value:
        case str():
            return text_of(len(value) if value.isascii() else 4 * len(value))
        case dict():
            return _holding([measure(part) for pair in value.items() for part in pair], len(value))
        case list():
            return _holding([measure(item) for item in value], len(value))
        case _:
            return SMALL


def _holding(parts: list[Size], length: int) -> Size:
    return Size(length, sum(part.characters for part in parts), 1 + sum(part.values for part in parts), join(*parts))


_ITEM = Size(20, 200, 20, Size(8, 40, 4, text_of(20)))
_USUAL: Mapping[str, Size] = {
    "string": text_of(100),
    "map": Size(20, 1_000, 200, _ITEM),
    "list": Size(20, 1_000, 200, _ITEM),
    "any": Size(20, 1_000, 200, _ITEM),
}


def usual(kind: str) -> Size:
    """Return how large a value of a kind usually is, which every expression must be able to bear."""
    return _USUAL.get(kind, SMALL)


def light(tree: Tree, kinds: Mapping[str, str]) -> bool:
    """Tell whether an expression only looks at each value it names: nothing in it repeats, searches or grows."""
    if tree.kind == "loop" or (tree.kind == "call" and tree.text in _HEAVY):
        return False
    if tree.kind == "call" and tree.text in _SEEKING and tree.parts[1].kind not in ("list", "text"):
        return False  # a written list or text is short
    if tree.kind in ("list", "map") and _parts(tree) > _MOST_GATHERED:
        return False
    if tree.kind == "call" and tree.text == "_+_" and not _counts(tree, kinds):
        return False
    return all(light(part, kinds) for part in tree.parts)


def _parts(tree: Tree) -> int:
    return 1 + sum(map(_parts, tree.parts))


def decides(tree: Tree) -> bool:
    """Tell whether an expression comes to true, false or an error, never to null or to something nested."""
    return tree.kind == "present" or (tree.kind == "call" and tree.text in _DECIDING)


def _counts(tree: Tree, kinds: Mapping[str, str]) -> bool:
    """Tell whether a part comes to a number or an instant, whatever the values."""
    if tree.kind == "name":
        return kinds.get(tree.text) in ("integer", "number", "boolean", "instant", "date")
    if tree.kind == "call" and tree.text == "_+_":
        return all(_counts(part, kinds) for part in tree.parts)
    return tree.kind == "constant" or (tree.kind == "call" and (tree.text in _SMALL or tree.text.startswith("get")))


def check_work(tree: Tree, sizes: Mapping[str, Size]) -> None:
    """Raise TooMuchWork when an expression might take too long on values of these sizes, by variable."""
    walk = _Walk()
    result = walk.size(tree, sizes)
    work = min(walk.work, walk.outside + MOST_ROUNDS * walk.round) + _CONVERTED * result.values
    if work > MOST_WORK or result.characters + result.values > LARGEST_RESULT:
        raise TooMuchWork


class _Walk:
    """Adds up work; `size` returns how large each part may become."""

    def __init__(self) -> None:
        self.work = 0
        """All of it."""
        self.outside = 0
        """Without what is inside loops."""
        self.round = 0
        """The costliest round of any loop, without the loops in it."""

    def spend(self, work: int) -> None:
        self.work += work
        self.outside += work

    def size(self, tree: Tree, known: Mapping[str, Size]) -> Size:
        """Return how large a part may become; adds the work of making it."""
        self.spend(_CALL)
        match tree.kind:
            case "text":
                return text_of(len(tree.text))
            case "name":
                return known.get(tree.text) or known.get(tree.text.removeprefix("."), SMALL)
            case "select":
                return self.size(tree.parts[0], known).item or SMALL
            case "list" | "map":
                parts = [self.size(part, known) for part in tree.parts]
                return self.made(_holding(parts, len(parts)))
            case "call":
                return self.made(self.call(tree, [self.size(part, known) for part in tree.parts]))
            case "loop":
                return self.loop(tree, known)
            case _:
                for part in tree.parts:
                    self.size(part, known)
                return SMALL

    def made(self, size: Size) -> Size:
        if size.characters > 16 * LARGEST_RESULT or size.values > LARGEST_RESULT:
            raise TooMuchWork
        return size

    def call(self, tree: Tree, sizes: list[Size]) -> Size:
        if tree.text == "matches":
            return self.match(tree, sizes)
        if tree.text == "moment":
            self.spend(_MOMENT)
            return SMALL
        if tree.text == "_?_:_":
            return join(*sizes[1:]) or SMALL
        if tree.text == "_[_]":
            return sizes[0].item or SMALL
        if tree.text in _COMPARING:
            least = min(sizes, key=lambda size: size.values + size.characters)
            self.spend(_VALUE * least.values + _CHARACTER * least.characters)
            return SMALL
        if made := _MAKING.get(tree.text):
            needle = max(1, len(tree.parts[1].text)) if len(tree.parts) > 1 and tree.parts[1].kind == "text" else 1
            size = made(sizes, needle)
        elif tree.text.startswith("get"):
            self.spend(_ZONE * (len(sizes) > 1))
            return SMALL
        else:
            size = SMALL if tree.text in _SMALL else Size(*_sums(sizes), join(*(size.item for size in sizes)))
        read = sum(part.characters for part in sizes)
        self.spend(_CHARACTER * 8 * (read + size.characters) + _VALUE * (size.values + sum(map(_values, sizes))))
        if tree.text in _SEARCHING and len(sizes) > 1:
            self.spend(sizes[0].characters * sizes[1].characters // 64)
        return size

    def match(self, tree: Tree, sizes: list[Size]) -> Size:
        pattern = states(tree.parts[-1].text)
        self.spend(600 * pattern + 12 * pattern * sizes[0].characters)  # made anew at every call, then walked
        return SMALL

    def loop(self, tree: Tree, known: Mapping[str, Size]) -> Size:
        over, start, condition, step, _ = tree.parts
        items = self.size(over, known)
        self.size(start, known)
        inside = {**known, **dict.fromkeys(tree.names, _NOTHING), tree.names[0]: items.item or SMALL}
        work, outside = self.work, self.outside
        self.work = self.outside = 0
        self.size(condition, inside)
        made = self.size(step, inside)
        self.round = max(self.round, self.outside)
        self.work, self.outside = work + items.length * self.work, outside
        if start.kind != "list":
            return SMALL
        self.spend(_APPEND * items.length**2)  # the engine copies the list with every item
        count = max(1, items.length)
        return self.made(Size(items.length, count * made.characters, 1 + count * made.values, made.item))


def _values(size: Size) -> int:
    return size.values


def _sums(sizes: list[Size]) -> tuple[int, int, int]:
    return (
        sum(size.length for size in sizes),
        sum(size.characters for size in sizes),
        sum(size.values for size in sizes),
    )


def _plus(sizes: list[Size], needle: int) -> Size:
    if not any(size.length or size.item for size in sizes):
        return SMALL
    return Size(*_sums(sizes), join(*(size.item for size in sizes)))


def _replaced(sizes: list[Size], needle: int) -> Size:
    there, new = sizes[0].characters, sizes[2].characters if len(sizes) > 2 else 0
    return text_of(there + (there // needle + 1) * new)


def _joined(sizes: list[Size], needle: int) -> Size:
    between = sizes[1].characters if len(sizes) > 1 else 0
    return text_of(sizes[0].characters + sizes[0].length * between)


def _split(sizes: list[Size], needle: int) -> Size:
    there = sizes[0].characters
    return Size(there // needle + 1, there, there // needle + 2, text_of(there))


def _formatted(sizes: list[Size], needle: int) -> Size:
    arguments = sizes[1] if len(sizes) > 1 else SMALL  # "%.1000f" makes 1,300 characters of seven
    return text_of(200 * sizes[0].characters + 4 * arguments.characters + 40 * arguments.values)


def _same(sizes: list[Size], needle: int) -> Size:
    return text_of(max(30, sizes[0].characters))


_MAKING: Mapping[str, Callable[[list[Size], int], Size]] = {
    "_+_": _plus,
    "replace": _replaced,
    "join": _joined,
    "split": _split,
    "format": _formatted,
    **dict.fromkeys(("lowerAscii", "upperAscii", "trim", "substring", "reverse", "charAt", "string"), _same),
    "dyn": lambda sizes, needle: sizes[0],
}
_COMPARING = frozenset({"_==_", "_!=_", "_<_", "_<=_", "_>_", "_>=_"})
_DECIDING = _COMPARING | {"_&&_", "_||_", "!_", "@in", "startsWith", "endsWith", "contains", "matches"}
_MOST_GATHERED = 100
"""Parts of a written list or map that only gathers values."""
_SEARCHING = frozenset({"contains", "indexOf", "lastIndexOf", "replace", "split"})
_HEAVY = frozenset({"replace", "join", "format", "split", "matches"})
_SEEKING = frozenset({"contains", "indexOf", "lastIndexOf", "@in"})
_SMALL = frozenset(
    """
    _&&_ _||_ !_ -_ _-_ _*_ _/_ _%_ @not_strictly_false size startsWith endsWith contains indexOf lastIndexOf int uint
    double bool duration timestamp moment type @in
    """.split()
)
