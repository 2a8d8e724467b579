"""The core service: contract in, rows out; see ARCHITECTURE.md for the map."""

import sys

if "rich" not in sys.modules:
    # structlog loads rich for tracebacks that are not ours, where it finds it: a third of what a small command loads.
    sys.modules["rich"] = None  # type: ignore[assignment]  # what the import system reads as "is not there"
    try:
        import structlog  # noqa: F401
    finally:
        del sys.modules["rich"]
