"""What a handler is given beside its request: who calls, the open transaction, the parts of the process."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import field
from datetime import datetime
from typing import TYPE_CHECKING

from core.clock import Clock
from core.domain.control.key_limits import UNLIMITED, KeyLimits
from core.domain.control.policy import Demand
from core.domain.frozen import copied, frozen
from core.rpc.admission.rulebook import Rulebook
from core.rpc.events.stream_places import StreamPlaces
from core.rpc.under_way import UnderWay
from core.settings import Settings
from core.store.database import Database
from core.store.systems.vault import UNSEALED, Vault
from core.store.transaction import Transaction

if TYPE_CHECKING:
    from core.delivery.http import WebhookSender
    from core.delivery.systems.opening import Opener
    from core.engine.driver import EnrollmentDriver
    from core.store.workflows.workflows import VersionCache


@frozen
class Caller:
    """The principal behind a key."""

    org_id: str
    principal_id: str
    principal_kind: str
    """`member`, `service` or `agent`."""
    display_name: str
    scopes: frozenset[str]
    key_id: str = ""
    """Empty for a member who came with a token of the organization's provider."""
    organization_name: str = ""
    limits: KeyLimits = UNLIMITED
    """What narrows the key beyond its scopes."""
    role: str = ""
    """A member's: `admin`, `editor`, `viewer` or `approver`."""
    agent_id: str = ""
    """The agent that a key speaks for; empty for none."""
    agent_state: str = ""
    """Where that agent is: unless it is at work, its keys are refused."""


@frozen
class Parts:
    """The parts of the process that handlers use."""

    database: Database
    clock: Clock
    settings: Settings
    engine: EnrollmentDriver
    versions: VersionCache
    webhook_sender: WebhookSender
    systems: Opener | None = None
    """Opens connections to systems of record; tests of other parts have none."""
    vault: Vault = UNSEALED
    """Seals what is secret among the columns of endpoints and connections."""
    under_way: UnderWay = field(default_factory=UnderWay)
    simulating: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))
    """A process simulates for one caller at a time; who comes meanwhile waits, and nobody else notices."""
    checking: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))
    """A process checks the document of one caller at a time, beside those that are published and run."""
    streams: StreamPlaces = field(default_factory=StreamPlaces)
    """Who streams messages from this process."""
    rulebook: Rulebook = field(default_factory=Rulebook)
    """What binds principals: policies and budgets."""
    draining: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the process is going away: streams end, nothing new begins."""


@frozen
class Call:
    """One admitted call."""

    caller: Caller
    now: datetime
    parts: Parts
    request_id: str
    """The call's idempotency key, or the id it was given for logs."""
    metadata: Mapping[str, str]
    _tx: Transaction | None = None
    demands: tuple[Demand, ...] = ()
    """The approvals that policies want for the plan which this call applies: every one of them."""
    agreed: Demand | None = None
    """The approval that a policy wanted for this call, and that it has used; None for none."""
    id: str = ""
    """The call's own id, `req_…`: idempotency keys belong to principals, and are used again. Empty in the engine."""

    def within(self, tx: Transaction) -> Call:
        """Return the call in a transaction that is open."""
        return copied(self, _tx=tx)

    @property
    def tx(self) -> Transaction:
        """Return the open transaction; methods that go outside open their own."""
        assert self._tx is not None, "this method has no transaction of its own"
        return self._tx

    @property
    def cause(self) -> str:
        """Return what to write as the cause of a change."""
        return f"call:{self.id or self.request_id}"
