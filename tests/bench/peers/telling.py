"""How a peer's program speaks with the run that started it: JSON lines on standard output. Nothing of ours but this."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

PAYLOAD = "x" * 145
"""The same small state as everywhere in the bench."""


def arguments() -> argparse.Namespace:
    """Return what the run asks for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url", help="address of an empty database")
    parser.add_argument("--seconds", type=float, default=5.0, help="measure no longer than this")
    parser.add_argument("--jobs", type=int, default=1_000, help="at most so many jobs")
    parser.add_argument("--sleepers", type=int, default=0, help="jobs in the table that are not due")
    parser.add_argument("--mode", default="", help="which way of using it; each program says which there are")
    return parser.parse_args()


def tell(**what: Any) -> None:
    """Tell how it goes, or the result."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()
