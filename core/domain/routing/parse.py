"""A routing's document, YAML or JSON, checked as a whole: a compiled routing, or everything that is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from functools import lru_cache
from typing import Any

from core.domain.errors import Invalid, Violation
from core.domain.nearest import did_you_mean
from core.domain.qualification.reader import Reader
from core.domain.routing import lint
from core.domain.routing.availability import LONGEST_NAME
from core.domain.routing.document import CATCH_ALL, MATCHES, METHODS, Match, Method, Named, Routing, Rule, Sla, Team
from core.domain.routing.environment import environment
from core.domain.steps.shapes import Scope
from core.domain.workflow import own_kinds, source
from core.domain.workflow.calendar import read_calendar
from core.domain.workflow.expressions import Expression
from core.domain.workflow.own_kinds import OwnKinds
from core.domain.workflow.source_lines import SourceLines

MOST_RULES = 50
MOST_MEMBERS = 100
"""Named in one rule."""
MOST_WEIGHT = 100
MOST_REROUTES = 10
MOST_SKILLS = 10
LONGEST_SLA = timedelta(days=30)
SHORTEST_SLA = timedelta(minutes=1)

KEYS = ("title", "description", "sla", "rules", CATCH_ALL)
RULE_KEYS = ("id", "when", "method", "members", "team", "territory", "match", "within_hours", "sla")
CATCH_ALL_KEYS = ("method", "members", "team", "within_hours", "sla")
TEAM_KEYS = ("role", "skills", "territory")
SLA_KEYS = ("respond_within", "calendar", "reroute")
ROLES = ("admin", "editor", "approver")
PLAIN_METHODS: tuple[Method, ...] = ("round_robin", "weighted", "capacity")
"""What a catch-all may use: the others may find nobody."""

_ID = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,62})")
_MEMBER = re.compile(r"mem_[0-9a-z_]{1,60}|[^@\s]+@[^@\s]+")
_MEMBERS_HINT = "List e-mails of members, or {member: ada@example.com, weight: 3}."


@lru_cache(maxsize=256)
def compiled(text: str, own: OwnKinds = own_kinds.NONE) -> Routing:
    """Return the routing that a text describes; the same text gives the same object.

    `own` are the kinds of own fields: what nobody defined is taken as it comes.
    Raises Invalid with everything that is wrong with it.
    """
    reader = _RoutingReader(own)
    routing = reader.routing(source.parse(text))
    if reader.problems:
        raise Invalid(*with_lines(text, reader.problems))
    return routing


def problems(text: str) -> tuple[Violation, ...]:
    """Return everything that is wrong with a text, without lines, for those who look them up themselves."""
    reader = _RoutingReader(own_kinds.NONE)
    try:
        reader.routing(source.parse(text))
    except Invalid as error:
        return error.violations
    return tuple(reader.problems)


def with_lines(text: str, problems: list[Violation]) -> list[Violation]:
    """Return problems of a document with the lines they stand in."""
    lines = SourceLines(text)
    told = []
    for one in problems:
        line = lines.line(one.field, one.message)
        told.append(replace(one, message=f"line {line}: {one.message}") if line else one)
    return told


class _RoutingReader(Reader):
    """Reads one document and gathers its problems on the way."""

    def __init__(self, own: OwnKinds) -> None:
        super().__init__()
        self._own = own
        self._environment = environment(own)

    def routing(self, document: Mapping[str, Any]) -> Routing:
        self.keys(document, "", KEYS)
        title = self.text(document, "title", "title", 200)
        self.text(document, "description", "description", 2_000, required=False)
        usual = self._sla(document.get("sla"), "sla")
        rules: list[Rule] = []
        for index, item in enumerate(self.list(document.get("rules"), "rules", MOST_RULES)):
            at = f"rules[{index}]"
            if self.map(item, at, RULE_KEYS):
                rules.append(self._rule(item, at, self._rule_id(item, at, rules), usual))
        routing = Routing(title, (*rules, self._catch_all(document.get(CATCH_ALL), usual)))
        if not self.problems:
            self.problems += lint.unreachable(routing)
        return replace(routing, own=own_kinds.mentioned(self._own, routing.variables))

    def _rule_id(self, raw: Mapping[str, Any], at: str, before: list[Rule]) -> str:
        rule_id = self.text(raw, "id", f"{at}.id", 63)
        if rule_id == CATCH_ALL:
            message, hint = f"{CATCH_ALL} names what catches everything else", "Choose another id."
            self.problem(f"{at}.id", "BAD_ID", message, hint)
        elif rule_id and not _ID.fullmatch(rule_id):
            hint = "Use lower-case letters, digits, hyphens and underscores, at most 63."
            self.problem(f"{at}.id", "BAD_ID", f"`{rule_id}` cannot name a rule", hint)
        elif rule_id and any(rule.id == rule_id for rule in before):
            self.problem(f"{at}.id", "DUPLICATE", f"another rule has the id {rule_id}", "Choose another id.")
        return rule_id

    def _catch_all(self, raw: Any, usual: Sla | None) -> Rule:
        if raw is None:
            hint = "Add catch_all: {members: [ada@example.com]}: who gets what no rule gives to anybody?"
            self.problem(CATCH_ALL, "REQUIRED", "is missing", hint)
        elif self.map(raw, CATCH_ALL, CATCH_ALL_KEYS):
            return self._rule(raw, CATCH_ALL, CATCH_ALL, usual)
        return Rule(CATCH_ALL, None, "round_robin")

    def _rule(self, raw: Mapping[str, Any], at: str, rule_id: str, usual: Sla | None) -> Rule:
        method = self._method(raw, at, rule_id)
        members, team = self._who(raw, at, method)
        within_hours = raw.get("within_hours", False)
        if not isinstance(within_hours, bool):
            self.problem(f"{at}.within_hours", "WRONG_TYPE", "must be true or false", "Leave it out for false.")
        sla = self._sla(raw["sla"], f"{at}.sla") if raw.get("sla") is not None else usual
        return Rule(
            id=rule_id,
            when=self.condition(raw, f"{at}.when", self._environment, required=False),
            method=method,
            members=members,
            team=team,
            territory=self._territory(raw, at, method),
            matches=self._matches(raw, at, method),
            within_hours=within_hours is True,
            sla=sla,
        )

    def _method(self, raw: Mapping[str, Any], at: str, rule_id: str) -> Method:
        given = raw.get("method", "round_robin")
        known = PLAIN_METHODS if rule_id == CATCH_ALL else METHODS
        for method in known:
            if given == method:
                return method
        hint = did_you_mean(str(given), known) or f"Use {', '.join(known)}."
        self.problem(f"{at}.method", "UNKNOWN_VALUE", f"`{str(given)[:40]}` is no way to choose an owner here", hint)
        return "round_robin"

    def _who(self, raw: Mapping[str, Any], at: str, method: Method) -> tuple[tuple[Named, ...], Team | None]:
        named, team = raw.get("members"), raw.get("team")
        if method == "account_match":
            for key in ("members", "team"):
                if raw.get(key) is not None:
                    message = "does not go with account_match, which finds the owner itself"
                    self.problem(f"{at}.{key}", "NOT_ALLOWED", message, "Leave it out.")
            return (), None
        if named is not None and team is not None:
            self.problem(f"{at}.team", "CONFLICT", "members and team exclude each other", "Keep one of them.")
        if named is not None:
            return self._members(named, f"{at}.members", method), None
        if team is None and method == "territory":
            return (), Team()  # whoever covers the territory
        if team is None:
            self.problem(f"{at}.members", "REQUIRED", "nobody can get a lead", f"{_MEMBERS_HINT} Or give a team.")
            return (), None
        if method == "weighted":
            self.problem(f"{at}.team", "NOT_ALLOWED", "weighted needs members with weights", _MEMBERS_HINT)
        return (), self._team(team, f"{at}.team")

    def _members(self, raw: Any, path: str, method: Method) -> tuple[Named, ...]:
        items = self.list(raw, path, MOST_MEMBERS)
        if not items and isinstance(raw, list):
            self.problem(path, "REQUIRED", "nobody can get a lead", _MEMBERS_HINT)
        found: list[Named] = []
        for index, item in enumerate(items):
            at, weight = f"{path}[{index}]", 1
            if isinstance(item, Mapping):
                self.keys(item, at, ("member", "weight"))
                weight = self.whole(item, "weight", f"{at}.weight", 1, MOST_WEIGHT, default=1)
                if "weight" in item and method != "weighted":
                    hint = "Use method: weighted, or leave it out."
                    self.problem(f"{at}.weight", "NOT_ALLOWED", f"{method} knows no weights", hint)
                item = item.get("member")
            name = item.strip() if isinstance(item, str) else ""
            name = name if name.startswith("mem_") else name.lower()
            if not _MEMBER.fullmatch(name):
                self.problem(at, "NOT_A_MEMBER", "is neither an e-mail nor a member's id", _MEMBERS_HINT)
            elif any(one.member == name for one in found):
                self.problem(at, "DUPLICATE", f"{name} is in the list already", "List everybody once.")
            found.append(Named(name, weight))
        return tuple(found)

    def _team(self, raw: Any, path: str) -> Team:
        if not self.map(raw, path, TEAM_KEYS):
            return Team()
        role = self.text(raw, "role", f"{path}.role", 20, required=False)
        if role and role not in ROLES:
            hint = did_you_mean(role, ROLES) or f"Use {', '.join(ROLES)}."
            self.problem(f"{path}.role", "UNKNOWN_VALUE", f"`{role}` is no role that can own leads", hint)
        skills = []
        for index, skill in enumerate(self.list(raw.get("skills"), f"{path}.skills", MOST_SKILLS)):
            if not isinstance(skill, str) or not skill.strip() or len(skill) > LONGEST_NAME:
                message = f"must be text of at most {LONGEST_NAME} characters"
                self.problem(f"{path}.skills[{index}]", "WRONG_TYPE", message, "Name it as in the members' skills.")
            else:
                skills.append(skill.strip())
        territory = self.text(raw, "territory", f"{path}.territory", LONGEST_NAME, required=False)
        return Team(role, tuple(skills), territory)

    def _territory(self, raw: Mapping[str, Any], at: str, method: Method) -> Expression | None:
        text, path = raw.get("territory"), f"{at}.territory"
        if method != "territory":
            if text is not None:
                hint = "Use method: territory, or put it into team."
                self.problem(path, "NOT_ALLOWED", f"{method} asks for no territory", hint)
            return None
        if not isinstance(text, str):
            self.problem(path, "REQUIRED", "what is the territory?", "Write CEL, such as contact.country.")
            return None
        expression, problems = self._environment.check(text, wants="string", path=path)
        self.problems += problems
        return expression

    def _matches(self, raw: Mapping[str, Any], at: str, method: Method) -> tuple[Match, ...]:
        path = f"{at}.match"
        if method != "account_match":
            if raw.get("match") is not None:
                self.problem(path, "NOT_ALLOWED", f"{method} matches no account", "Use method: account_match.")
            return ()
        if raw.get("match") is None:
            return MATCHES
        found: list[Match] = []
        for index, item in enumerate(self.list(raw["match"], path, len(MATCHES))):
            known = next((match for match in MATCHES if match == item), None)
            if known is None:
                hint = did_you_mean(str(item), MATCHES) or f"Use {', '.join(MATCHES)}."
                message = f"`{str(item)[:40]}` is no place to look for an owner"
                self.problem(f"{path}[{index}]", "UNKNOWN_VALUE", message, hint)
            elif known in found:
                self.problem(f"{path}[{index}]", "DUPLICATE", f"{known} is in the list already", "Name it once.")
            else:
                found.append(known)
        if raw["match"] == []:
            self.problem(path, "REQUIRED", "names no place to look for an owner", f"Use {', '.join(MATCHES)}.")
        return tuple(found)

    def _sla(self, raw: Any, path: str) -> Sla | None:
        if raw is None or not self.map(raw, path, SLA_KEYS):
            return None
        if raw.get("respond_within") is None:
            self.problem(f"{path}.respond_within", "REQUIRED", "is missing", "Such as 30m, 4h or 2d.")
        within = self.length(raw.get("respond_within"), f"{path}.respond_within", LONGEST_SLA) or timedelta()
        if raw.get("respond_within") is not None and within < SHORTEST_SLA:
            self.problem(f"{path}.respond_within", "TOO_SHORT", "is shorter than a minute", "Such as 30m.")
        reroutes = self.whole(raw, "reroute", f"{path}.reroute", 0, MOST_REROUTES, default=0)
        if raw.get("calendar") is None:
            return Sla(within, None, reroutes)
        scope = Scope(self._environment)
        calendar = read_calendar(raw["calendar"], scope.findings, f"{path}.calendar")
        self.problems += scope.problems
        return Sla(within, calendar, reroutes)
