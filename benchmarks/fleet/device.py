"""A light device: a real MQTT session with a certificate of its own, that sends faces until their receipts arrive.

It is detector and forwarder without a camera, a model and a disk. When it sends a face, and when it sends it again, is
decided by the detector's own module. Many devices share one thread: no call waits.
"""

import errno
import math
import socket
import ssl
import time
from collections import Counter, deque
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from random import random

from demo.ports import HOST
from edge.detector.delivery.dispatcher import TARGET_SECONDS
from edge.detector.delivery.underway import Reason, Underway
from tests import packets
from wire import face, receipt, topics
from wire.face import Face
from wire.ids import new_id, time_of_id
from wire.mqtt.properties import unpack
from wire.mqtt.session import INITIAL_RECONNECT_SECONDS, MAX_RECONNECT_SECONDS, MIN_STABLE_SECONDS
from wire.process.backoff import delay_seconds
from wire.process.congestion import CongestionWindow

CAMERA = "door"
MAX_UNDERWAY = 64
"""Faces without a receipt; the default of the detector's ``OUTBOX_WINDOW``."""
RESEND_SECONDS = 30.0
"""The default of the detector's ``RESEND_AFTER``."""
CONNECT_SECONDS = 15.0
RAMP_SECONDS = 10.0
"""The devices that send as much as receipts allow begin one after the other, within this time."""
_KEEPALIVE_SECONDS = 60
_PING_SECONDS = 20.0
_STEP_SECONDS = 0.5
"""Interval between looks for faces whose receipts are overdue."""
_CHUNK_BYTES = 65536
_PINGREQ = b"\xc0\0"
_RETRY = (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError)


@dataclass(slots=True)
class Counts:
    """What a device has seen."""

    receipts: int = 0
    refused: Counter[int] = field(default_factory=Counter)
    """Messages that the broker has not accepted, by reason code."""
    connections: int = 0
    sent: int = 0


