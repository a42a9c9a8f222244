"""Logging, by structlog: one event a line, on standard error, for people or for machines."""

import contextlib
import logging
import sys
from typing import Literal, TextIO

import structlog

LEVELS = {name: getattr(logging, name.upper()) for name in ("debug", "info", "warning", "error")}


def configure(level: str, form: Literal["console", "json"]) -> None:
    """Set up logging for the process.

    Args:
        level: one of :data:`LEVELS`; what is below it is not written.
        form: ``console`` for people, ``json`` for one JSON object a line.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if form == "json":
        shared += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        # A plain traceback: a rich one would print local variables, secrets among them.
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr is not None and sys.stderr.isatty(),
            pad_event_to=32,
            exception_formatter=structlog.dev.plain_traceback,
        )
        shared.append(renderer)
    structlog.configure(
        processors=shared,
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(_Careful(sys.stderr)),  # type: ignore[arg-type]
        cache_logger_on_first_use=False,
    )


class _Careful:
    """Writes to a stream, where that can be written to: a full disk below the log must not stop a camera."""

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
