"""What every refusal is, and those that any part may raise."""

from __future__ import annotations

from enum import Enum
from typing import ClassVar

from core.domain.frozen import frozen


class Code(Enum):
    """The canonical status of an error; names are those of `google.rpc.Code`."""

    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    ABORTED = "ABORTED"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    UNAVAILABLE = "UNAVAILABLE"


@frozen
class Violation:
    """One thing wrong with a request: where (`contacts[3].email`), a machine reason, a sentence, the way out."""

    field: str
    reason: str
    message: str
    hint: str = ""

    @property
    def nearest(self) -> str:
        """Return the name, or the value, that was probably meant; empty where the hint proposes none."""
        return getattr(self.hint, "nearest", "")


class DripstoneError(Exception):
    """Something went wrong."""

    code: ClassVar[Code] = Code.FAILED_PRECONDITION
    reason: ClassVar[str] = "FAILED"
    hint: ClassVar[str] = ""
    quotes: ClassVar[tuple[str, ...]] = ()
    """Variables that may quote values of records; keys that do not see all of these are not told them."""

    def __init__(
        self, *, violations: tuple[Violation, ...] = (), retry_after: float | None = None, **variables: object
    ):
        """Keep the variables that fill the message; they are sent to the caller, so none may be secret.

        `retry_after` is in seconds.
        """
        self.variables = {name: str(value) for name, value in variables.items()}
        self.violations = violations
        self.retry_after = retry_after
        super().__init__(self.message)

    @property
    def message(self) -> str:
        """Return the docstring with its variables filled in."""
        return (type(self).__doc__ or "").strip().format(**self.variables)

    @property
    def way_out(self) -> str:
        """Return what the caller can do about it."""
        return type(self).hint.format(**self.variables)

    def unquoted(self) -> DripstoneError:
        """Return the error without what it may quote of records."""
        told = type(self).__new__(type(self))
        variables = self.variables | dict.fromkeys(self.quotes, "your key does not see why")
        DripstoneError.__init__(told, violations=self.violations, retry_after=self.retry_after, **variables)
        return told


class Invalid(DripstoneError):
    """The request is not well formed: {summary}"""  # noqa: D400, D415 -- the summary ends the sentence

    code = Code.INVALID_ARGUMENT
    reason = "INVALID_ARGUMENT"
    hint = "Correct the named fields and call again."

    def __init__(self, *violations: Violation):
        """Collect what is wrong; the first sentence becomes the summary."""
        more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
        summary = f"{violations[0].field}: {violations[0].message}{more}" if violations else "see the details"
        super().__init__(violations=violations, summary=summary)


def invalid(field: str, reason: str, message: str, hint: str = "") -> Invalid:
    """Return the error for one thing wrong with a request."""
    return Invalid(Violation(field, reason, message, hint))


class NotFound(DripstoneError):
    """There is no {kind} {id}."""

    code = Code.NOT_FOUND
    reason = "NOT_FOUND"
    hint = "Check the id; list the {kind}s to see what there is."


class AlreadyExists(DripstoneError):
    """There is a {kind} {id} already."""

    code = Code.ALREADY_EXISTS
    reason = "ALREADY_EXISTS"
    hint = "Choose another id, or update the one there is."


class EtagMismatch(DripstoneError):
    """{kind} {id} has changed: it is at etag {current}, the request was made for {given}."""

    code = Code.ABORTED
    reason = "ETAG_MISMATCH"
    hint = "Read it again, apply your change to what it is now, and send the new etag."


class WrongState(DripstoneError):
    """{kind} {id} is {state}; that does not allow {action}."""

    code = Code.FAILED_PRECONDITION
    reason = "WRONG_STATE"
    hint = "Read it again and choose an action its state allows."
