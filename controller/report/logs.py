"""Logs: one JSON object a line for machines, aligned text for people. Standard-library loggers take the same way."""

from __future__ import annotations

import logging
import sys
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

QUIET = ("apscheduler", "urllib3", "kubernetes", "requests", "httpx")
"""Libraries that tell on every call what this log tells once a tick."""


def configure(log_format: str, log_level: str, stream: TextIO | None = None) -> None:
    """Set up logging for the process, on standard output unless `stream` is given.

    Args:
        log_format: `json`, `console`, or `auto`: console on a terminal, else JSON.
        log_level: the least severe level to log.
    """
    stream = stream or sys.stdout
    terminal = stream.isatty()
    if log_format == "auto":
        log_format = "console" if terminal else "json"
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
        structlog.stdlib.add_log_level,
        structlog.processors.StackInfoRenderer(),
    ]
    tail: list[Processor] = (
        [structlog.dev.ConsoleRenderer(colors=terminal, timestamp_key="ts", sort_keys=False)]
        if log_format == "console"
        else [
            structlog.processors.format_exc_info,
            _first_keys_first,
            structlog.processors.JSONRenderer(ensure_ascii=False, default=str),
        ]
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *tail]
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(log_level.upper())
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.ERROR)


def _first_keys_first(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    first = {key: event[key] for key in ("ts", "level", "event", "policy", "sentence") if key in event}
    return {**first, **{key: value for key, value in event.items() if key not in first}}
