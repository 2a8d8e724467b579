"""Secrets that stand among other columns, such as what signs webhooks: sealed where they are stored, opened where used.

A sealed secret is one text, bound to the place it belongs to. What was opened is remembered in the process, so that a
delivery costs no more than without; another secret is another text, so nothing remembered can be out of date.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import structlog

from core import ids
from core.domain.errors import MasterKeyMissing
from core.domain.systems import envelope
from core.domain.systems.envelope import CannotOpen
from core.domain.webhooks import authentication
from core.domain.webhooks.authentication import Authentication
from core.store.systems.master_keys import MasterKeys, NoMasterKeys

_MOST_OPENED = 4_096
_NO_KEY = "there is no master key here"
_log = structlog.get_logger()


@dataclass(slots=True, eq=False)
class Vault:
    """Seals and opens the secrets of a deployment."""

    keys: MasterKeys | None
    seals: bool = True
    """False where several processes may share a database and nobody has given them a key: they could not open it."""
    _opened: dict[tuple[str, str], str] = field(default_factory=dict, repr=False)

    def seal(self, secret: str, about: str) -> str:
        """Return a secret as it is stored; `about` says what it belongs to. Raises MasterKeyMissing."""
        if not secret or not self.seals or self.keys is None:
            return secret
        try:
            master = self.keys.all()[0]
        except NoMasterKeys as error:
            raise missing(error) from None
        return envelope.to_text(envelope.seal(master, secret.encode(), about, ids.new_secret_bytes))

    def open(self, stored: str, about: str) -> str:
        """Return a secret that is stored; one that is not sealed stands for itself. Raises MasterKeyMissing."""
        known = self._opened.get((about, stored))
        if known is not None:
            return known
        sealed = envelope.from_text(stored)
        if sealed is None:
            return stored
        try:
            if self.keys is None:
                raise CannotOpen(_NO_KEY)
            secret = envelope.unseal(self.keys.all(), sealed, about).decode()
        except CannotOpen as error:
            raise MasterKeyMissing(why=str(error)) from None
        except NoMasterKeys as error:
            raise missing(error) from None
        if len(self._opened) >= _MOST_OPENED:
            self._opened.clear()
        self._opened[about, stored] = secret
        return secret

    def seal_auth(self, auth: Authentication | None, about: str) -> Authentication | None:
        """Return how requests authenticate, with its secret as it is stored."""
        return auth and authentication.with_secret(auth, self.seal(authentication.secret_of(auth), about))

    def open_auth(self, auth: Authentication | None, about: str) -> Authentication | None:
        """Return how requests authenticate, with its secret opened."""
        return auth and authentication.with_secret(auth, self.open(authentication.secret_of(auth), about))


UNSEALED = Vault(None)
"""Keeps secrets as they are, for parts that stand alone."""


def missing(error: NoMasterKeys) -> MasterKeyMissing:
    """Return what callers and tenants are told; where a key was looked for is for the operator alone."""
    _log.error("no master key can be used", why=str(error))
    return MasterKeyMissing(why=_NO_KEY)
