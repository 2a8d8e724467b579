"""Client certificates: a TLS context for each, made once, so that connections are kept and never shared between two."""

from __future__ import annotations

import asyncio
import ssl
import tempfile
from collections import OrderedDict

from core.domain.webhooks.authentication import ClientCertificate

_MOST_KEPT = 256


class Certificates:
    """Makes and keeps the contexts; they trust whom `trusting` trusts, or whom the system does."""

    def __init__(self, trusting: ssl.SSLContext | None = None):
        self._trusting = trusting
        self._kept: OrderedDict[ClientCertificate, ssl.SSLContext] = OrderedDict()

    async def context(self, certificate: ClientCertificate) -> ssl.SSLContext:
        """Return the context that shows a certificate.

        Raises ssl.SSLError for one that cannot be used.
        """
        kept = self._kept.get(certificate)
        if kept is None:
            # Reading the system's trusted certificates takes some ten milliseconds: not on the loop.
            kept = await asyncio.to_thread(self._make, certificate)
            kept = self._kept.setdefault(certificate, kept)
            if len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(certificate)
        return kept

    def _make(self, certificate: ClientCertificate) -> ssl.SSLContext:
        if self._trusting is None:
            context = ssl.create_default_context()
        else:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            for trusted in self._trusting.get_ca_certs(binary_form=True):
                context.load_verify_locations(cadata=trusted)
        context.set_alpn_protocols(["http/1.1"])
        # The interface takes files only; this one is readable by its owner alone, and gone at once.
        with tempfile.NamedTemporaryFile("w", prefix="dripstone-", suffix=".pem") as pem:
            pem.write(f"{certificate.certificate}\n{certificate.private_key}\n")
            pem.flush()
            context.load_cert_chain(pem.name, password="")  # or it would ask the terminal for one
        return context
