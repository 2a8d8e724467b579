"""Reads a document's keys, lists, texts and numbers, and gathers everything that is wrong on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from core.domain.errors import Violation
from core.domain.nearest import did_you_mean
from core.domain.qualification.condition import Condition, check
from core.domain.workflow import durations
from core.domain.workflow.expressions import Environment


class Reader:
    """Reads one document."""

    def __init__(self) -> None:
        self.problems: list[Violation] = []

    def problem(self, path: str, reason: str, message: str, hint: str = "") -> None:
        """Note one thing that is wrong."""
        self.problems.append(Violation(path, reason, message, hint))

    def keys(self, raw: Mapping[str, Any], path: str, known: Sequence[str]) -> None:
        """Refuse keys that are not known."""
        for key in raw:
            if key not in known:
                at = f"{path}.{key}" if path else str(key)
                hint = did_you_mean(str(key), known) or f"Use {', '.join(known)}."
                self.problem(at, "UNKNOWN_KEY", f"there is no `{str(key)[:80]}` here", hint)

    def map(self, raw: Any, path: str, known: Sequence[str]) -> bool:
        """Tell whether this is a map, and refuse its unknown keys."""
        if not isinstance(raw, Mapping):
            self.problem(path, "WRONG_TYPE", "must be a map of keys to values", f"Its keys are {', '.join(known)}.")
            return False
        self.keys(raw, path, known)
        return True

    def list(self, raw: Any, path: str, most: int) -> list[Any]:
        """Return a list, empty where there is none."""
        if raw is None:
            return []
        if not isinstance(raw, list):
            self.problem(path, "WRONG_TYPE", "must be a list")
            return []
        if len(raw) > most:
            self.problem(path, "TOO_MANY", f"has {len(raw)} items, at most {most} are accepted")
        return raw[:most]

    def text(self, raw: Mapping[str, Any], key: str, path: str, longest: int, *, required: bool = True) -> str:
        """Return a text, empty where there is none."""
        value = raw.get(key)
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)  # an unquoted number is a fine name
        if value is None or (isinstance(value, str) and not value.strip()):
            if required:
                self.problem(path, "REQUIRED", "is missing")
            return ""
        if not isinstance(value, str):
            self.problem(path, "WRONG_TYPE", "must be text")
            return ""
        if len(value) > longest:
            self.problem(path, "TOO_LONG", f"has {len(value)} characters, at most {longest} are accepted")
        return value.strip()

    def whole(
        self, raw: Mapping[str, Any], key: str, path: str, least: int, most: int, *, default: int | None = None
    ) -> int:
        """Return a whole number; a problem without a default, where it is missing."""
        value = raw.get(key)
        if value is None:
            if default is None:
                self.problem(path, "REQUIRED", "is missing", f"Give a whole number from {least} to {most}.")
            return default or 0
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            self.problem(path, "NOT_A_WHOLE_NUMBER", "must be a whole number", f"From {least} to {most}.")
            return default or 0
        if not least <= value <= most:
            hint = "What speaks against a lead is a disqualify rule." if path.endswith("points") and value < 0 else ""
            self.problem(path, "OUT_OF_RANGE", f"is {value}; it must be from {least} to {most}", hint)
        return value

    def share(self, raw: Mapping[str, Any], key: str, path: str, default: float) -> float:
        """Return a number from 0 to 1."""
        value = raw.get(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            self.problem(path, "OUT_OF_RANGE", "must be a number from 0 to 1", "Such as 0.7.")
            return default
        return float(value)

    def length(self, written: Any, path: str, longest: timedelta) -> timedelta | None:
        """Return a length of time, or None where there is none."""
        if written is None:
            return None
        try:
            length = durations.parse(str(written))
        except ValueError as error:
            self.problem(path, "BAD_DURATION", str(error), durations.EXAMPLE)
            return None
        if length > longest:
            self.problem(path, "TOO_LONG", f"is longer than {longest.days} days")
        return length

    def condition(
        self, raw: Mapping[str, Any], path: str, environment: Environment, *, required: bool
    ) -> Condition | None:
        """Return the condition under `when`, checked."""
        text = raw.get("when")
        if text is None and not required:
            return None
        if isinstance(text, bool):  # `when: true` is YAML for a condition that always holds
            text = "true" if text else "false"
        if not isinstance(text, str):
            self.problem(path, "REQUIRED", "a condition is needed", 'Write CEL, such as contact.country == "DE".')
            return None
        condition, problems = check(text, environment, path)
        self.problems += problems
        return condition
