"""What every change of a resource is checked for: the mask, the etag, and secrets that must not move along."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from core.domain.control.digest import digest
from core.domain.errors import EtagMismatch, Invalid, Violation
from core.domain.nearest import did_you_mean
from core.domain.webhooks import authentication
from core.domain.webhooks.authentication import Authentication
from core.domain.webhooks.urls import origin

_SHOWN = 100


def masked(paths: Sequence[str], changeable: Sequence[str]) -> list[str]:
    """Return the fields that a mask names.

    Raises Invalid with each one that cannot be changed, and the nearest that can.
    """
    violations = []
    for number, path in enumerate(paths):
        if path not in changeable:
            message = f"{path[:_SHOWN]} is not a field that can be changed"
            hint = did_you_mean(path[:_SHOWN], changeable, f"The fields are {', '.join(changeable)}.")
            violations.append(Violation(f"update_mask.paths[{number}]", "UNKNOWN_FIELD", message, hint))
    if violations:
        raise Invalid(*violations)
    return list(paths)


def expect(kind: str, resource_id: str, *, given: str, current: str) -> None:
    """Refuse a change that was made for another version. Raises EtagMismatch; no etag fits every version."""
    if given and given != current:
        raise EtagMismatch(kind=kind, id=resource_id, current=current, given=given)


def etag_of(*standing: object) -> str:
    """Return the version of a resource of which no column tells: by how it stands, as plain values."""
    return f'"{int(digest(standing).removeprefix("sha256:")[:12], 16)}"'


def secrets_that_move(
    auth: Authentication | None, before: Authentication | None, *, url: str, url_before: str, field: str
) -> Iterator[Violation]:
    """Yield a violation where a secret that was kept would go to another host than it was given for."""
    if auth is not None and auth == before and authentication.discloses(before) and origin(url) != origin(url_before):
        message = "the URL moves to another host, so what authenticates must be sent again"
        hint = "Set auth in the same call, with its secret: it is not sent to a new place unasked."
        yield Violation(field, "AUTH_NEEDED_AGAIN", message, hint)
