"""A scoring model's document, YAML or JSON, checked as a whole: either a compiled model or everything that is wrong."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import lru_cache
from itertools import pairwise
from typing import Any

from core.domain.errors import Invalid, Violation
from core.domain.nearest import did_you_mean
from core.domain.qualification import environments
from core.domain.qualification.condition import Condition, check
from core.domain.qualification.model import Demand, Group, GroupName, Routing, Rule, ScoringModel, Tier
from core.domain.records.fields import validate_fields
from core.domain.workflow import durations, source
from core.domain.workflow.expressions import Environment

MOST_POINTS = 1_000
MOST_RULES = 100
"""In one group."""
MOST_TIERS = 10
MOST_MEMBERS = 100
DEFAULT_CAP = 100
DEFAULT_WINDOW = timedelta(days=90)
LONGEST_WINDOW = timedelta(days=730)

_KEYS = (
    *("title", "description", "qualified_at", "nurture_at", "tiers"),
    *("disqualify", "fit", "engagement", "routing", "approval", "on_qualified"),
)
_TIERS_EXAMPLE = "Such as [{name: A, from: 70}, {name: B, from: 0}]."
_RULE_KEYS: Mapping[GroupName, Sequence[str]] = {
    "fit": ("id", "when", "points"),
    "engagement": ("id", "event", "when", "points", "per", "max_points"),
    "disqualify": ("id", "when"),
}
_ID = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,62})")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
_OWN_FIELDS = environments.RESULT_FIELDS | {"contact_id", "owner_id"}


@lru_cache(maxsize=256)
def compiled(text: str) -> ScoringModel:
    """Return the model that a text describes; the same text gives the same object.

    Raises Invalid with everything that is wrong with it.
    """
    reader = _Reader()
    model = reader.model(source.parse(text))
    if model is None or reader.problems:
        raise Invalid(*reader.problems)
    return model


class _Reader:
    """Reads one document and gathers its problems on the way."""

    def __init__(self) -> None:
        self.problems: list[Violation] = []
        self._ids: dict[str, str] = {}

    def problem(self, path: str, reason: str, message: str, hint: str = "") -> None:
        self.problems.append(Violation(path, reason, message, hint))

    def model(self, document: Mapping[str, Any]) -> ScoringModel | None:
        self._keys(document, "", _KEYS)
        title = self._text(document, "title", "title", 200)
        self._text(document, "description", "description", 2_000, required=False)
        qualified_at = self._whole(document, "qualified_at", "qualified_at", 1, 2 * MOST_POINTS)
        nurture_at = self._whole(document, "nurture_at", "nurture_at", 0, 2 * MOST_POINTS, default=0)
        if nurture_at > qualified_at > 0:
            self.problem("nurture_at", "ABOVE_QUALIFIED", "is above qualified_at", "Give it qualified_at or less.")
        tiers = self._tiers(document.get("tiers"))
        disqualify = self._rules(document.get("disqualify"), "disqualify", "disqualify", 0)
        fit = self._group(document.get("fit"), "fit", ())
        engagement = self._group(document.get("engagement"), "engagement", ("window",))
        window = self._window(document.get("engagement"))
        routing = self._routing(document.get("routing"))
        approval = self._approval(document.get("approval"))
        on_qualified = self._on_qualified(document.get("on_qualified"))
        if not self.problems:
            self._reachable(fit, engagement, qualified_at)
        if self.problems:
            return None
        return ScoringModel(
            title, qualified_at, nurture_at, tiers, fit, engagement, window, disqualify, routing, approval, on_qualified
        )

    def _reachable(self, fit: Group, engagement: Group, qualified_at: int) -> None:
        most = fit.reachable + engagement.reachable
        if not fit.rules and not engagement.rules:
            self.problem("fit.rules", "NO_RULES", "no rule gives points", "Add a rule to fit or to engagement.")
        elif qualified_at > most:
            message = f"nobody can reach {qualified_at}: the rules give at most {most} points after their caps"
            self.problem("qualified_at", "OUT_OF_REACH", message, f"Give it {most} or less, or raise points and caps.")

    def _tiers(self, raw: Any) -> tuple[Tier, ...]:
        items = self._list(raw, "tiers", MOST_TIERS)
        if not items:
            self.problem("tiers", "REQUIRED", "a model needs tiers", _TIERS_EXAMPLE)
        tiers = []
        for index, item in enumerate(items):
            path = f"tiers[{index}]"
            if self._map(item, path, ("name", "from")):
                name = self._text(item, "name", f"{path}.name", 20)
                tiers.append(Tier(name, self._whole(item, "from", f"{path}.from", 0, 2 * MOST_POINTS)))
        for index, (above, below) in enumerate(pairwise(tiers), 1):
            if below.start >= above.start:
                message = f"begins at {below.start}, not below the tier above it ({above.start})"
                self.problem(f"tiers[{index}].from", "NOT_DESCENDING", message, "List the highest tier first.")
        for index, tier in enumerate(tiers):
            if tier.name and tier.name in [other.name for other in tiers[:index]]:
                self.problem(f"tiers[{index}].name", "DUPLICATE", f"there is a tier {tier.name} already")
        descending = all(below.start < above.start for above, below in pairwise(tiers))
        if len(tiers) == len(items) and tiers and descending and tiers[-1].start != 0:
            path = f"tiers[{len(tiers) - 1}].from"
            self.problem(path, "NO_LOWEST_TIER", "lower scores have no tier", "Let the last tier begin at 0.")
        return tuple(tiers)

    def _group(self, raw: Any, name: GroupName, more: tuple[str, ...]) -> Group:
        if raw is None or not self._map(raw, name, ("cap", *more, "rules")):
            return Group(DEFAULT_CAP, ())
        cap = self._whole(raw, "cap", f"{name}.cap", 1, MOST_POINTS, default=DEFAULT_CAP)
        return Group(cap, self._rules(raw.get("rules"), f"{name}.rules", name, cap))

    def _rules(self, raw: Any, path: str, group: GroupName, cap: int) -> tuple[Rule, ...]:
        rules = []
        for index, item in enumerate(self._list(raw, path, MOST_RULES)):
            at = f"{path}[{index}]"
            if self._map(item, at, _RULE_KEYS[group]):
                rules.append(self._rule(item, at, group, cap))
        return tuple(rules)

    def _rule(self, raw: Mapping[str, Any], path: str, group: GroupName, cap: int) -> Rule:
        rule_id = self._rule_id(raw, path)
        environment = environments.of_events() if group == "engagement" else environments.of_facts()
        when = self._condition(raw, f"{path}.when", environment, required=group != "engagement")
        if group == "disqualify":
            return Rule(rule_id, group, when)
        points = self._whole(raw, "points", f"{path}.points", 1, MOST_POINTS)
        if group == "fit":
            return Rule(rule_id, group, when, points, most=points)
        event = self._text(raw, "event", f"{path}.event", 200)
        each = raw.get("per", "once") == "each"
        if raw.get("per", "once") not in ("once", "each"):
            self.problem(f"{path}.per", "UNKNOWN_VALUE", "is neither once nor each", "Write once or each.")
        if "max_points" in raw and not each:
            hint = "Add `per: each`, or leave max_points out."
            self.problem(f"{path}.max_points", "NOT_ALLOWED", "only counts for a rule with per: each", hint)
        most = self._whole(raw, "max_points", f"{path}.max_points", 1, MOST_POINTS, default=cap) if each else points
        if each and most < points:
            self.problem(f"{path}.max_points", "BELOW_POINTS", f"is below the points of one event ({points})")
        return Rule(rule_id, group, when, points, event, each, most)

    def _rule_id(self, raw: Mapping[str, Any], path: str) -> str:
        rule_id = self._text(raw, "id", f"{path}.id", 63)
        if rule_id and not _ID.fullmatch(rule_id):
            hint = "Use lower-case letters, digits, hyphens and underscores, at most 63."
            self.problem(f"{path}.id", "BAD_ID", f"`{rule_id}` cannot name a rule", hint)
        elif rule_id in self._ids:
            self.problem(f"{path}.id", "DUPLICATE", f"{self._ids[rule_id]} has the id {rule_id}", "Choose another id.")
        elif rule_id:
            self._ids[rule_id] = path
        return rule_id

    def _condition(
        self, raw: Mapping[str, Any], path: str, environment: Environment, *, required: bool
    ) -> Condition | None:
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

    def _window(self, raw: Any) -> timedelta:
        written = raw.get("window") if isinstance(raw, Mapping) else None
        if written is None:
            return DEFAULT_WINDOW
        try:
            window = durations.parse(str(written))
        except ValueError as error:
            self.problem("engagement.window", "BAD_DURATION", str(error), durations.EXAMPLE)
            return DEFAULT_WINDOW
        if window > LONGEST_WINDOW:
            self.problem("engagement.window", "TOO_LONG", f"is longer than {LONGEST_WINDOW.days} days")
        return window

    def _routing(self, raw: Any) -> Routing | None:
        if raw is None or not self._map(raw, "routing", ("method", "members")):
            return None
        if raw.get("method") != "round_robin":
            hint = "Write round_robin."
            self.problem("routing.method", "UNKNOWN_VALUE", "is not a way to choose an owner", hint)
        members: list[str] = []
        items = self._list(raw.get("members"), "routing.members", MOST_MEMBERS)
        if not items:
            self.problem("routing.members", "REQUIRED", "nobody can own a lead", "List the e-mails of members.")
        for index, item in enumerate(items):
            path = f"routing.members[{index}]"
            email = item.strip().lower() if isinstance(item, str) else ""
            if not _EMAIL.fullmatch(email):
                self.problem(path, "NOT_AN_EMAIL", "is not an e-mail address", "Write the e-mail of a member.")
            elif email in members:
                self.problem(path, "DUPLICATE", f"{email} is in the list already", "List everybody once.")
            members.append(email)
        return Routing("round_robin", tuple(members))

    def _approval(self, raw: Any) -> Demand | None:
        if raw is None or not self._map(raw, "approval", ("when", "reason")):
            return None
        when = self._condition(raw, "approval.when", environments.of_results(), required=True)
        reason = self._text(raw, "reason", "approval.reason", 300, required=False)
        return Demand(when, reason or f"{when.text} holds") if when else None

    def _on_qualified(self, raw: Any) -> Mapping[str, Any]:
        if raw is None or not self._map(raw, "on_qualified", ("set",)) or raw.get("set") is None:
            return {}
        fields = raw["set"]
        if not isinstance(fields, Mapping):
            self.problem("on_qualified.set", "WRONG_TYPE", "must map fields to values", "Such as {source: inbound}.")
            return {}
        accepted, problems = validate_fields("lead", fields, "on_qualified.set")
        self.problems += [one for one in problems if one.field.removeprefix("on_qualified.set.") not in _OWN_FIELDS]
        for name in sorted(_OWN_FIELDS & fields.keys()):
            path = f"on_qualified.set.{name}"
            self.problem(path, "SET_BY_QUALIFICATION", "is set by the qualification itself", "Leave it out.")
        return {path: value for path, value in accepted.items() if path not in _OWN_FIELDS}

    def _keys(self, raw: Mapping[str, Any], path: str, known: Sequence[str]) -> None:
        for key in raw:
            if key not in known:
                at = f"{path}.{key}" if path else str(key)
                hint = did_you_mean(str(key), known) or f"Use {', '.join(known)}."
                self.problem(at, "UNKNOWN_KEY", f"there is no `{str(key)[:80]}` here", hint)

    def _map(self, raw: Any, path: str, known: Sequence[str]) -> bool:
        if not isinstance(raw, Mapping):
            self.problem(path, "WRONG_TYPE", "must be a map of keys to values", f"Its keys are {', '.join(known)}.")
            return False
        self._keys(raw, path, known)
        return True

    def _list(self, raw: Any, path: str, most: int) -> list[Any]:
        if raw is None:
            return []
        if not isinstance(raw, list):
            self.problem(path, "WRONG_TYPE", "must be a list")
            return []
        if len(raw) > most:
            self.problem(path, "TOO_MANY", f"has {len(raw)} items, at most {most} are accepted")
        return raw[:most]

    def _text(self, raw: Mapping[str, Any], key: str, path: str, longest: int, *, required: bool = True) -> str:
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

    def _whole(
        self, raw: Mapping[str, Any], key: str, path: str, least: int, most: int, *, default: int | None = None
    ) -> int:
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
