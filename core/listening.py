"""Where a process listens: addresses, sockets, and the refusal to carry keys in plaintext to others."""

from __future__ import annotations

import contextlib
import socket
from ipaddress import ip_address

from core.settings import Settings


class RefusedToListen(Exception):
    """An address that others can reach needs TLS, or the word that plaintext is meant."""


class CannotListen(Exception):
    """An address is taken, or is none of this machine."""

    def __init__(self, address: str):
        super().__init__(
            f"{address} cannot be listened on; is another core running? Choose another port, or 0 for any."
        )


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that is bound to an address. Raises CannotListen."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise CannotListen(f"{host}:{port}") from error
    return listener


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of `host:port` or `[v6]:port`. Raises ValueError for anything else."""
    host, separator, port = address.rpartition(":")
    if not separator or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"{address!r} is not host:port")
    return host.strip("[]"), int(port)


def spoken(host: str) -> str:
    """Return a host as it stands in an address."""
    return f"[{host}]" if ":" in host else host


def refuse_open_plaintext(settings: Settings) -> None:
    """Refuse to serve plaintext to others unless told to. Raises RefusedToListen."""
    if settings.insecure or settings.tls_certificate:
        return
    for role, address in (("grpc", settings.grpc_listen), ("http", settings.http_listen)):
        host, _ = split_address(address)
        with contextlib.suppress(ValueError):
            if ip_address(host).is_loopback:
                continue
        if role in settings.roles and host != "localhost":
            raise RefusedToListen(
                f"{address} can be reached by others and would carry API keys in plaintext. "
                "Give --tls-cert and --tls-key, listen on 127.0.0.1, or say --insecure behind a TLS proxy."
            )
