"""A routing, compiled: rules in order, each with whom it may choose and how, and one that catches everything else."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from core.domain.frozen import frozen
from core.domain.qualification.condition import Condition
from core.domain.workflow import own_kinds
from core.domain.workflow.calendar import Calendar
from core.domain.workflow.expressions import Expression
from core.domain.workflow.own_kinds import OwnKinds

Method = Literal["round_robin", "weighted", "capacity", "territory", "account_match"]
METHODS: tuple[Method, ...] = ("round_robin", "weighted", "capacity", "territory", "account_match")

Match = Literal["company_owner", "opportunity_owner", "domain_owner"]
MATCHES: tuple[Match, ...] = ("company_owner", "opportunity_owner", "domain_owner")
"""Where account_match looks for an owner, in this order unless told."""

CATCH_ALL = "catch_all"
"""The key, the rule's id and the method of what catches everything else."""


@frozen
class Named:
    """A member that a rule names."""

    member: str
    """An id, or an e-mail in lower case."""
    weight: int = 1


@frozen
class Team:
    """Members that a rule finds by what they are."""

    role: str = ""
    """`editor` or `admin`; empty for both, and approvers."""
    skills: tuple[str, ...] = ()
    """All of them are needed."""
    territory: str = ""


@frozen
class Sla:
    """How soon an owner must respond, and what happens otherwise."""

    within: timedelta
    calendar: Calendar | None = None
    """Only its opening hours count; None for every hour."""
    reroutes: int = 0
    """How often the lead goes to somebody else before people are told."""


@frozen
class Rule:
    """One rule."""

    id: str
    when: Condition | None
    """None for always."""
    method: Method
    members: tuple[Named, ...] = ()
    team: Team | None = None
    """Who may be chosen where nobody is named; None with account_match."""
    territory: Expression | None = None
    """What gives the territory, for that method."""
    matches: tuple[Match, ...] = ()
    """Where account_match looks."""
    within_hours: bool = False
    """Who is outside their working hours is passed over."""
    sla: Sla | None = None

    @property
    def is_catch_all(self) -> bool:
        """Tell whether it is the one that catches everything else."""
        return self.id == CATCH_ALL


@frozen
class Routing:
    """A compiled routing."""

    title: str
    rules: tuple[Rule, ...]
    """In order; the last one catches everything else."""
    own: OwnKinds = own_kinds.NONE
    """The kinds of the own fields that it mentions."""

    @property
    def names(self) -> frozenset[str]:
        """Return the ids and e-mails it names."""
        return frozenset(one.member for rule in self.rules for one in rule.members)

    @property
    def has_teams(self) -> bool:
        """Tell whether any rule looks among all members."""
        return any(rule.team is not None for rule in self.rules)

    @property
    def matches(self) -> frozenset[Match]:
        """Return where its rules look for the owner of an account."""
        asked = frozenset(match for rule in self.rules for match in rule.matches)
        reads = (rule.when is not None and "account.owner_id" in rule.when.paths for rule in self.rules)
        return frozenset(MATCHES) if any(reads) else asked

    @property
    def reads_company(self) -> bool:
        """Tell whether it must know the company."""
        paths = [path for rule in self.rules if rule.when is not None for path in rule.when.paths]
        paths += [one.label for rule in self.rules if rule.territory is not None for one in rule.territory.mentions]
        return bool(self.matches) or any(path.startswith("company.") for path in paths)

    @property
    def variables(self) -> frozenset[str]:
        """Return every variable that a condition or a territory looks at."""
        names = {name for rule in self.rules if rule.when is not None for name in rule.when.variables}
        territories = [rule.territory for rule in self.rules if rule.territory is not None]
        return frozenset(names) | {one.variable for territory in territories for one in territory.mentions}

    def rule(self, rule_id: str) -> Rule | None:
        """Return a rule by its id."""
        return next((rule for rule in self.rules if rule.id == rule_id), None)
