"""A publisher at one broker and a subscriber at another, each in a process of its own.

Both speak MQTT 5 without a library, and send and receive many packets at once, so that they take little of the
processor from what is measured.
"""

import multiprocessing
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from typing import Any

from benchmarks.measure import faces_of
from demo.ports import HOST
from wire import face

_RECEIVED_BYTES = 1 << 20
_AT_ONCE = 16
"""How many messages the publisher sends at once at most."""
_SECONDS = 120.0
"""Maximum wait for all messages of a round."""
_CAMERA = "bench"
_PUBLISH_QOS_1 = 0x32
_PUBACK_BYTES = b"\x40\x02"


@dataclass(frozen=True, slots=True)
class Account:
    """A port of a broker, and the account with which to connect."""

    port: int
    username: str | None = None
    password: str | None = None


@dataclass(frozen=True, slots=True)
class Traffic:
    """What is sent, and where it is to arrive."""

    source: Account
    target: Account
    topic: str
    watched: str
    """The filter of the subscriber."""
    jpeg: bytes
    window: int
    """Messages that are sent and have not arrived, at most."""


class Ends:
    """A publisher and a subscriber that are connected."""

    def __init__(self, traffic: Traffic) -> None:
        context = multiprocessing.get_context("spawn")
        room = context.Semaphore(traffic.window)
        self._pipes: list[Pipe] = []
        self._processes: list[Any] = []
        for target in (_subscribe, _publish):
            ours, theirs = context.Pipe()
            process = context.Process(target=target, args=(traffic, room, theirs), daemon=True)
            process.start()
            self._pipes.append(ours)
            self._processes.append(process)
            self._answer(ours)

    def carry(self, messages: int) -> float:
        """Publish messages, wait until all have arrived, and return how many arrived per second."""
        subscriber, publisher = self._pipes
        publisher.send(messages)
        self._answer(publisher)  # the packets are made
        subscriber.send(messages)
        publisher.send(None)
        began, ended = self._answer(publisher), self._answer(subscriber)
        return messages / (ended - began)

    def close(self) -> None:
        """End both processes."""
        for process in self._processes:
            process.kill()
            process.join()

    @staticmethod
    def _answer(pipe: Pipe) -> float:
        if not pipe.poll(_SECONDS):
            raise TimeoutError("the messages have not arrived")
        answer: float = pipe.recv()
        return answer


def _publish(traffic: Traffic, room: Any, pipe: Pipe) -> None:
    connection = _connected(traffic.source, "bench-publisher")
    threading.Thread(target=_discard, args=(connection,), daemon=True).start()
    pipe.send(0.0)
    number = 0
    while True:
        packets = []
        for one in faces_of(pipe.recv(), traffic.jpeg, _CAMERA):
            number = number % 65535 + 1
            body = _text(traffic.topic) + number.to_bytes(2) + face.encode(one).pack() + one.jpeg
            packets.append(_packet(_PUBLISH_QOS_1, body))
        pipe.send(0.0)
        pipe.recv()
        began, at = time.monotonic(), 0
        while at < len(packets):
            room.acquire()
            end = at + 1
            while end < min(len(packets), at + _AT_ONCE) and room.acquire(block=False):
                end += 1
            connection.sendall(b"".join(packets[at:end]))
            at = end
        pipe.send(began)


def _subscribe(traffic: Traffic, room: Any, pipe: Pipe) -> None:
    connection = _connected(traffic.target, "bench-subscriber")
    connection.sendall(_packet(0x82, b"\0\1\0" + _text(traffic.watched) + b"\1"))
    packets = _identifiers(connection)
    next(packets)
    pipe.send(0.0)
    while True:
        expected, arrived = pipe.recv(), 0
        while arrived < expected:
            for _ in next(packets):
                room.release()
                arrived += 1
        pipe.send(time.monotonic())


def _identifiers(connection: socket.socket) -> Iterator[Sequence[bytes]]:
    """Acknowledge the messages that arrive, and yield the packet identifiers of those that arrive together."""
    buffer, filled = bytearray(_RECEIVED_BYTES), 0
    view = memoryview(buffer)
    while True:
        received = connection.recv_into(view[filled:])
        if not received:
            raise ConnectionError("the broker has closed the connection")
        filled += received
        at, found = 0, []
        while (end := _end_of_packet(buffer, at, filled)) is not None:
            start, packet_end = end
            if buffer[at] & 0xF6 == _PUBLISH_QOS_1 and packet_end - start > _PROBE_BYTES:
                topic_end = start + 2 + int.from_bytes(buffer[start : start + 2])
                found.append(bytes(buffer[topic_end : topic_end + 2]))
            elif buffer[at] & 0xF6 == _PUBLISH_QOS_1:
                topic_end = start + 2 + int.from_bytes(buffer[start : start + 2])
                connection.sendall(_PUBACK_BYTES + buffer[topic_end : topic_end + 2])
            at = packet_end
        buffer[: filled - at] = buffer[at:filled]
        filled -= at
        if found:
            connection.sendall(b"".join(_PUBACK_BYTES + one for one in found))
        yield found


_PROBE_BYTES = 1000
"""A shorter message is a probe of the forwarder."""


def _end_of_packet(buffer: bytearray, at: int, filled: int) -> tuple[int, int] | None:
    """Return where the body of the packet at ``at`` begins and ends; None if it is not complete."""
    length = 0
    for position in range(4):
        if at + 1 + position >= filled:
            return None
        digit = buffer[at + 1 + position]
        length |= (digit & 0x7F) << (7 * position)
        if digit < 0x80:
            start = at + 2 + position
            return (start, start + length) if start + length <= filled else None
    raise ConnectionError("expected an MQTT packet")


def _connected(account: Account, client_id: str) -> socket.socket:
    connection = socket.create_connection((HOST, account.port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    flags, credentials = 0x02, b""
    if account.username is not None and account.password is not None:
        flags, credentials = 0xC2, _text(account.username) + _text(account.password)
    body = _text("MQTT") + bytes((5, flags)) + b"\0\0" + b"\0" + _text(client_id) + credentials
    connection.sendall(_packet(0x10, body))
    connack = connection.recv(1000)
    if connack[3] != 0:
        raise ConnectionError(f"connection refused: reason code {connack[3]}")
    return connection


def _discard(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


def _packet(first: int, body: bytes) -> bytes:
    """Return a packet with its fixed header."""
    length, rest = bytearray(), len(body)
    while True:
        rest, digit = rest >> 7, rest & 0x7F
        length.append(digit | 0x80 if rest else digit)
        if not rest:
            return bytes((first,)) + bytes(length) + body


def _text(value: str) -> bytes:
    return len(value).to_bytes(2) + value.encode()
