"""Devices that publish faces to the cloud's broker and keep each one until its receipt arrives, as an outbox does."""

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime

from demo.ports import HOST
from tests.builders import make_face, make_jpeg
from wire import face, keys
from wire.face import Face
from wire.mqtt.connect_options import ConnectOptions
from wire.mqtt.connection import Message
from wire.mqtt.endpoint import Endpoint
from wire.mqtt.session import Session
from wire.process.lifecycle import Stop, spawn
from wire.topics import Origin

WINDOW = 64
"""Maximum number of faces without a receipt, as in the dispatcher."""
_RESEND_SECONDS = 5.0
_STEP_SECONDS = 0.02
_PICTURES = 16


@dataclass(slots=True)
class Waiting:
    """A face that has no receipt yet."""

    face: Face
    sent_at: float
    """When it was sent last, on the monotonic clock."""
    times: int = 1


@dataclass
class Device:
    """One device. It makes faces at a constant rate, and as many as it could not make while its window was full."""

    name: str
    rate: float
    """Faces per second."""
    waiting: dict[str, Waiting] = field(default_factory=dict)
    committed: dict[str, Face] = field(default_factory=dict)
    receipts: Counter[str] = field(default_factory=Counter)
    receipt_times: list[float] = field(default_factory=list)
    """When the first receipt of each face arrived, on the monotonic clock."""
    next_face: Face | None = None
    """The face to send next, if it was made already."""
    owed: float = 0.0

    def make(self, pictures: list[bytes]) -> Face:
        """Return a new face."""
        made, self.next_face = self.next_face, None
        if made is None:
            jpeg = pictures[len(self.committed) % len(pictures)]
            now = datetime.now(UTC)
            captured_at = now.replace(microsecond=now.microsecond // 1000 * 1000)
            made = make_face(
                jpeg=jpeg,
                origin=Origin(self.name, "door"),
                captured_at=captured_at,
                sha256=face.digest_of(jpeg),
            )
        return made


class Publisher:
    """Publishes the faces of several devices, and collects their receipts."""

    def __init__(self, port: int, devices: list[Device]) -> None:
        self.stop = Stop()
        self.is_making = True
        """Whether new faces are made."""
        self.devices = {device.name: device for device in devices}
        self._pictures = [make_jpeg(96, 96, seed) for seed in range(_PICTURES)]
        self._lock = threading.Lock()
        self._session = Session(
            Endpoint("a broker", HOST, port),
            ConnectOptions("publisher"),
            self.stop,
            on_message=self._on_receipt,
            subscriptions=[("devices/+/receipts/+", 1)],
        )

    def __enter__(self) -> "Publisher":
        self._session.start()
        spawn("publisher", self._run, self.stop)
        return self

    def __exit__(self, *failure: object) -> None:
        self.stop.set()
        self._session.close(5)
        assert self.stop.failure is None

    @property
    def waiting(self) -> int:
        """Number of faces without a receipt."""
        return sum(len(device.waiting) for device in self.devices.values())

    @property
    def is_calm(self) -> bool:
        """Whether no device has a backlog."""
        return all(device.owed < 2 and len(device.waiting) < max(3.0, device.rate) for device in self.devices.values())

    def choose_key(self, name: str) -> str:
        """Return the key of the next face of a device, which is sent after this call."""
        device = self.devices[name]
        with self._lock:
            device.next_face = device.make(self._pictures)
            return keys.of_face("faces", device.next_face.origin, device.next_face.captured_at, device.next_face.id)

    def _run(self) -> None:
        last = time.monotonic()
        while not self.stop.wait(_STEP_SECONDS):
            now = time.monotonic()
            for device in self.devices.values():
                with self._lock:
                    device.owed += (now - last) * device.rate if self.is_making else 0.0
                    overdue = [
                        each for each in device.waiting.values() if now - each.sent_at > _RESEND_SECONDS * each.times
                    ]
                    for each in overdue:
                        each.sent_at, each.times = now, each.times + 1
                    made = []
                    while self.is_making and device.owed >= 1 and len(device.waiting) < WINDOW:
                        device.owed -= 1
                        made.append(new := device.make(self._pictures))
                        device.committed[new.id] = new
                        device.waiting[new.id] = Waiting(new, now)
                for sent in [*(each.face for each in overdue), *made]:
                    topic = f"devices/{device.name}/faces/door"
                    self._session.publish(topic, sent.jpeg, qos=1, properties=face.encode(sent))
            last = now

    def _on_receipt(self, message: Message) -> None:
        device = self.devices[message.topic.split("/")[1]]
        face_id = (message.properties.correlation_data or b"").decode()
        with self._lock:
            device.receipts[face_id] += 1
            if device.waiting.pop(face_id, None) is not None:
                device.receipt_times.append(time.monotonic())
        self._session.acknowledge(message)
