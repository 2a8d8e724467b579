"""The connect-time guard: every address that is dialled is judged as its socket is made, literals and answers alike.

A check before connecting is none: a name can resolve to another address the second time.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Any

from core.domain.webhooks.addresses import Address, Destinations, allowed


@dataclass(slots=True)
class Verdict:
    """What the guard saw during one request; the connector folds several refusals into one nameless error."""

    refused: bool = False
    reused: bool = False
    """The request went over a connection made, and judged, before."""


current: ContextVar[Verdict] = ContextVar("webhook_verdict")
"""The verdict of the request under way; the racing connection attempts of one request share it."""


class NotAllowed(OSError):
    """The address is not allowed."""


class Guard:
    """Makes sockets to allowed addresses only."""

    def __init__(self, destinations: Destinations, own_addresses: Iterable[tuple[str, int]] = ()):
        self._networks = destinations.networks
        self._own = set(own_addresses)

    def refuse(self, host: str, port: int) -> None:
        """Refuse an address this process listens on; a wildcard or a name stands for all that this machine has."""
        self._own.add((host, port))

    def socket(self, info: tuple[Any, ...]) -> socket.socket:
        """Return a socket for the address that is about to be dialled.

        Raises NotAllowed, and notes it in the verdict.
        """
        family, kind, protocol, _, address = info
        if not allowed(address[0], self._networks) or self._is_own(address[0], address[1]):
            current.get().refused = True
            raise NotAllowed("destination not allowed")
        return socket.socket(family, kind, protocol)

    def _is_own(self, host: str, port: int) -> bool:
        here = [listening for listening, number in self._own if number == port]
        if not here:
            return False
        address = _plain(host)
        if address.is_unspecified:  # dialled, it means this machine
            return True
        owns = [_one(own) for own in here]
        return address in owns or (None in owns and _on_this_machine(address))


def _plain(host: str) -> Address:
    address = ip_address(host)
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address


def _one(own: str) -> Address | None:
    """Return the one address that is listened on; None where it may be any of this machine's."""
    try:
        address = _plain(own)
    except ValueError:  # a name, such as localhost
        return None
    return None if address.is_unspecified else address


def _on_this_machine(address: Address) -> bool:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.bind((str(address), 0))  # only an address of this machine can be bound
        return True
    return False
