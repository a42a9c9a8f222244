"""Listens while a code is valid, and talks with each device in a thread of its own."""

import contextlib
import socket
import ssl
import threading
import time
from collections import Counter

import structlog

from cloud.pki.enrolment.connections import Connection, Connections
from cloud.pki.enrolment.conversation import Conversations
from cloud.pki.enrolment.limits import Limit, site_of
from cloud.pki.enrolment.settings import EnrolmentSettings
from cloud.pki.enrolment_files import EnrolmentFiles
from wire.enrolment.messages import Refusal
from wire.errors import ConfigurationError
from wire.process.lifecycle import Stop, spawn

MAX_REFUSALS_OF_ADDRESS = 10
"""Refused requests of one address in a minute. Its connections are closed at once for the rest of that minute."""
MAX_CONNECTIONS_PER_MINUTE = 240
"""The same for all connections of one address. A device needs two."""
MAX_PER_SECOND = 50
"""Connections that are looked at in a second. Others wait."""
CONNECTION_SECONDS = 15.0
"""A connection is closed after this time, whatever it has sent until then."""
POLL_SECONDS = 0.25
ISSUED, UNFINISHED = "issued", "unfinished"
"""What became of a connection, if it was not refused."""
_BACKLOG = 128

_log = structlog.get_logger("enrolment")


class Service:
    """The enrolment service."""

    def __init__(self, settings: EnrolmentSettings, stop: Stop) -> None:
        self.results: Counter[str] = Counter()
        """Connections by what became of them: ``issued``, a refusal, or ``unfinished``."""
        self.problem: str | None = None
        """Why devices cannot enroll, in one line; None if they can."""
        self.is_listening = False
        self._settings, self._stop = settings, stop
        self._files = EnrolmentFiles(settings.pki_folder)
        self._conversations = Conversations(self._files)
        self._connections = Connections()
        self._refusals, self._connects = Limit(MAX_REFUSALS_OF_ADDRESS), Limit(MAX_CONNECTIONS_PER_MINUTE)
        self._lock = threading.Lock()

    def run(self) -> None:
        """Serve until asked to stop.

        Raises:
            ConfigurationError: it cannot listen at ``ENROLMENT_HOST`` and ``ENROLMENT_PORT``.
        """
        with self._listen():
            pass  # a wrong setting ends the process now, not only when the first code is made
        while not self._stop.wait(POLL_SECONDS):
            try:
                self._conversations.context()
                self.problem = None
            except OSError as error:
                self.problem = f"the authority has not written a certificate for it ({error.strerror or error})"
            if self.problem is None and self._is_wanted():
                self._serve()

    def _serve(self) -> None:
        """Listen until no code is valid any more."""
        with self._listen() as listener:
            _log.info("listening for devices that enroll", port=self._settings.enrolment_port)
            self.is_listening = True
            while not self._stop and self._is_wanted():
                self._connections.close_older_than(CONNECTION_SECONDS)
                try:
                    connection, address = listener.accept()
                except TimeoutError:
                    continue
                except OSError as error:  # the connection has ended already, or there are too many open files
                    _log.warning("cannot accept a connection", reason=str(error))
                    self._stop.wait(POLL_SECONDS)
                    continue
                self._take(connection, site_of(address[0]))
            self.is_listening = False
        self._connections.close_older_than(0)
        _log.info("not listening any more")

    def _take(self, plain: socket.socket, site: str) -> None:
        """Begin a conversation, unless the address must wait."""
        moment = time.monotonic()
        with self._lock:
            must_wait = self._refusals.is_reached(site, moment) or self._connects.is_reached(site, moment)
            if must_wait:
                self.results[Refusal.LIMITED] += 1
            else:
                self._connects.add(site, moment)
        if must_wait:
            plain.close()
            return
        try:
            plain.settimeout(CONNECTION_SECONDS)
            tls = self._conversations.context().wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
        except OSError as error:
            _log.warning("cannot take a connection", reason=str(error))
            plain.close()
            return
        connection = self._connections.add(tls, site)
        spawn("conversation", lambda: self._talk(connection), self._stop)
        self._stop.wait(1 / MAX_PER_SECOND)

    def _talk(self, connection: Connection) -> None:
        results: list[str] = []

        def keep(refusal: Refusal | None) -> None:
            results.append(refusal or ISSUED)
            _log.info("answered", address=connection.site, result=results[0])
            if refusal not in (None, Refusal.BUSY):
                with self._lock:
                    self._refusals.add(connection.site, time.monotonic())

        try:
            with contextlib.suppress(OSError, ssl.SSLError, ValueError):  # whoever it was has gone, or was closed
                self._conversations.talk(connection.tls, keep)
        finally:
            self._connections.end(connection)
            with self._lock:
                self.results[results[0] if results else UNFINISHED] += 1

    def _is_wanted(self) -> bool:
        return time.time() < self._files.open_until()

    def _listen(self) -> socket.socket:
        host, port = self._settings.enrolment_host, self._settings.enrolment_port
        try:
            family, kind, _, _, address = socket.getaddrinfo(
                host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            with contextlib.ExitStack() as stack:
                listener = stack.enter_context(socket.socket(family, kind))
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind(address)
                listener.listen(_BACKLOG)
                listener.settimeout(POLL_SECONDS)
                stack.pop_all()
        except OSError as error:
            raise ConfigurationError(
                f"ENROLMENT_HOST is '{host}' and ENROLMENT_PORT is {port}: expected an address and a port at which "
                f"the service can listen ({error.strerror})"
            ) from None
        return listener
