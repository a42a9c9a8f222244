"""Builders for test objects, with defaults that a test overrides as needed."""

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import cv2
import numpy as np

from demo import program
from demo.ports import HOST
from demo.program import await_true
from demo.stack import OPERATOR, OPERATOR_PASSWORD
from wire.face import Face
from wire.ids import new_id
from wire.mqtt.connect_options import ConnectOptions
from wire.mqtt.connection import Message
from wire.mqtt.endpoint import Endpoint
from wire.mqtt.session import Session
from wire.mqtt.tls import TlsFiles
from wire.process.lifecycle import Stop
from wire.topics import Origin

CAPTURED_AT = datetime(2026, 11, 22, 15, 4, 5, 123000, tzinfo=UTC)


def make_jpeg(width: int = 64, height: int = 64, seed: int = 1) -> bytes:
    """A JPEG of random noise. Different seeds give different pictures."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return cv2.imencode(".jpg", noise)[1].tobytes()


def picture_of(jpeg: bytes) -> np.ndarray:
    """The decoded pixels of a JPEG. Fails if the JPEG is invalid."""
    decoded = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    return decoded


def make_face(**changes: Any) -> Face:
    """A face with the values of the example in the contract."""
    captured_at = changes.pop("captured_at", CAPTURED_AT)
    made = Face(
        id=new_id(captured_at),
        origin=Origin("jetson-1", "door"),
        captured_at=captured_at,
        jpeg=b"\xff\xd8\xff\xd9",
        confidence=0.934,
        box=(412, 96, 118, 141),
        landmarks=((440.5, 150.25), (500.0, 150.0), (470.0, 180.0), (445.0, 210.0), (495.0, 210.0)),
        framesize=(1280, 720),
        track=17,
        model="yunet-2023mar",
    )
    return replace(made, **changes)


def make_faces(count: int, **changes: Any) -> list[Face]:
    """Faces captured one millisecond apart."""
    return [make_face(captured_at=CAPTURED_AT + timedelta(milliseconds=i), **changes) for i in range(count)]


class Peer:
    """A generic MQTT client that collects all messages it receives."""

    def __init__(
        self,
        port: int,
        *subscriptions: str,
        client_id: str | None = None,
        tls: TlsFiles | None = None,
        endpoint: Endpoint | None = None,
        **options: Any,
    ) -> None:
        """Prepare a client. Without TLS or another endpoint it uses the account with all rights."""
        self.stop = Stop()
        self.messages: list[Message] = []
        self.on_message: Callable[[Message], None] = lambda message: self.session.acknowledge(message)  # noqa: PLW0108 (session is set later)
        self._arrived = threading.Condition()
        self.session = Session(
            endpoint or Endpoint("a broker", HOST, port, tls, *(() if tls else (OPERATOR, OPERATOR_PASSWORD))),
            ConnectOptions(client_id=client_id or f"peer-{id(self)}", **options),
            self.stop,
            on_message=self._take,
            subscriptions=[(topic, 2) for topic in subscriptions],
        )

    def __enter__(self) -> "Peer":
        self.session.start()
        await_true(lambda: self.session.connected, 10, "the peer is connected")
        return self

    def __exit__(self, *failure: object) -> None:
        self.session.close(30)  # so that the broker has everything that was sent, however busy the machine is
        assert self.stop.failure is None

    def await_messages(self, count: int, seconds: float = 10) -> list[Message]:
        """Wait for the first ``count`` messages."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.messages) >= count, seconds * program.PATIENCE), (
                f"{len(self.messages)} of {count} messages within {seconds} s"
            )
            return self.messages[:count]

    def _take(self, message: Message) -> None:
        with self._arrived:
            self.messages.append(message)
            self._arrived.notify_all()
        self.on_message(message)
