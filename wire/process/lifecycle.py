"""How a process of Facewire starts, stops and fails.

SIGTERM and SIGINT only set a flag; the loops look at it. A defect in one thread ends the whole process with a
non-zero status, so that whoever supervises it starts it again: better than a process that looks alive.
"""

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import NoReturn, ParamSpec

import structlog

from wire.errors import ConfigurationError, ExitCode
from wire.process import log

STOP_SECONDS = 4.0
"""How long a process may take for what is under way once it has been asked to stop."""

P = ParamSpec("P")


class Stop:
    """A flag that says: finish what is under way and end."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.failure: BaseException | None = None

    def __bool__(self) -> bool:
        return self.event.is_set()

    def set(self) -> None:
        """Ask every loop to end."""
        self.event.set()

    def fail(self, failure: BaseException) -> None:
        """Ask every loop to end because of a failure; the first one decides how the process ends."""
        if self.failure is None:
            self.failure = failure
        self.event.set()

    def guard(self, callback: Callable[P, None]) -> Callable[P, None]:
        """Wrap a callback whose exceptions its caller would swallow: a failure there is a failure of the process."""

        def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
            try:
                callback(*args, **kwargs)
            except BaseException as failure:  # noqa: BLE001 (none may go unnoticed)
                self.fail(failure)

        return guarded

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until asked to stop, at most ``seconds``; tell whether it was asked."""
        return self.event.wait(seconds)


def spawn(name: str, target: Callable[[], None], stop: Stop) -> threading.Thread:
    """Start a daemon thread whose unexpected end stops the process."""
    thread = threading.Thread(target=stop.guard(target), name=name, daemon=True)
    thread.start()
    return thread


def run(main: Callable[[Stop], None]) -> int:
    """Run ``main`` until it returns or fails, and return the exit status of the process.

    A mistake of the operator is printed in one line, without a traceback.
    """
    log.configure("info", "console")
    stop = Stop()
    _stop_on_signals(stop)
    try:
        main(stop)
        if stop.failure is not None:
            raise stop.failure
    except ConfigurationError as mistake:
        with contextlib.suppress(OSError, ValueError):
            print(mistake, file=sys.stderr, flush=True)  # noqa: T201 (for people, whatever the log's form)
        return mistake.exit_code
    except Exception as defect:  # noqa: BLE001 (told in full, and in the exit status)
        structlog.get_logger("process").critical("ended by a defect", exc_info=_exc_info(defect))
        return ExitCode.SOFTWARE
    return ExitCode.OK


def _stop_on_signals(stop: Stop) -> None:
    """Set ``stop`` from a thread of its own: a handler would run amid whatever the main thread holds a lock for."""
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    signal.set_wakeup_fd(sender.fileno())

    def wait() -> None:
        with receiver, sender:
            while receiver.recv(1):
                stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: None)
    spawn("signals", wait, stop)


def leave(status: int) -> NoReturn:
    """End the process with ``status``, at once.

    A thread that sits in a camera's driver or in a connect cannot be interrupted, and would abort the interpreter on
    its orderly way out. All that matters has been closed by now.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(status)


def _exc_info(error: BaseException) -> tuple[type[BaseException], BaseException, TracebackType | None]:
    return type(error), error, error.__traceback__
