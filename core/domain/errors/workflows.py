"""What is not published."""

from __future__ import annotations

from core.domain.errors.base import Code, DripstoneError, NotFound


class NotPublished(DripstoneError):
    """The workflow {workflow_id} takes no enrollments: it is {state}."""

    code = Code.FAILED_PRECONDITION
    reason = "WORKFLOW_NOT_ACTIVE"
    hint = "Publish the workflow, or choose an active one."


class ScoringModelNotFound(NotFound):
    """There is no scoring model {id}."""

    hint = "Scoring models that are published: {known}."


class RoutingNotFound(NotFound):
    """There is no routing {id}."""

    hint = "Routings that are published: {known}."
