"""A TCP link with a rate and a delay, in a process of its own.

It stands between a client and a broker. It is made to be no limit itself: it copies large pieces, and what it holds is
bounded only by what a link of this rate and delay would hold.
"""

import contextlib
import multiprocessing
import socket
import threading
import time
from collections import deque
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from demo.ports import HOST, free_port

_PIECE_BYTES = 262_144
_PIECE_SECONDS = 0.002
_BUFFER_SECONDS = 0.2
"""What waits for its turn on a link with a rate, as in the buffer of a modem."""
_BURST_SECONDS = 0.05
_UNLIMITED_BYTES = 64 << 20
"""What a link without a rate holds at most."""


@dataclass(frozen=True, slots=True)
class LinkKind:
    """What distinguishes one link from another."""

    round_trip_seconds: float = 0.0
    bytes_per_second: float | None = None
    """Rate in each direction; None: unlimited."""

    @property
    def buffer_bytes(self) -> int:
        """Return how many bytes wait for their turn at most."""
        rate = self.bytes_per_second
        return _UNLIMITED_BYTES if rate is None else max(16_384, int(rate * _BUFFER_SECONDS))

    @property
    def piece_bytes(self) -> int:
        """Return how many bytes are carried at once."""
        rate = self.bytes_per_second
        return _PIECE_BYTES if rate is None else max(1024, min(_PIECE_BYTES, int(rate * _PIECE_SECONDS)))


class Link:
    """A link to a port of this machine. Clients connect to :attr:`port`."""

    def __init__(self, kind: LinkKind, target_port: int) -> None:
        self.port = free_port()
        context = multiprocessing.get_context("spawn")
        self._ready = context.Event()
        self._process = context.Process(target=_serve, args=(kind, self.port, target_port, self._ready), daemon=True)

    def __enter__(self) -> Self:
        self._process.start()
        if not self._ready.wait(30):
            raise TimeoutError("the link does not listen")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.join()


def _serve(kind: LinkKind, port: int, target_port: int, ready: "multiprocessing.synchronize.Event") -> None:
    with socket.create_server((HOST, port)) as listener:
        _limit_buffer(listener, kind)
        ready.set()
        while True:
            client, _ = listener.accept()
            server = socket.socket()
            _limit_buffer(server, kind)
            try:
                server.connect((HOST, target_port))
            except OSError:
                client.close()
                continue
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _Direction(kind, client, server).start()
            _Direction(kind, server, client).start()


def _limit_buffer(receiver: socket.socket, kind: LinkKind) -> None:
    """Keep the operating system from taking more from the sender than the link's own buffer holds."""
    if kind.bytes_per_second is not None:
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, max(8192, kind.buffer_bytes // 2))


class _Direction:
    """One direction of one connection."""

    def __init__(self, kind: LinkKind, source: socket.socket, target: socket.socket) -> None:
        self._kind, self._source, self._target = kind, source, target
        self._delay = kind.round_trip_seconds / 2
        self._pieces: deque[tuple[float, bytes]] = deque()
        """What is on its way, each with the moment at which it arrives. An empty piece is the end."""
        self._changed = threading.Condition()
        self._held = 0
        """Bytes on their way."""
        self._free_at = 0.0

    def start(self) -> None:
        """Carry data until one side ends."""
        for target in (self._take, self._give):
            threading.Thread(target=target, daemon=True).start()

    def _take(self) -> None:
        limit = self._kind.buffer_bytes
        rate = self._kind.bytes_per_second
        if rate is not None:
            limit += int(rate * self._delay)  # what is on the wire
        piece = b"-"
        while piece:
            try:
                piece = self._source.recv(self._kind.piece_bytes)
            except OSError:
                piece = b""
            with self._changed:
                self._changed.wait_for(lambda: self._held <= limit)
                self._pieces.append((self._passed_at(len(piece)) + self._delay, piece))
                self._held += len(piece)
                self._changed.notify_all()

    def _passed_at(self, size: int) -> float:
        """Return when the last byte of a piece has left the sender's end of the link."""
        now = time.monotonic()
        if self._kind.bytes_per_second is None:
            return now
        # A late thread may catch up, so that a busy machine does not make the link slower than its rate.
        self._free_at = max(now - _BURST_SECONDS, self._free_at) + size / self._kind.bytes_per_second
        return max(now, self._free_at)

    def _give(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._pieces)
                    arrives_at, piece = self._pieces[0]
                time.sleep(max(0.0, arrives_at - time.monotonic()))
                if piece:
                    self._target.sendall(piece)
                with self._changed:
                    self._pieces.popleft()
                    self._held -= len(piece)
                    self._changed.notify_all()
                if not piece:
                    break
        for one in (self._source, self._target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
