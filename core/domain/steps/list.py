"""The step that puts the contact on lists, or takes them off."""

from __future__ import annotations

from typing import Annotated, ClassVar

from core.domain import names
from core.domain.effects import ChangeList
from core.domain.frozen import frozen
from core.domain.steps.base import Context, Decision, Go, Step, setting
from core.domain.steps.outward_shapes import ListNames
from core.domain.steps.shapes import Scope


@frozen
class List(Step):
    """Puts the contact on lists, or takes them off."""

    kind: ClassVar = "list"
    summary: ClassVar = "Puts the contact on lists, or takes them off; a list that is not there yet comes into being."

    add: Annotated[tuple[str, ...], setting(ListNames(), "Lists to put the contact on.")] = ()
    remove: Annotated[tuple[str, ...], setting(ListNames(), "Lists to take the contact off.")] = ()

    def check(self, scope: Scope, path: str) -> None:
        """Report a step without lists, and lists that are named both ways."""
        if not self.add and not self.remove:
            scope.add(f"{path}.add", "MISSING_KEY", "a list step needs add or remove", ListNames().hint)
        for name in sorted(set(self.add) & set(self.remove)):
            scope.add(f"{path}.remove", "CONFLICT", f"{name} is in add and in remove", "Keep one of them.")

    def begin(self, context: Context) -> Decision:
        """Change the lists; being on one already, or not at all, is no error."""
        effects = tuple(
            self._change(name, on, context)
            for names_, on in ((self.add, True), (self.remove, False))
            for name in names_
        )
        put = f"on {', '.join(self.add)}" if self.add else ""
        taken = f"off {', '.join(self.remove)}" if self.remove else ""
        reason = f"The contact is {' and '.join(part for part in (put, taken) if part)}."
        return Go("next", reason, effects=effects)

    def _change(self, name: str, on: bool, context: Context) -> ChangeList:
        enrollment = context.enrollment
        change = names.derive("lsc", context.now, enrollment.id, context.rev, context.index, name)
        return ChangeList(change, name, enrollment.contact_id, on)
