"""The step that chooses a way by conditions."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from core.domain.frozen import frozen
from core.domain.steps.base import BROKEN, Context, Decision, Fail, Go, Step, setting
from core.domain.steps.way_shapes import ELSE, Case, Cases


@frozen
class Branch(Step):
    """Takes the exit of the first case whose condition holds."""

    kind: ClassVar = "branch"
    summary: ClassVar = "Takes the exit of the first case whose condition holds, or else."
    exits: ClassVar = ("*", ELSE)
    undone: ClassVar = "else"
    outputs: ClassVar = {"case": "string"}

    cases: Annotated[tuple[Case, ...], setting(Cases(), "The ways, tried in order.")]

    def its_exits(self) -> tuple[str, ...]:
        """Return the names of the cases, and else."""
        return (*(case.name for case in self.cases), ELSE)

    def begin(self, context: Context) -> Decision:
        """Try the cases in order; what is not known does not hold, and the reason says so. One that breaks fails."""
        inputs: dict[str, Any] = {}
        untold: list[str] = []
        values = context.values
        for case in self.cases:
            result = case.when.evaluate(values)
            inputs |= result.inputs
            if result.holds:
                reason = " ".join([f"Case {case.name} holds: {case.when.text}.", *untold])
                return Go(case.name, reason, outputs={"case": case.name}, inputs=inputs)
            if result.broke:
                return Fail(f"Case {case.name} could not be told: {result.unknown}.", inputs, BROKEN)
            if result.unknown:
                untold.append(f"Case {case.name} could not be told: {result.unknown}.")
        reason = " ".join(["No case holds.", *untold])
        return Go(ELSE, reason, outputs={"case": ELSE}, inputs=inputs)
