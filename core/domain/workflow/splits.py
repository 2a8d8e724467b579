"""What counts in the comparison of a split's ways: each draw once, however often somebody comes by again."""

from __future__ import annotations

from core.domain.enrollment import Enrollment
from core.domain.steps.base import Step
from core.domain.steps.split import Split
from core.domain.workflow.version import Version


def draws_by_contact(version: Version) -> bool:
    """Tell whether a split draws by contact: then who has been in the workflow before is not counted again."""
    return any(isinstance(node.step, Split) and node.step.by == "contact" for node in version.steps.values())


def counts(step: Step, enrollment: Enrollment) -> bool:
    """Tell whether an enrollment counts in the comparison of a split's ways.

    A draw by contact always comes out the same. Whoever enters again would count as several, and make the result look
    surer than it is; so a contact's first enrollment stands for all of them.
    """
    return isinstance(step, Split) and (step.by == "enrollment" or not enrollment.again)
