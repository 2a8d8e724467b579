"""How the process logs: one line an event, to standard error, readable in a terminal and JSON elsewhere."""

from __future__ import annotations

import logging
import sys

import structlog
import structlog.tracebacks


def configure(level: str) -> None:
    """Log this level and above."""
    number = logging.getLevelNamesMapping()[level.upper()]
    # Never the local variables of a traceback: they hold keys and people's data.
    tracebacks: list[structlog.typing.Processor]
    if sys.stderr.isatty():
        tracebacks = [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    else:
        transformer = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        tracebacks = [structlog.processors.ExceptionRenderer(transformer), structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            *tracebacks,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=max(number, logging.WARNING), stream=sys.stderr)
