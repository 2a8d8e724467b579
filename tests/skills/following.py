"""An agent without a mind of its own: it makes the calls that a skill writes down, one after the other, literally."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.mcp_server.conftest import Agent
from tests.skills import written
from tests.skills.written import Step

_PLACEHOLDER = re.compile(r"\{\{(.+?)\}\}")


class Stuck(Exception):
    """A call that the skill told the agent to make was refused."""

    def __init__(self, step: Step, arguments: Mapping[str, Any], error: Mapping[str, Any]) -> None:
        self.step, self.error = step, error
        super().__init__(f"{step.name}: {step.tool} {arguments} was refused: {error}")


@dataclass
class Way:
    """What an agent has done by a skill so far."""

    skill: str
    given: Mapping[str, Any]
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By step, of those that were made."""

    def value(self, step: str, path: str) -> Any:
        """Return what a placeholder of a step stands for; None where there is no such value."""
        source, *rest = written.parts(path)
        if source == "key":
            return f"{self.skill}-{step}"  # the same when the step is made again
        at: Any = self.given if source == "given" else self.answers.get(str(source))
        for part in rest:
            try:
                at = at[part]
            except (KeyError, IndexError, TypeError):
                return None
        return at

    def filled(self, step: str, value: Any) -> Any:
        """Return a written value with its placeholders filled; one that stands alone keeps the type of its value."""
        match value:
            case str() if alone := _PLACEHOLDER.fullmatch(value):
                return self.value(step, alone[1])
            case str():
                return _PLACEHOLDER.sub(lambda found: str(self.value(step, found[1])), value)
            case dict():
                return {name: self.filled(step, one) for name, one in value.items()}
            case list():
                return [self.filled(step, one) for one in value]
            case _:
                return value

    def is_due(self, step: Step) -> bool:
        """Tell whether the answers so far are those on which a step is made."""
        holds = all(self.value(step.name, path) in wanted for path, wanted in step.when.items())
        return holds and not any(self.value(step.name, path) in kept for path, kept in step.unless.items())


async def follow(agent: Agent, skill: str, **given: Any) -> Way:
    """Take every step of a skill with what a person gave, by default what its evals give. Raises Stuck."""
    way = Way(skill, {**written.evals(skill)["given"], **given})
    for step in written.steps(skill):
        if not way.is_due(step):
            continue
        filled = {name: way.filled(step.name, value) for name, value in step.arguments.items()}
        arguments = {name: value for name, value in filled.items() if value is not None}
        result = await agent.call(step.tool, **arguments)
        answer: dict[str, Any] = result.structured_content or {}
        if result.is_error:
            raise Stuck(step, arguments, answer.get("error", {"message": result.content}))
        way.answers[step.name] = answer
        if step.stop:
            break
    return way
