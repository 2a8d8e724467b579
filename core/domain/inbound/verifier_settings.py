"""Reading how a source's requests shall be verified: what could never verify anything is refused when it is set."""

from __future__ import annotations

import re
from collections.abc import Iterator

from core.domain.errors import Violation
from core.domain.inbound.verifiers import PUBLIC, SYMMETRIC, HmacForm, Kind, Verifier, key_bytes
from core.domain.nearest import did_you_mean

ALGORITHMS = ("sha256", "sha512", "sha1")
ENCODINGS = ("hex", "base64")
PLACEHOLDERS = ("body", "timestamp")

_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_KEY_LENGTHS = range(24, 65)
_PUBLIC_LENGTH = 32


def problems(verifier: Verifier, path: str = "verifier") -> tuple[Violation, ...]:
    """Return everything that is wrong with a verifier, by field; no secret is quoted."""
    return tuple(_problems(verifier, path))


def _problems(verifier: Verifier, path: str) -> Iterator[Violation]:
    if verifier.kind is Kind.NONE and verifier.secrets:
        message = "there are secrets, but no kind says how they are used"
        yield Violation(f"{path}.kind", "REQUIRED", message, "Choose one, such as standard_webhooks or hmac.")
    elif verifier.kind is not Kind.NONE and not verifier.secrets:
        message = "is required: without a secret nothing could be verified"
        yield Violation(f"{path}.secrets", "REQUIRED", message, "Send what the other system signs with.")
    for index, secret in enumerate(verifier.secrets):
        yield from _secret(verifier.kind, secret, f"{path}.secrets[{index}]")
    if verifier.kind is Kind.HMAC:
        yield from _form(verifier.hmac, f"{path}.hmac")
    elif verifier.hmac != HmacForm():
        message = f"says what an HMAC looks like, but the kind is {verifier.kind or 'not set'}"
        yield Violation(f"{path}.hmac", "NOT_USED", message, "Leave it out, or set the kind to hmac.")


def _secret(kind: Kind, secret: str, path: str) -> Iterator[Violation]:
    if not secret.strip():
        yield Violation(path, "REQUIRED", "is empty", "Leave it out, or send the secret.")
    elif kind is Kind.STANDARD_WEBHOOKS:
        yield from _standard_secret(secret, path)
    elif kind is Kind.BASIC and ":" not in secret:
        yield Violation(path, "BAD_SECRET", "is not user:password", "Join user and password with a colon.")
    elif kind is Kind.BEARER and (not secret.isascii() or any(character.isspace() for character in secret)):
        yield Violation(path, "BAD_SECRET", "has characters that no header can carry", "Send the token alone.")


def _standard_secret(secret: str, path: str) -> Iterator[Violation]:
    try:
        length = len(key_bytes(secret))
    except ValueError:
        hint = "Send it as the other system shows it; the alphabet for URLs, with - and _, is another one."
        yield Violation(path, "BAD_SECRET", f"is not {SYMMETRIC} or {PUBLIC} and standard base64", hint)
        return
    if secret.startswith(PUBLIC) and length != _PUBLIC_LENGTH:
        message = f"stands for {length} bytes; a public key has {_PUBLIC_LENGTH}"
        yield Violation(path, "BAD_SECRET", message, "Send the public key, not the private one.")
    elif not secret.startswith(PUBLIC) and length not in _KEY_LENGTHS:
        message = f"stands for {length} bytes; a secret has {_KEY_LENGTHS[0]} to {_KEY_LENGTHS[-1]}"
        yield Violation(path, "BAD_SECRET", message, "Send it whole.")


def _form(form: HmacForm, path: str) -> Iterator[Violation]:
    for name in ("header", "timestamp_header"):
        value = getattr(form, name)
        if value and not _HEADER.fullmatch(value):
            yield Violation(f"{path}.{name}", "BAD_HEADER", f"`{value[:50]}` is no name of a header")
    if not form.header:
        hint = "Name the header that carries the signature, such as X-Signature."
        yield Violation(f"{path}.header", "REQUIRED", "is required and missing", hint)
    for name, known in (("algorithm", ALGORITHMS), ("encoding", ENCODINGS)):
        value = getattr(form, name)
        if value not in known:
            hint = did_you_mean(value, known, f"It is one of {', '.join(known)}.")
            yield Violation(f"{path}.{name}", "UNKNOWN_VALUE", f"`{value[:20]}` is no {name} known here", hint)
    yield from _template(form, path)


def _template(form: HmacForm, path: str) -> Iterator[Violation]:
    used = _PLACEHOLDER.findall(form.template)
    for name in used:
        if name not in PLACEHOLDERS:
            hint = did_you_mean(name, PLACEHOLDERS, "There are {body} and {timestamp}.")
            message = f"{{{name[:30]}}} is nothing that can be signed"
            yield Violation(f"{path}.template", "UNKNOWN_PLACEHOLDER", message, hint)
    if "body" not in used:
        message = "does not sign the body, so that any body would pass"
        yield Violation(f"{path}.template", "BODY_NOT_SIGNED", message, "Put {body} where the body stands.")
    if "timestamp" in used and not form.timestamp_header:
        message = "is required: the template signs a timestamp"
        yield Violation(f"{path}.timestamp_header", "REQUIRED", message, "Name the header that carries it.")
    if form.timestamp_header and "timestamp" not in used:
        message = "names a timestamp that is not signed, which anybody could set anew"
        hint = "Put {timestamp} into the template, or leave the header out."
        yield Violation(f"{path}.timestamp_header", "TIMESTAMP_NOT_SIGNED", message, hint)
