"""The hash that names what is approved or planned."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def canonical(value: object) -> str:
    """Return a JSON value as the one text it has: sorted keys, no spaces; instants as ISO 8601 text."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=_plain)


def digest(value: object) -> str:
    """Return the hash of a JSON value, `sha256:…`."""
    return "sha256:" + hashlib.sha256(canonical(value).encode(errors="surrogatepass")).hexdigest()


def _plain(value: Any) -> Any:
    return dict(value) if hasattr(value, "items") else str(value)
