"""Certificates for tests: an authority, and what it signs; made once a session, because keys take their time."""

from __future__ import annotations

import base64
import ipaddress
from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
FAR_AHEAD = datetime(2100, 1, 1, tzinfo=UTC)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


@cache
def key(name: str) -> ec.EllipticCurvePrivateKey:
    """Return the key of this name."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(name: str, passphrase: bytes = b"") -> str:
    """Return a key in PEM, locked where there is a passphrase."""
    lock = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return key(name).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock).decode()


@cache
def certificate_pem(name: str, signer: str = "authority", until: datetime = FAR_AHEAD) -> str:
    """Return a certificate in PEM; one for `authority` is its own signer. Any is good for 127.0.0.1."""
    names = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("hooks.example.com")]
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name(signer))
        .public_key(key(name).public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(LONG_AGO, until - timedelta(days=1)))
        .not_valid_after(until)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=name == signer, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key(name).public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key(signer).public_key()), critical=False)
    )
    return builder.sign(key(signer), hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def rsa_key_pem(first: int, second: int) -> str:
    """Return an RSA key of two Mersenne primes, by their exponents: of any size, without looking for primes."""
    p, q, e = 2**first - 1, 2**second - 1, 65_537
    d = pow(e, -1, (p - 1) * (q - 1))
    numbers = (0, p * q, e, d, p, q, d % (p - 1), d % (q - 1), pow(q, -1, p))
    return _pem("RSA PRIVATE KEY", _der(0x30, b"".join(map(_integer, numbers))))


def diffie_hellman_key_pem(exponent: int) -> str:
    """Return a key for Diffie-Hellman over a Mersenne prime."""
    group = _der(0x30, _integer(2**exponent - 1) + _integer(3))
    kind = _der(0x30, bytes.fromhex("06092a864886f70d010301") + group)
    return _pem("PRIVATE KEY", _der(0x30, _integer(0) + kind + _der(4, _integer(2 ** (exponent - 1)))))


def _pem(label: str, der: bytes) -> str:
    return f"-----BEGIN {label}-----\n{base64.encodebytes(der).decode()}-----END {label}-----\n"


def _integer(number: int) -> bytes:
    return _der(2, number.to_bytes(number.bit_length() // 8 + 1, "big"))


def _der(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content
