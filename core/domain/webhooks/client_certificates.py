"""What is wrong with a client certificate and its key; the package that reads them is loaded when one is sent."""

from __future__ import annotations

import base64
import binascii
import re
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_private_key

from core.domain.errors import Violation

LARGEST_RSA_KEY = 4_096
"""In bits: each handshake of a larger one would hold up everybody else for a while."""

_PEM_KEY = re.compile(r"-----BEGIN ((?:RSA |EC )?PRIVATE KEY)-----([A-Za-z0-9+/=\s]+)-----END \1-----")
_DIFFIE_HELLMAN = (bytes.fromhex("2a864886f70d010301"), bytes.fromhex("2a8648ce3e0201"))
"""How such keys are named in DER. They authenticate nobody, and only looking at one can take minutes."""

_Key = RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey | Ed448PrivateKey


def problems(certificate: str, private_key: str, now: datetime, at: str) -> list[Violation]:
    """Return everything that is wrong with a chain and its key, both PEM; `at` says where they stand."""
    violations: list[Violation] = []
    shown, own = None, None
    try:
        leaf = x509.load_pem_x509_certificates(certificate.encode())[0]
        shown = leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        if leaf.not_valid_after_utc <= now:
            message = f"the certificate expired on {leaf.not_valid_after_utc:%Y-%m-%d}"
            violations.append(Violation(f"{at}.certificate", "CERTIFICATE_EXPIRED", message, "Send a renewed one."))
    except (ValueError, UnsupportedAlgorithm):
        hint = "Send the PEM chain, the client's own certificate first: -----BEGIN CERTIFICATE----- …"
        violations.append(Violation(f"{at}.certificate", "CERTIFICATE_MALFORMED", "this is no PEM certificate", hint))
    try:
        key = _key(private_key)
        own = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        if isinstance(key, RSAPrivateKey) and key.key_size > LARGEST_RSA_KEY:
            message = f"the key has {key.key_size:,} bits, at most {LARGEST_RSA_KEY:,} are accepted"
            hint = "Use a smaller one, or one on an elliptic curve."
            violations.append(Violation(f"{at}.private_key", "KEY_TOO_LARGE", message, hint))
    except TypeError:
        message, hint = "the key is locked by a passphrase", "Unlock it first, as with `openssl pkey`."
        violations.append(Violation(f"{at}.private_key", "KEY_LOCKED", message, hint))
    except (ValueError, UnsupportedAlgorithm):
        hint = "Send the key in PEM: -----BEGIN PRIVATE KEY----- …; it is never shown again, so an update needs it too."
        violations.append(Violation(f"{at}.private_key", "KEY_MALFORMED", "this is no PEM key", hint))
    if shown is not None and own is not None and shown != own:
        message, hint = "the key does not belong to the certificate", "Put the client's own certificate first."
        violations.append(Violation(f"{at}.private_key", "KEY_MISMATCH", message, hint))
    return violations


def _key(pem: str) -> _Key:
    """Return a key that was not written to hold this process up: nobody proves primes here.

    Raises TypeError for one that is locked, ValueError for what is none.
    """
    if "ENCRYPTED" in pem:
        raise TypeError("locked")
    found = _PEM_KEY.search(pem)
    if found is None:
        raise ValueError("no key")
    try:
        der = base64.b64decode("".join(found[2].split()), validate=True)
    except binascii.Error:
        raise ValueError("no key") from None
    if any(name in der for name in _DIFFIE_HELLMAN):
        raise ValueError("no key that signs")
    key = load_der_private_key(der, password=None, unsafe_skip_rsa_key_validation=True)
    if not isinstance(key, _Key):
        raise ValueError("no key that TLS takes")
    return key
