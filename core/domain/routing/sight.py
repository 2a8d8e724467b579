"""What a routing sees when it decides: everything that counts, and no field of a record, so that it can be kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from datetime import datetime
from typing import Any

from core.domain.frozen import frozen
from core.domain.routing import turns as turning
from core.domain.routing.document import Routing
from core.domain.routing.turns import Turns


@frozen
class Person:
    """A member who may be considered, as they are at one instant."""

    id: str
    email: str
    name: str
    role: str
    removed: bool = False
    away: str = ""
    """Why they are out of office; empty when they are there."""
    working: bool = True
    """It is in their working hours."""
    today: int = 0
    """Leads they got today."""
    open: int = 0
    """Leads they have open."""
    daily_capacity: int = 0
    """0 for no limit."""
    open_capacity: int = 0
    territories: tuple[str, ...] = ()
    skills: tuple[str, ...] = ()

    @property
    def room(self) -> int | None:
        """Return how many more leads they can take; None for no limit."""
        limits = [(self.daily_capacity, self.today), (self.open_capacity, self.open)]
        return min((limit - used for limit, used in limits if limit), default=None)


@frozen
class Sight:
    """What a routing sees."""

    at: datetime
    people: tuple[Person, ...]
    """In the order of their ids."""
    unmet: Mapping[str, str] = field(default_factory=dict)
    """Rules whose condition does not hold, by id, and why."""
    territory: Mapping[str, str] = field(default_factory=dict)
    """The territory by rule, where one is asked for and known."""
    account: Mapping[str, str] = field(default_factory=dict)
    """Where an owner of the account was found, and who."""
    turns: Mapping[str, Turns] = field(default_factory=dict)
    """The turns so far by rule."""
    excluded: Mapping[str, str] = field(default_factory=dict)
    """Members who had the lead and are not asked again, and why."""

    @property
    def as_json(self) -> dict[str, Any]:
        """Return it as an assignment keeps it."""
        return {
            "at": self.at.isoformat(),
            "people": [
                {
                    **{name: getattr(one, name) for name in _PERSON if getattr(one, name) != _PERSON[name]},
                    "territories": list(one.territories),
                    "skills": list(one.skills),
                }
                for one in self.people
            ],
            "unmet": dict(self.unmet),
            "territory": dict(self.territory),
            "account": dict(self.account),
            "turns": {rule: turns.as_json for rule, turns in self.turns.items()},
            "excluded": dict(self.excluded),
        }


_PERSON: Mapping[str, Any] = {
    "id": None,
    "email": None,
    "name": None,
    "role": None,
    "removed": False,
    "away": "",
    "working": True,
    "today": 0,
    "open": 0,
    "daily_capacity": 0,
    "open_capacity": 0,
}
"""What is kept of a person, and what is left out because it says nothing."""


def from_json(stored: Mapping[str, Any]) -> Sight:
    """Return what an assignment kept."""
    return Sight(
        at=datetime.fromisoformat(stored["at"]),
        people=tuple(
            Person(**{**one, "territories": tuple(one["territories"]), "skills": tuple(one["skills"])})
            for one in stored["people"]
        ),
        unmet=stored["unmet"],
        territory=stored["territory"],
        account=stored["account"],
        turns={rule: turning.from_json(turns) for rule, turns in stored["turns"].items()},
        excluded=stored["excluded"],
    )


def judged(routing: Routing, known: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """Return which rules' conditions do not hold, and why, and which territory each rule asks for.

    `known` maps the names of the environment to values. Values themselves are not repeated: an explanation is kept
    longer than a person may want.
    """
    unmet: dict[str, str] = {}
    territory: dict[str, str] = {}
    for rule in routing.rules:
        if rule.when is not None:
            verdict = rule.when.judge(known)
            if verdict.value is None:
                missing = " and ".join(verdict.missing) or "something it looks at"
                unmet[rule.id] = f"{missing} is not known"
            elif not verdict.value:
                unmet[rule.id] = "its condition does not hold"
        if rule.territory is not None:
            found = rule.territory.evaluate(known)
            if isinstance(found.value, str) and found.value.strip():
                territory[rule.id] = found.value.strip()
    return unmet, territory
