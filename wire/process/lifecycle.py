"""Starting, stopping and failing of a process.

SIGTERM and SIGINT only set a flag, which every loop checks. An unexpected exception in any thread ends the whole
process with a non-zero status, so that its supervisor restarts it. Otherwise the process would look alive and do
nothing.
"""

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from typing import NoReturn, ParamSpec

import structlog

from wire.errors import ConfigurationError
from wire.exit_codes import ExitCode
from wire.process import log
from wire.process.hardening import harden
from wire.process.log_limit import WINDOW_SECONDS
from wire.process.log_text import one_line

STOP_SECONDS = 4.0
"""How long a process may take to finish its current work when it is asked to stop."""
_MAX_MISTAKE_BYTES = 2000
"""Maximum size of a line of a configuration error."""

P = ParamSpec("P")


class Stop:
    """A flag that asks every loop of the process to finish its current work and end."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.failure: BaseException | None = None

    def __bool__(self) -> bool:
        return self.event.is_set()

    def set(self) -> None:
        """Ask every loop to end."""
        self.event.set()

    def fail(self, failure: BaseException) -> None:
        """Ask every loop to end because of a failure. The first failure determines the exit status."""
        if self.failure is None:
            self.failure = failure
        self.event.set()

    def guard(self, callback: Callable[P, None]) -> Callable[P, None]:
        """Wrap a callback whose caller ignores exceptions, so that an exception in it stops the process."""

        def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
            try:
                callback(*args, **kwargs)
            except BaseException as failure:  # noqa: BLE001 (reported when the process ends)
                self.fail(failure)

        return guarded

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until asked to stop, for at most ``seconds``. Return whether the process was asked to stop."""
        return self.event.wait(seconds)


def spawn(name: str, target: Callable[[], None], stop: Stop) -> threading.Thread:
    """Start a daemon thread. An exception in it stops the process."""
    thread = threading.Thread(target=stop.guard(target), name=name, daemon=True)
    thread.start()
    return thread


def run(main: Callable[[Stop], None]) -> int:
    """Run ``main`` until it returns or fails, and return the exit status of the process.

    A configuration error is printed without a traceback.
    """
    harden()
    log.configure("info", "console")
    stop = Stop()
    _stop_on_signals(stop)
    spawn("log", lambda: _report_left_out(stop), stop)
    try:
        main(stop)
        if stop.failure is not None:
            raise stop.failure
    except ConfigurationError as error:
        with contextlib.suppress(OSError, ValueError):
            for line in mistakes(error):
                print(line, file=sys.stderr, flush=True)  # noqa: T201 (for the operator, in any log format)
        return error.exit_code
    except Exception as error:  # noqa: BLE001 (logged with its traceback, and exit status 70)
        structlog.get_logger("process").critical("ended by an unexpected error", exc_info=error)
        return ExitCode.SOFTWARE
    finally:
        log.report_left_out(is_last=True)
    return ExitCode.OK


def mistakes(error: ConfigurationError) -> list[str]:
    """Return the lines of a configuration error, without credentials and control characters."""
    return [one_line(line, _MAX_MISTAKE_BYTES) for line in str(error).split("\n")]


def _report_left_out(stop: Stop) -> None:
    while not stop.wait(WINDOW_SECONDS):
        log.report_left_out()


def _stop_on_signals(stop: Stop) -> None:
    """Set ``stop`` from a separate thread. A signal handler could interrupt the main thread while it holds a lock."""
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


def exit_now(status: int) -> NoReturn:
    """End the process at once with ``status``.

    A thread that is blocked in a camera driver or in a connect cannot be interrupted, and would abort the interpreter
    during a regular shutdown. Everything that must be closed has been closed by now.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(status)
