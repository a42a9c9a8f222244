"""Logging with structlog: one event per line on standard error, as text or as JSON.

Every line is limited in size and number, whoever causes it: see :mod:`wire.process.log_text` and
:mod:`wire.process.log_limit`. Warnings of libraries that use Python's own ``logging`` take the same way.
"""

import contextlib
import logging
import sys
from typing import Literal, TextIO

import structlog

from wire.process.log_limit import LineLimit
from wire.process.log_text import indented_traceback, loggable

LEVELS = {name: getattr(logging, name.upper()) for name in ("debug", "info", "warning", "error")}

_limit = LineLimit()


def configure(level: str, log_format: Literal["console", "json"]) -> None:
    """Set up logging for the process. ``level`` is the least severe one that is logged, of :data:`LEVELS`."""
    global _limit  # noqa: PLW0603 (the limit of the process)
    _limit = LineLimit()
    shared: list[structlog.typing.Processor] = [
        _limit,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,  # its text has no local variables, which may contain secrets
        _make_safe,
    ]
    if log_format == "json":
        shared.append(structlog.processors.JSONRenderer())
    else:
        plain = structlog.dev.plain_traceback
        colors = sys.stderr is not None and sys.stderr.isatty()
        shared.append(structlog.dev.ConsoleRenderer(colors=colors, pad_event_to=32, exception_formatter=plain))
    structlog.configure(
        processors=shared,
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(_SafeStream(sys.stderr)),  # type: ignore[arg-type]
        cache_logger_on_first_use=False,
    )
    _log_libraries()


def report_left_out(*, is_last: bool = False) -> None:
    """Log how many lines were left out, if a window of the limit has ended, or at the end of the process."""
    _limit.report(is_last=is_last)


def _make_safe(_logger: object, _level: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return {
        key: indented_traceback(str(value)) if key == "exception" else loggable(value) for key, value in line.items()
    }


def _log_libraries() -> None:
    logging.captureWarnings(True)
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if isinstance(handler, _LibraryHandler):
            root.removeHandler(handler)
    root.addHandler(_LibraryHandler(logging.WARNING))


class _LibraryHandler(logging.Handler):
    """Logs what libraries such as botocore and urllib3 log. Without a handler, it would be written as it is."""

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(Exception):  # a text that does not fit to its arguments is the library's mistake
            logger = structlog.get_logger("library")
            write = logger.error if record.levelno >= logging.ERROR else logger.warning
            write("message of a library", library=record.name, message=record.getMessage(), exc_info=record.exc_info)


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