class Device:
    """One device."""

    def __init__(self, name: str, address: str, port: int, context: ssl.SSLContext, one: Face) -> None:
        """Set up a device, which is not connected.

        Args:
            name: as in its certificate.
            address: the address of this machine from which it connects.
            port: that of the broker.
            context: its certificate.
            one: a face, of which it sends copies with other ids and times.
        """
        self.name, self.counts = name, Counts()
        self.faces: list[str] = []
        """The ids of all faces that it has captured."""
        self.open: dict[int, tuple[str, float]] = {}
        """By number, the id of each face without a receipt, and when it was captured."""
        self.connected = False
        self.pace = 0.0
        """Faces per second; infinity: always one more."""
        self.next_step_at = 0.0
        self._address, self._port, self._context = address, port, context
        self._one = replace(one, origin=topics.Origin(name, CAMERA))
        window = CongestionWindow(target_seconds=TARGET_SECONDS, max_messages=MAX_UNDERWAY)
        self._underway = Underway(window, resend_after=RESEND_SECONDS, clock=time.monotonic, chance=random)
        self._waiting: deque[int] = deque()
        """Faces that were captured and not sent yet."""
        self._numbers: dict[str, int] = {}
        self._captured, self._paced_at, self._due = 0, time.monotonic(), 0.0
        self._attempt, self._opened_at = 0, 0.0
        self.socket: ssl.SSLSocket | None = None
        self._handshaken = False
        self._out: deque[memoryview] = deque()
        self._in = bytearray()
        self._packet_id, self._packet_faces = 0, dict[int, int]()
        self._read_at = self._written_at = 0.0

    @property
    def pending(self) -> int:
        """Number of faces without a receipt."""
        return len(self.open)

    @property
    def wants_to_write(self) -> bool:
        """Whether it waits until its socket can be written to."""
        return bool(self._out) or not self._handshaken

    def step(self, now: float) -> None:
        """Do what is due: connect, send a ping, send faces that are new or overdue."""
        self.next_step_at = now + _STEP_SECONDS
        if self.socket is None:
            self._open(now)
            return
        if not self.connected:
            if now - self._opened_at > CONNECT_SECONDS:
                self.lose(now)
            return
        if now - self._read_at > _KEEPALIVE_SECONDS:
            self.lose(now)
            return
        if now - self._written_at > _PING_SECONDS:
            self._send(_PINGREQ)
        self._underway.expire()
        self._capture(now)
        self._send_faces()

    def begin(self, pace: float) -> None:
        """Capture faces at another pace. The devices of a fleet do not all begin at the same moment."""
        self.pace = pace
        self._paced_at = time.monotonic()
        if pace == math.inf:
            self._paced_at += RAMP_SECONDS * random()  # noqa: S311 (no secret)
        self._due = random()  # noqa: S311 (no secret)

    def handle(self, now: float) -> None:
        """Read and write what is possible.

        Raises:
            OSError: the connection is lost.
        """
        assert self.socket is not None
        if not self._handshaken:
            try:
                self.socket.do_handshake()
            except _RETRY:
                return
            self._handshaken = True
            self._send(packets.connect(f"facewire-forwarder-{self.name}", keepalive=_KEEPALIVE_SECONDS))
            self._send(packets.subscribe([topics.to_cloud(self.name, "receipts/#")]))
        self._read(now)
        if self.connected:
            self._capture(now)
            self._send_faces()
        self._write(now)

    def lose(self, now: float) -> None:
        """Close the connection. It is opened again after a while."""
        if self.socket is not None:
            self.socket.close()
        self._attempt = 0 if self.connected and now - self._opened_at > MIN_STABLE_SECONDS else self._attempt + 1
        self.socket, self.connected, self._handshaken = None, False, False
        self._out.clear()
        self._in.clear()
        self._packet_faces.clear()
        self.next_step_at = now + delay_seconds(self._attempt, INITIAL_RECONNECT_SECONDS, MAX_RECONNECT_SECONDS)

    def _open(self, now: float) -> None:
        self._opened_at = now
        plain = socket.socket()
        plain.setblocking(False)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            plain.bind((self._address, 0))
            if plain.connect_ex((HOST, self._port)) not in (0, errno.EINPROGRESS):
                raise ConnectionRefusedError
            self.socket = self._context.wrap_socket(plain, server_hostname=HOST, do_handshake_on_connect=False)
        except OSError:
            plain.close()
            self.lose(now)

    def _capture(self, now: float) -> None:
        """Capture the faces that are due."""
        if self.pace == math.inf:
            if not self._waiting and now >= self._paced_at:
                self._add()
            return
        self._due += (now - self._paced_at) * self.pace
        self._paced_at = now
        while self._due >= 1:
            self._due -= 1
            self._add()

    def _add(self) -> None:
        self._captured += 1
        moment = datetime.now(UTC)
        face_id = new_id(moment.replace(microsecond=moment.microsecond // 1000 * 1000))
        self.faces.append(face_id)
        self.open[self._captured] = face_id, time.monotonic()
        self._numbers[face_id] = self._captured
        self._waiting.append(self._captured)

    def _send_faces(self) -> None:
        for reason in Reason:
            for number in self._underway.due(reason):
                if not self._underway.window.has_room(len(self._one.jpeg)):
                    return
                self._send_face(number)
        while self._waiting and self._underway.window.has_room(len(self._one.jpeg)):
            self._send_face(self._waiting.popleft())
            if self.pace == math.inf and not self._waiting:
                self._add()

    def _send_face(self, number: int) -> None:
        face_id = self.open[number][0]
        one = replace(self._one, id=face_id, captured_at=time_of_id(face_id))
        self._underway.add(number, face_id, len(one.jpeg))
        self._packet_id = self._packet_id % 65535 + 1
        topic = topics.to_cloud(self.name, topics.faces(CAMERA))
        packed = face.encode(one).pack()
        head = packets.text(topic.encode()) + self._packet_id.to_bytes(2) + packed
        self._send(bytes([packets.PUBLISH | 2]) + packets.number(len(head) + len(one.jpeg)) + head)
        self._send(one.jpeg)
        self.counts.sent += 1

    def _read(self, now: float) -> None:
        assert self.socket is not None
        try:
            while True:
                data = self.socket.recv(_CHUNK_BYTES)
                if not data:
                    raise ConnectionResetError
                self._in += data
                self._read_at = now
        except _RETRY:
            pass
        at = 0
        while (end := _end_of_packet(self._in, at)) is not None:
            start, stop = end
            self._take(self._in[at], bytes(self._in[start:stop]))
            at = stop
        del self._in[:at]

    def _take(self, first: int, body: bytes) -> None:
        kind = first & 0xF0
        if kind == packets.CONNACK:
            if body[1]:
                raise ConnectionRefusedError
            self.connected = True
            self.counts.connections += 1
            self._underway.hurry()
        elif kind == packets.PUBACK:
            if len(body) > 2 and body[2]:
                self.counts.refused[body[2]] += 1
        elif kind == packets.PUBLISH:
            self._receive(first, body)

    def _receive(self, first: int, body: bytes) -> None:
        at = 2 + int.from_bytes(body[:2])
        if first & 0x06:
            self._send(packets.packet(packets.PUBACK, body[at : at + 2]))
            at += 2
        properties, _ = unpack(body, at)
        face_id, is_congested = receipt.decode(properties)
        number = self._numbers.pop(face_id, None)
        self._underway.receipt({face_id: is_congested})
        if number is not None:
            del self.open[number]
            self.counts.receipts += 1

    def _send(self, data: bytes) -> None:
        self._out.append(memoryview(data))

    def _write(self, now: float) -> None:
        assert self.socket is not None
        while self._out:
            try:
                sent = self.socket.send(self._out[0][:_CHUNK_BYTES])
            except _RETRY:
                return
            self._written_at = now
            self._out[0] = self._out[0][sent:]
            if not self._out[0]:
                self._out.popleft()


def _end_of_packet(data: bytearray, at: int) -> tuple[int, int] | None:
    """Return where the body of the packet at ``at`` begins and ends; None if it has not arrived completely."""
    length = shift = 0
    for position in range(at + 1, min(at + 5, len(data))):
        length |= (data[position] & 0x7F) << shift
        shift += 7
        if data[position] < 0x80:
            end = position + 1 + length
            return (position + 1, end) if end <= len(data) else None
    return None
