"""How requests to a tenant's URL authenticate: what may be set, what is kept, and what is never shown."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import asdict, field, replace
from datetime import datetime
from typing import Any

from core.domain.errors import Invalid, Violation
from core.domain.frozen import frozen
from core.domain.webhooks import urls
from core.domain.webhooks.addresses import Destinations


@frozen
class Basic:
    """A user name and a password."""

    username: str
    password: str = field(repr=False)


@frozen
class Bearer:
    """A fixed token."""

    token: str = field(repr=False)


@frozen
class OAuth2:
    """The client credentials grant of OAuth 2.0."""

    token_url: str
    client_id: str
    client_secret: str = field(repr=False)
    scope: str = ""
    audience: str = ""


@frozen
class ClientCertificate:
    """A certificate that the caller shows, and its key; PEM."""

    certificate: str
    private_key: str = field(repr=False)


Authentication = Basic | Bearer | OAuth2 | ClientCertificate

_SCHEMES: Mapping[str, type[Authentication]] = {
    "basic": Basic,
    "bearer": Bearer,
    "oauth2": OAuth2,
    "mtls": ClientCertificate,
}
_SECRETS: Mapping[type[Authentication], str] = {
    Basic: "password",
    Bearer: "token",
    OAuth2: "client_secret",
    ClientCertificate: "private_key",
}
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_TOKEN = re.compile(r"[\x21-\x7e]+")


def scheme(auth: Authentication) -> str:
    """Return the name of a way, such as `basic`."""
    return next(name for name, kind in _SCHEMES.items() if kind is type(auth))


def column(auth: Authentication | None) -> dict[str, str]:
    """Return it as it is stored; empty for none."""
    return {} if auth is None else {"scheme": scheme(auth), **asdict(auth)}


def from_column(stored: Mapping[str, Any]) -> Authentication | None:
    """Return what is stored."""
    if not stored:
        return None
    return _SCHEMES[stored["scheme"]](**{name: value for name, value in stored.items() if name != "scheme"})


def without_secret(auth: Authentication) -> Authentication:
    """Return a copy that may be shown."""
    return with_secret(auth, "")


def secret_of(auth: Authentication) -> str:
    """Return what of it is secret."""
    return str(getattr(auth, _SECRETS[type(auth)]))


def with_secret(auth: Authentication, secret: str) -> Authentication:
    """Return a copy with another secret."""
    changes: dict[str, Any] = {_SECRETS[type(auth)]: secret}
    return replace(auth, **changes)


def kept(given: Authentication | None, present: Authentication | None) -> Authentication | None:
    """Return what is given with the present secret, where it has none and is the same in all else.

    So what was read can be written back. Another user or token URL needs its secret again: else whoever may change an
    endpoint could have its secret sent to himself.
    """
    return present if keeps(given, present) else given


def keeps(given: Authentication | None, present: Authentication | None) -> bool:
    """Tell whether what is given stands for the present secret, sealed or not."""
    return given is not None and present is not None and given == without_secret(present)


def discloses(auth: Authentication | None) -> bool:
    """Tell whether the endpoint is sent something it could use elsewhere: not so for a certificate's key."""
    return auth is not None and not isinstance(auth, ClientCertificate)


def authorization(auth: Authentication | None, token: str = "") -> dict[str, str]:
    """Return the header that authenticates; `token` is the one fetched for OAuth 2.0."""
    match auth:
        case Basic():
            pair = base64.b64encode(f"{auth.username}:{auth.password}".encode()).decode()
            return {"authorization": f"Basic {pair}"}
        case Bearer():
            return {"authorization": f"Bearer {auth.token}"}
        case OAuth2() if token:
            return {"authorization": f"Bearer {token}"}
        case _:
            return {}


def check(
    auth: Authentication, destinations: Destinations, now: datetime, path: str
) -> tuple[Authentication, list[Violation]]:
    """Return it in normal form, and everything that is wrong with it."""
    at = f"{path}.{scheme(auth)}"
    match auth:
        case Basic():
            return auth, _basic_problems(auth, at)
        case Bearer():
            return auth, _bearer_problems(auth, at)
        case OAuth2():
            return _check_oauth2(auth, destinations, at)
        case ClientCertificate():
            from core.domain.webhooks.client_certificates import problems  # slow to load: see core.loading

            return auth, problems(auth.certificate, auth.private_key, now, at)


def is_token(text: str) -> bool:
    """Tell whether a text can stand after `Bearer`."""
    return _TOKEN.fullmatch(text) is not None


def _required(auth: Authentication, names: str, at: str) -> list[Violation]:
    violations = []
    for name in names.split():
        text = getattr(auth, name)
        if not text:
            hint = f"Set {at}.{name}; it is never shown again." if name == _SECRETS[type(auth)] else f"Set {at}.{name}."
            violations.append(Violation(f"{at}.{name}", "REQUIRED", "is required and missing", hint))
        elif _CONTROL.search(text):
            hint = "Leave out line breaks and tabs; often one slips in at the end when a secret is copied."
            violations.append(Violation(f"{at}.{name}", "CONTROL_CHARACTER", "has a control character", hint))
    return violations


def _basic_problems(auth: Basic, at: str) -> list[Violation]:
    violations = _required(auth, "username password", at)
    if ":" in auth.username:
        message = "a user name of basic authentication has no colon"
        violations.append(Violation(f"{at}.username", "COLON", message, "Put what follows it into the password."))
    return violations


def _bearer_problems(auth: Bearer, at: str) -> list[Violation]:
    violations = _required(auth, "token", at)
    if not violations and not is_token(auth.token):
        message = "a token is visible ASCII without spaces"
        violations.append(Violation(f"{at}.token", "TOKEN_MALFORMED", message, "Send the token without `Bearer `."))
    return violations


def _check_oauth2(auth: OAuth2, destinations: Destinations, at: str) -> tuple[OAuth2, list[Violation]]:
    violations = _required(auth, "client_id client_secret", at)
    for name in ("scope", "audience"):
        if _CONTROL.search(getattr(auth, name)):
            hint = "Separate scopes by single spaces." if name == "scope" else "Leave it out."
            violations.append(Violation(f"{at}.{name}", "CONTROL_CHARACTER", "has a control character", hint))
    try:
        return replace(auth, token_url=urls.parse(auth.token_url, destinations, f"{at}.token_url")), violations
    except Invalid as error:
        return auth, [*violations, *error.violations]
