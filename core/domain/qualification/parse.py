"""A scoring model's document, YAML or JSON, checked as a whole: either a compiled model or everything that is wrong."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import lru_cache
from typing import Any

from core.domain import names
from core.domain.errors import Invalid
from core.domain.nearest import did_you_mean
from core.domain.qualification import environments, tiers
from core.domain.qualification.model import (
    Demand,
    Freshness,
    Group,
    GroupName,
    Routing,
    Rule,
    ScoringModel,
    TierEffect,
)
from core.domain.qualification.reader import Reader
from core.domain.qualification.tiers import Tiers
from core.domain.records.fields import validate_fields
from core.domain.workflow import own_kinds, source
from core.domain.workflow.expression_text import mentions
from core.domain.workflow.own_kinds import OwnKinds

MOST_POINTS = 1_000
MOST_SCORE = 2 * MOST_POINTS
MOST_RULES = 100
"""In one group."""
MOST_MEMBERS = 100
MOST_TIMES = 100
DEFAULT_CAP = 100
DEFAULT_WINDOW = timedelta(days=90)
LONGEST_WINDOW = timedelta(days=730)
LONGEST_AGE = timedelta(days=3660)
DEFAULT_CONFIDENCE = 0.7

KEYS = (
    *("title", "description", "cap", "qualified_at", "nurture_at", "tiers", "qualified_tiers", "nurture_tiers"),
    *("fresh_for", "evidence", "disqualify", "fit", "engagement", "routing", "approval", "on_qualified", "on_tier"),
)
GROUP_KEYS: Mapping[str, Sequence[str]] = {
    "fit": ("cap", "half_life", "rules"),
    "engagement": ("cap", "window", "half_life", "rules"),
}
RULE_KEYS: Mapping[GroupName, Sequence[str]] = {
    "fit": ("id", "when", "points", "half_life"),
    "engagement": ("id", "event", "when", "points", "per", "max_points", "at_least", "window", "half_life"),
    "disqualify": ("id", "when"),
}
_ID = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,62})")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
_OWN_FIELDS = environments.RESULT_FIELDS | {"contact_id", "owner_id"}
_DECIDED_TWICE = "Keep qualified_at, or qualified_tiers."


@lru_cache(maxsize=256)
def compiled(text: str, own: OwnKinds = own_kinds.NONE) -> ScoringModel:
    """Return the model that a text describes; the same text gives the same object.

    `own` are the kinds of own fields: what nobody defined is taken as it comes.
    Raises Invalid with everything that is wrong with it.
    """
    reader = _ModelReader(own)
    model = reader.model(source.parse(text))
    if model is None or reader.problems:
        raise Invalid(*reader.problems)
    return model


class _ModelReader(Reader):
    """Reads one document and gathers its problems on the way."""

    def __init__(self, own: OwnKinds) -> None:
        super().__init__()
        self._own = own
        self._ids: dict[str, str] = {}

    def model(self, document: Mapping[str, Any]) -> ScoringModel | None:
        self.keys(document, "", KEYS)
        title = self.text(document, "title", "title", 200)
        self.text(document, "description", "description", 2_000, required=False)
        cap = self.whole(document, "cap", "cap", 1, MOST_SCORE) if document.get("cap") is not None else None
        found = tiers.read(self, document.get("tiers"), MOST_SCORE)
        qualified_at, nurture_at = self._thresholds(document)
        qualified_tiers = tiers.named(self, document.get("qualified_tiers"), "qualified_tiers", found)
        nurture_tiers = tiers.named(self, document.get("nurture_tiers"), "nurture_tiers", found)
        self._decided_once(document, qualified_tiers & nurture_tiers)
        disqualify = self._rules(document.get("disqualify"), "disqualify", "disqualify", Group(0, ()), timedelta())
        window = self._window(document.get("engagement"), "engagement.window") or DEFAULT_WINDOW
        fit = self._group(document.get("fit"), "fit", window)
        engagement = self._group(document.get("engagement"), "engagement", window)
        routing, routing_id = self._routing(document.get("routing"))
        model = ScoringModel(
            title=title,
            qualified_at=qualified_at,
            nurture_at=nurture_at,
            tiers=found.by_score,
            fit=fit,
            engagement=engagement,
            window=window,
            disqualify=disqualify,
            routing=routing,
            approval=self._approval(document.get("approval")),
            on_qualified=self._on_qualified(document.get("on_qualified")),
            cap=cap,
            matrix=found.matrix,
            qualified_tiers=qualified_tiers,
            nurture_tiers=nurture_tiers if document.get("nurture_tiers") is not None else None,
            freshness=self._freshness(document.get("fresh_for")),
            min_confidence=self._min_confidence(document.get("evidence")),
            on_tier=self._on_tier(document.get("on_tier"), found),
            routing_id=routing_id,
        )
        if not self.problems:
            self._reachable(model)
        return None if self.problems else replace(model, own=own_kinds.mentioned(self._own, model.variables))

    def _reachable(self, model: ScoringModel) -> None:
        if not model.fit.rules and not model.engagement.rules:
            self.problem("fit.rules", "NO_RULES", "no rule gives points", "Add a rule to fit or to engagement.")
        elif model.qualified_at > model.reachable:
            most = model.reachable
            message = f"nobody can reach {model.qualified_at}: the rules give at most {most} points after their caps"
            self.problem("qualified_at", "OUT_OF_REACH", message, f"Give it {most} or less, or raise points and caps.")

    def _thresholds(self, document: Mapping[str, Any]) -> tuple[int, int]:
        if document.get("qualified_tiers") is not None:
            return 0, 0
        qualified_at = self.whole(document, "qualified_at", "qualified_at", 1, MOST_SCORE)
        nurture_at = self.whole(document, "nurture_at", "nurture_at", 0, MOST_SCORE, default=0)
        if nurture_at > qualified_at > 0:
            self.problem("nurture_at", "ABOVE_QUALIFIED", "is above qualified_at", "Give it qualified_at or less.")
        return qualified_at, nurture_at

    def _decided_once(self, document: Mapping[str, Any], both: frozenset[str]) -> None:
        """Refuse a document that says by the score and by tiers what becomes of a lead, or two things of one tier."""
        by_tier = document.get("qualified_tiers") is not None
        if by_tier and document["qualified_tiers"] == []:
            self.problem("qualified_tiers", "REQUIRED", "names no tier", "List the tiers that are qualified.")
        for key in ("qualified_at", "nurture_at"):
            if by_tier and document.get(key) is not None:
                self.problem(key, "DECIDED_TWICE", "does not go with qualified_tiers", _DECIDED_TWICE)
        if not by_tier and document.get("nurture_tiers") is not None:
            hint = "Add qualified_tiers, or use nurture_at."
            self.problem("nurture_tiers", "NOT_ALLOWED", "only goes with qualified_tiers", hint)
        for name in sorted(both):
            self.problem("nurture_tiers", "DECIDED_TWICE", f"{name} is among qualified_tiers already", "Keep one.")

    def _group(self, raw: Any, name: GroupName, window: timedelta) -> Group:
        if raw is None or not self.map(raw, name, GROUP_KEYS[name]):
            return Group(DEFAULT_CAP, ())
        cap = self.whole(raw, "cap", f"{name}.cap", 1, MOST_POINTS, default=DEFAULT_CAP)
        half_life = self.length(raw.get("half_life"), f"{name}.half_life", LONGEST_AGE)
        rules = self._rules(raw.get("rules"), f"{name}.rules", name, Group(cap, ()), window, half_life)
        return Group(cap, rules)

    def _rules(
        self,
        raw: Any,
        path: str,
        name: GroupName,
        group: Group,
        window: timedelta,
        half_life: timedelta | None = None,
    ) -> tuple[Rule, ...]:
        rules = []
        for index, item in enumerate(self.list(raw, path, MOST_RULES)):
            at = f"{path}[{index}]"
            if not self.map(item, at, RULE_KEYS[name]):
                continue
            rule_id = self._rule_id(item, at)
            if name == "disqualify":
                when = self.condition(item, f"{at}.when", environments.of_facts(self._own), required=True)
                rules.append(Rule(rule_id, name, when))
                continue
            points = self.whole(item, "points", f"{at}.points", 1, MOST_POINTS)
            own = self.length(item.get("half_life"), f"{at}.half_life", LONGEST_AGE) or half_life
            if name == "fit":
                when = self.condition(item, f"{at}.when", environments.of_facts(self._own), required=True)
                rules.append(Rule(rule_id, name, when, points, most=points, half_life=own))
            else:
                rules.append(self._counting(item, at, rule_id, points, group.cap, window, own))
        return tuple(rules)

    def _counting(
        self,
        raw: Mapping[str, Any],
        path: str,
        rule_id: str,
        points: int,
        cap: int,
        window: timedelta,
        half_life: timedelta | None,
    ) -> Rule:
        """Return a rule that counts events."""
        when = self.condition(raw, f"{path}.when", environments.of_events(self._own), required=False)
        event = self.text(raw, "event", f"{path}.event", 200)
        each = raw.get("per", "once") == "each"
        if raw.get("per", "once") not in ("once", "each"):
            self.problem(f"{path}.per", "UNKNOWN_VALUE", "is neither once nor each", "Write once or each.")
        if "max_points" in raw and not each:
            hint = "Add `per: each`, or leave max_points out."
            self.problem(f"{path}.max_points", "NOT_ALLOWED", "only counts for a rule with per: each", hint)
        most = self.whole(raw, "max_points", f"{path}.max_points", 1, MOST_POINTS, default=cap) if each else points
        if each and most < points:
            self.problem(f"{path}.max_points", "BELOW_POINTS", f"is below the points of one event ({points})")
        at_least = self.whole(raw, "at_least", f"{path}.at_least", 1, MOST_TIMES, default=1)
        if each and "at_least" in raw:
            hint = "Leave out `per: each`, or at_least."
            self.problem(f"{path}.at_least", "NOT_ALLOWED", "only counts for a rule that gives points once", hint)
        own = self._window(raw, f"{path}.window") or window
        return Rule(rule_id, "engagement", when, points, event, each, most, own, at_least, half_life)

    def _rule_id(self, raw: Mapping[str, Any], path: str) -> str:
        rule_id = self.text(raw, "id", f"{path}.id", 63)
        if rule_id and not _ID.fullmatch(rule_id):
            hint = "Use lower-case letters, digits, hyphens and underscores, at most 63."
            self.problem(f"{path}.id", "BAD_ID", f"`{rule_id}` cannot name a rule", hint)
        elif rule_id in self._ids:
            self.problem(f"{path}.id", "DUPLICATE", f"{self._ids[rule_id]} has the id {rule_id}", "Choose another id.")
        elif rule_id:
            self._ids[rule_id] = path
        return rule_id

    def _window(self, raw: Any, path: str) -> timedelta | None:
        return self.length(raw.get("window") if isinstance(raw, Mapping) else None, path, LONGEST_WINDOW)

    def _freshness(self, raw: Any) -> Freshness:
        if raw is None or isinstance(raw, str | int):
            return Freshness(self.length(raw, "fresh_for", LONGEST_AGE))
        if not isinstance(raw, Mapping):
            hint = "Such as 365d, or {default: 365d, contact.employees: 180d}."
            self.problem("fresh_for", "WRONG_TYPE", "is neither a length of time nor a map of facts to such", hint)
            return Freshness()
        by_path: dict[str, timedelta] = {}
        known = environments.of_facts(self._own).variables
        for path, written in raw.items():
            at = f"fresh_for.{path}"
            length = self.length(written, at, LONGEST_AGE)
            named = [one.label for one in mentions(str(path), known)]
            if path != "default" and named != [path]:
                hint = did_you_mean(str(path), [*known, "default"], "Such as contact.employees.")
                self.problem(at, "UNKNOWN_FACT", f"there is no fact `{str(path)[:80]}`", hint)
            elif length is not None:
                by_path[str(path)] = length
        return Freshness(by_path.pop("default", None), by_path)

    def _min_confidence(self, raw: Any) -> float:
        if raw is None or not self.map(raw, "evidence", ("min_confidence",)):
            return DEFAULT_CONFIDENCE
        return self.share(raw, "min_confidence", "evidence.min_confidence", DEFAULT_CONFIDENCE)

    def _routing(self, raw: Any) -> tuple[Routing | None, str]:
        if isinstance(raw, str):
            if not names.is_slug(raw):
                self.problem("routing", "NOT_A_SLUG", "cannot be the id of a routing", "Such as inbound-emea.")
            return None, raw
        if raw is None or not self.map(raw, "routing", ("method", "members")):
            return None, ""
        if raw.get("method") != "round_robin":
            hint = "Write round_robin."
            self.problem("routing.method", "UNKNOWN_VALUE", "is not a way to choose an owner", hint)
        members: list[str] = []
        items = self.list(raw.get("members"), "routing.members", MOST_MEMBERS)
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
        return Routing("round_robin", tuple(members)), ""

    def _approval(self, raw: Any) -> Demand | None:
        if raw is None or not self.map(raw, "approval", ("when", "reason")):
            return None
        when = self.condition(raw, "approval.when", environments.of_results(self._own), required=True)
        reason = self.text(raw, "reason", "approval.reason", 300, required=False)
        return Demand(when, reason or f"{when.text} holds") if when else None

    def _on_qualified(self, raw: Any) -> Mapping[str, Any]:
        if raw is None or not self.map(raw, "on_qualified", ("set",)) or raw.get("set") is None:
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

    def _on_tier(self, raw: Any, found: Tiers) -> Mapping[str, TierEffect]:
        if raw is None:
            return {}
        if not isinstance(raw, Mapping):
            hint = "Such as {A: {enroll: hot-leads, event: lead.hot}}."
            self.problem("on_tier", "WRONG_TYPE", "must map tiers to what happens", hint)
            return {}
        effects: dict[str, TierEffect] = {}
        for name, item in raw.items():
            path = f"on_tier.{name}"
            tiers.check_named(self, str(name), path, found)
            if not self.map(item, path, ("enroll", "event")):
                continue
            enroll = self.text(item, "enroll", f"{path}.enroll", 63, required=False)
            event = self.text(item, "event", f"{path}.event", 200, required=False)
            if not enroll and not event:
                self.problem(path, "REQUIRED", "nothing happens", "Give it enroll, event, or both.")
            if enroll and not (names.is_slug(enroll) or enroll.startswith("wfl_")):
                self.problem(f"{path}.enroll", "NOT_AN_ID", "cannot be the id of a workflow", "Such as hot-leads.")
            effects[str(name)] = TierEffect(enroll, event)
        return effects
