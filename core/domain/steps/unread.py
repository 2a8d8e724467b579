"""What stands for a setting that could not be read, while a step checks how its settings go together.

It is there, so that a step does not miss it; but nothing can be said of it. Whoever looks into it is stopped, and what
was reported up to then holds.
"""

from __future__ import annotations

from typing import Any, NoReturn


class LookedIntoUnread(Exception):
    """Something was to be made of a setting that could not be read."""


class _Unread:
    """A value of which nothing is known."""

    __slots__ = ()

    def _stop(self, *_: Any) -> NoReturn:
        raise LookedIntoUnread

    __bool__ = __len__ = __iter__ = __contains__ = __getitem__ = __getattr__ = _stop
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __hash__ = __str__ = __format__ = _stop


UNREAD: Any = _Unread()
"""The one such value."""
