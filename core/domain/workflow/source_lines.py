"""Where in the text of a document a problem stands: from a path such as `steps[3].cases[0].when` to its line."""

from __future__ import annotations

import re
from typing import Any

import yaml

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INDEX = re.compile(r"\[(\d+)\]")
_SAID = re.compile(r"\bline (\d+)\b(?:, column (\d+)\b)?")
_ALSO = {"exits.next": "next"}
"""What is called one way, and may be written another."""


class SourceLines:
    """The lines of one document's text, YAML or JSON."""

    def __init__(self, text: str):
        try:
            loader = _Loader(text)
            try:
                self._root = loader.get_single_node()
            finally:
                loader.dispose()
        except (yaml.YAMLError, UnicodeError, RecursionError):
            self._root = None

    def line(self, path: str, message: str = "") -> int:
        """Return the line of a path, from 1, or of what is nearest around it; 0 when there is none."""
        return self.place(path, message)[0]

    def place(self, path: str, message: str = "") -> tuple[int, int]:
        """Return line and column of a path, both from 1, or of what is nearest around it; zeros when there is none.

        A text that cannot be read says in its message where that is.
        """
        if self._root is None or path == "source":
            found = _SAID.search(message)
            return (int(found.group(1)), int(found.group(2) or 0)) if found else (0, 0)
        where, node, rest = (0, 0), self._root, path
        while rest:
            step = _into(node, rest)
            if step is None:
                break
            place, node, rest = step
            where = (place.start_mark.line + 1, place.start_mark.column + 1)
        return where


def _into(node: Any, path: str) -> tuple[Any, Any, str] | None:
    """Return the place of the first part of a path, its value, and the rest; None where it leads nowhere."""
    if isinstance(node, yaml.SequenceNode):
        found = _INDEX.match(path)
        if found is None or int(found.group(1)) >= len(node.value):
            return None
        item = node.value[int(found.group(1))]
        return item, item, path[found.end() :].lstrip(".")
    if not isinstance(node, yaml.MappingNode):
        return None
    pairs = [(key, value) for key, value in node.value if isinstance(key, yaml.ScalarNode)]
    for wanted in (path, _ALSO.get(path, path)):
        # Keys may have dots in them, such as `custom.plan`: the longest that fits is meant.
        for key, value in sorted(pairs, key=lambda pair: -len(pair[0].value)):
            rest = wanted.removeprefix(key.value)
            if wanted.startswith(key.value) and rest[:1] in ("", ".", "["):
                return key, value, rest.lstrip(".")
    return None
