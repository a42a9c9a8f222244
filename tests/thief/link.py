"""The thief's connections to the broker, made of raw packets."""

import itertools
import select
import socket
import ssl
import time
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

from demo.ports import HOST
from tests import packets
from wire.mqtt.tls import TlsFiles

_CHUNK_BYTES = 1 << 16
_NEVER = bytes([0x11]) + b"\xff\xff\xff\xff"
"""The property of a session that never expires."""


class TimeIsUp(Exception):
    """The attack has lasted as long as it should."""


@dataclass
class Thief:
    """A device with a valid certificate, and what it has done so far."""

    name: str
    port: int
    tls: TlsFiles
    address: str
    """The address that it connects from."""
    deadline: float
    """When the attack ends, on the monotonic clock."""
    done: Counter[str] = field(default_factory=Counter)
    """Numbers of bytes, connections and refusals."""
    held: deque["Link"] = field(default_factory=deque)
    """Connections that are kept open."""
    numbers: "itertools.count[int]" = field(default_factory=itertools.count)
    """Numbers that make each topic, filter or face of the attack unique."""

    @cached_property
    def context(self) -> ssl.SSLContext:
        """Its certificate, loaded."""
        return self.tls.context()

    def topic(self, rest: str = "faces/door") -> str:
        """Return a topic of its own."""
        return f"devices/{self.name}/{rest}"

    def check_time(self) -> None:
        """Raise :class:`TimeIsUp` at the end of the attack."""
        if time.monotonic() > self.deadline:
            raise TimeIsUp

    def pause(self, seconds: float) -> None:
        """Wait, at most until the end of the attack."""
        time.sleep(max(0.0, min(seconds, self.deadline - time.monotonic())))
        self.check_time()

    def open(self, *, tls: bool = True) -> "Link":
        """Open a connection, with or without the TLS handshake."""
        self.check_time()
        self.done["connections"] += 1
        return Link(self, tls=tls)

    def connect(self, *, forwarder: bool = False, reads: bool = True, stays: bool = False) -> "Link":
        """Open a connection and send a CONNECT that the broker should accept.

        Args:
            forwarder: use its other client id.
            reads: read what the broker sends from then on.
            stays: ask for a session that never expires.

        Raises:
            ConnectionRefusedError: the broker refuses it.
        """
        link = self.open()
        client_id = f"facewire-forwarder-{self.name}" if forwarder else self.name
        link.send(packets.connect(client_id, clean=not stays, properties=_NEVER if stays else b""))
        if link.await_connack() != 0:
            self.done["refused connections"] += 1
            link.close()
            raise ConnectionRefusedError
        link.reads = reads
        return link

    def hold(self, link: "Link", at_most: int) -> None:
        """Keep a connection open. Close the oldest one if there are too many."""
        self.held.append(link)
        if len(self.held) > at_most:
            self.held.popleft().close()


class Link:
    """A connection that reads while it writes. A broker that cannot write to its client stops reading from it."""

    def __init__(self, thief: Thief, *, tls: bool) -> None:
        self.reads = True
        self._thief = thief
        plain = socket.create_connection((HOST, thief.port), timeout=5, source_address=(thief.address, 0))
        try:
            self._socket = thief.context.wrap_socket(plain, server_hostname=HOST) if tls else plain
        except BaseException:
            plain.close()
            raise
        self._socket.setblocking(False)
        self._received = bytearray()

    def close(self) -> None:
        """Close it without a DISCONNECT."""
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Send bytes, as long as the attack lasts.

        Raises:
            OSError: the broker has closed the connection.
        """
        view = memoryview(data)
        while view:
            self._thief.check_time()
            try:
                sent = self._socket.send(view[:_CHUNK_BYTES])
                view = view[sent:]
                self._thief.done["bytes"] += sent
            except (ssl.SSLWantWriteError, ssl.SSLWantReadError, BlockingIOError):
                self._await(writable=True)
            if self.reads:
                self.read()

    def send_all(self, parts: Iterable[bytes]) -> None:
        """Send a stream of bytes, as long as the attack lasts."""
        for part in parts:
            self.send(part)

    def read(self) -> bytes:
        """Return what has arrived.

        Raises:
            OSError: the broker has closed the connection.
        """
        data = bytearray()
        try:
            while len(data) < _CHUNK_BYTES:
                part = self._socket.recv(_CHUNK_BYTES)
                if not part:
                    raise ConnectionResetError
                data += part
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError):
            pass
        return bytes(data)

    def await_connack(self) -> int:
        """Wait for the CONNACK, and return its reason code."""
        while len(self._received) < 4:
            self._thief.check_time()
            data = self.read()
            self._received += data
            if not data:
                self._await(writable=False)
        return self._received[3]

    def _await(self, *, writable: bool) -> None:
        reading = [self._socket] if self.reads else []
        select.select(reading, [self._socket] if writable else [], [], 0.1)
