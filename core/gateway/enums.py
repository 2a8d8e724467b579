"""Enum values as HTTP spells them: `already_enrolled` for ENROLL_OUTCOME_ALREADY_ENROLLED.

The contract's linter demands the prefix on every value, so one rule serves all enums, both ways.
"""

from __future__ import annotations

import re
from functools import cache

from google.protobuf.descriptor import EnumDescriptor

_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


@cache
def short_names(enum: EnumDescriptor) -> dict[int, str]:
    """Return number to short name."""
    prefix = _WORD.sub("_", enum.name).upper() + "_"
    return {value.number: value.name.removeprefix(prefix).lower() for value in enum.values}


@cache
def numbers(enum: EnumDescriptor) -> dict[str, int]:
    """Return every accepted spelling, in lower case, to its number: the short names and the contract's own."""
    short = {name: number for number, name in short_names(enum).items()}
    return short | {value.name.lower(): value.number for value in enum.values}


def choices(enum: EnumDescriptor) -> list[str]:
    """Return the short names that a caller can choose: all but the zero value, which means that nothing was said."""
    return [name for number, name in short_names(enum).items() if number]
