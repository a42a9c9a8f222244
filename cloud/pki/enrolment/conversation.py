"""What is said on one connection: the handshake, the greeting, the device's request, and the authority's answer."""

import socket
import ssl
import threading
from collections.abc import Callable

import structlog

from cloud.pki.enrolment_files import EnrolmentFiles
from wire.enrolment.messages import MAX_LINE_BYTES, Answer, Greeting, Refusal, Request
from wire.errors import BadMessage

AUTHORITY_SECONDS = 8.0
MAX_AT_AUTHORITY = 4
"""Requests that wait for the authority at the same time. Others wait here."""

_log = structlog.get_logger("enrolment")


class Conversations:
    """Talks with devices, each with the service's present certificate."""

    def __init__(self, files: EnrolmentFiles) -> None:
        self._files = files
        self._at_authority = threading.Semaphore(MAX_AT_AUTHORITY)
        self._context: ssl.SSLContext | None = None
        self._loaded: tuple[int, int] = 0, 0

    def context(self) -> ssl.SSLContext:
        """Return the context with the service's certificate, which the authority may have renewed.

        Raises:
            OSError: a file is missing or damaged.
        """
        changed = self._files.certificate.stat().st_mtime_ns, self._files.key.stat().st_mtime_ns
        if self._context is None or self._loaded != changed:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            context.load_cert_chain(self._files.certificate, self._files.key)
            context.num_tickets = 0
            self._context, self._loaded = context, changed
        return self._context

    def talk(self, connection: ssl.SSLSocket, on_result: Callable[[Refusal | None], None]) -> None:
        """Talk with a device until it has its answer.

        ``on_result`` is called before that, with the reason of a refusal; None if the device gets a certificate.

        Raises:
            OSError: the device has gone, is too slow, or cannot speak TLS.
        """
        connection.do_handshake()
        connection.sendall(Greeting(authority=self._files.ca.read_text()).encode())
        line = read_line(connection)
        if not line:
            return
        try:
            Request.decode(line)  # whatever is not a request does not reach the authority
            answer = self._ask(line)
        except BadMessage:
            answer = Answer(refusal=Refusal.INVALID)
        on_result(answer.refusal)
        connection.sendall(answer.encode())
        connection.unwrap()

    def _ask(self, line: bytes) -> Answer:
        """Hand a request to the authority, and return its answer."""
        if not self._at_authority.acquire(timeout=AUTHORITY_SECONDS):
            return Answer(refusal=Refusal.BUSY)
        try:
            with socket.socket(socket.AF_UNIX) as authority:
                authority.settimeout(AUTHORITY_SECONDS)
                authority.connect(str(self._files.socket))
                authority.sendall(line)
                return Answer.decode(read_line(authority))
        except (OSError, BadMessage) as error:
            _log.warning("the authority does not answer", reason=str(error))
            return Answer(refusal=Refusal.BUSY)
        finally:
            self._at_authority.release()


def read_line(connection: socket.socket) -> bytes:
    """Read a line, or as much of it as a message may have. Empty if the other side has closed the connection."""
    line = b""
    while not line.endswith(b"\n") and len(line) <= MAX_LINE_BYTES:
        part = connection.recv(MAX_LINE_BYTES)
        if not part:
            break
        line += part
    return line
