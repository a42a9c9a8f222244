"""Answers the requests that the enrolment service hands on, one at a time, at a Unix socket.

The service is exposed to the Internet, so it is in another container and has no key of the authority. Through this
socket it can do no more than any device could do itself.
"""

import contextlib
import socket
from pathlib import Path

import structlog

from cloud.pki import joining
from cloud.pki.authority import Authority
from cloud.pki.enrolment.conversation import read_line
from wire.enrolment.messages import Answer, Refusal, Request
from wire.errors import BadMessage, ConfigurationError
from wire.process.lifecycle import Stop

TALK_SECONDS = 5.0
_POLL_SECONDS = 0.5
_BACKLOG = 16
_MAX_PATH_BYTES = 103
"""What fits into an address on every system."""

_log = structlog.get_logger("pki")


class EnrolmentSocket:
    """A socket that listens while the authority runs."""

    def __init__(self, authority: Authority, stop: Stop) -> None:
        """Listen.

        Raises:
            ConfigurationError: the folder's path is too long.
        """
        self._authority, self._stop = authority, stop
        path = authority.enrolment.socket
        if len(str(path).encode()) > _MAX_PATH_BYTES:
            raise ConfigurationError(
                f"PKI_FOLDER is '{authority.folder}': expected a path with which '{path}' has at most "
                f"{_MAX_PATH_BYTES} bytes"
            )
        self._listener = _listen(path)

    def run(self) -> None:
        """Answer requests until asked to stop."""
        with self._listener:
            while not self._stop:
                with contextlib.suppress(TimeoutError):
                    connection, _ = self._listener.accept()
                    with connection, contextlib.suppress(OSError):  # whoever asked has gone
                        connection.settimeout(TALK_SECONDS)
                        connection.sendall(self._answer(read_line(connection)).encode())

    def _answer(self, line: bytes) -> Answer:
        try:
            result = joining.redeem(self._authority, Request.decode(line))
        except BadMessage:
            return Answer(refusal=Refusal.INVALID)
        except (OSError, ConfigurationError) as error:
            _log.error("cannot enroll a device by code", reason=str(error))
            return Answer(refusal=Refusal.BUSY)
        return Answer(certificate=result.decode()) if isinstance(result, bytes) else Answer(refusal=result)


def _listen(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(_BACKLOG)
    listener.settimeout(_POLL_SECONDS)
    return listener
