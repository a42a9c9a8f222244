"""Logging with structlog: one event per line on standard error, as text or as JSON."""

import contextlib
import logging
import sys
from typing import Literal, TextIO

import structlog

LEVELS = {name: getattr(logging, name.upper()) for name in ("debug", "info", "warning", "error")}


def configure(level: str, log_format: Literal["console", "json"]) -> None:
    """Set up logging for the process. ``level`` is the least severe one that is logged, of :data:`LEVELS`."""
    shared: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if log_format == "json":
        shared += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        # A rich traceback would print local variables, which may contain secrets.
        plain = structlog.dev.plain_traceback
        colors = sys.stderr is not None and sys.stderr.isatty()
        shared.append(structlog.dev.ConsoleRenderer(colors=colors, pad_event_to=32, exception_formatter=plain))
    structlog.configure(
        processors=shared,
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(_SafeStream(sys.stderr)),  # type: ignore[arg-type]
        cache_logger_on_first_use=False,
    )


class _SafeStream:
    """Writes to a stream and ignores errors: a full disk that holds the log must not stop a process."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            if self._stream is not None:
                self._stream.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            if self._stream is not None:
                self._stream.flush()
