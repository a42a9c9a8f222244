"""Who answers for a face once it has been seen: the outbox and its courier, or at QoS 0 nobody.

The session's callbacks only tell the courier what happened; the courier's own thread does the work.
"""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import structlog

from edge.detector.delivery.dispatcher import Dispatcher
from edge.detector.delivery.outbox import Outbox, OutboxFace
from edge.detector.settings import DetectorSettings
from wire import face, status, topics
from wire.errors import BadMessage, Refused
from wire.face import Face
from wire.mqtt.connection import ConnectOptions, Message, Will
from wire.mqtt.session import Session
from wire.process.lifecycle import STOP_SECONDS, Stop, spawn

_MAX_UNACKNOWLEDGED_RECEIPTS = 1000
"""Receipts that the broker may have sent and we have not yet acknowledged."""
_POLL_SECONDS = 0.1
_CONNECT_SECONDS = 5.0

_log = structlog.get_logger("detector")


class Delivery(Protocol):
    """Takes faces over from the detector."""

    session: Session

    def start(self) -> None:
        """Connect to the local broker."""

    def store(self, faces: list[Face]) -> None:
        """Take over the faces of one frame."""

    @property
    def pending(self) -> int:
        """How many faces have not reached their goal."""

    def finish(self, stop: Stop, seconds: float = math.inf) -> None:
        """Wait until every face has reached its goal, ``stop`` is set, or ``seconds`` are over."""

    def stats(self) -> dict[str, Any]:
        """Return what status tells of it."""

    def close(self) -> None:
        """End; what has not reached its goal stays on disk, if it is there."""


def make_delivery(settings: DetectorSettings, stop: Stop) -> Delivery:
    """Return the custody that ``MQTT_QOS`` asks for."""
    return FireAndForget(settings, stop) if settings.mqtt_qos == 0 else OutboxDelivery(settings, stop)


class OutboxDelivery:
    """QoS 1 and 2: a face is in the outbox until its receipt has come."""

    def __init__(self, settings: DetectorSettings, stop: Stop) -> None:
        self._stop, self._qos = stop, settings.mqtt_qos
        self._wake = threading.Event()
        self._outbox = Outbox(settings.outbox_path, settings.outbox_max_bytes)
        self._dispatcher = Dispatcher(
            self._outbox, self._publish, window=settings.outbox_window, resend_after=settings.resend_after
        )
        self._forwarders: dict[str, object] = {}
        self._thread: threading.Thread | None = None
        cameras = self._outbox.cameras() | {settings.camera_name}
        self.session = Session(
            settings.local_endpoint(),
            _options(settings),
            stop,
            on_message=self._on_message,
            subscriptions=[
                *((topics.receipts(camera), 1) for camera in sorted(cameras)),
                (topics.ALL_FORWARDER_STATUS, 1),
            ],
            on_connected=self._on_connected,
            on_lost=self._on_lost,
        )
        if self._outbox.count:
            _log.info("faces are waiting in the outbox", faces=self._outbox.count)

    def start(self) -> None:
        """Connect, and send what the outbox holds."""
        self.session.start()
        self._thread = spawn("courier", self._run, self._stop)

    def store(self, faces: list[Face]) -> None:
        """Commit the faces of one frame to the outbox."""
        self._outbox.store(faces)
        self._wake.set()

    @property
    def pending(self) -> int:
        """How many faces are in the outbox."""
        return self._outbox.count

    def finish(self, stop: Stop, seconds: float = math.inf) -> None:
        """Wait until the outbox is empty, ``stop`` is set, or ``seconds`` are over."""
        _wait_until_none(lambda: self.pending, stop, seconds)

    def stats(self) -> dict[str, Any]:
        """Return what status tells of the outbox."""
        oldest = self._outbox.oldest_id()
        return {
            "outbox": self._outbox.count,
            "outbox_bytes": self._outbox.bytes,
            "oldest": None if oldest is None else face.format_time(face.time_of_id(oldest)),
            "underway": self._dispatcher.underway,
            "published": self._dispatcher.published,
            "receipted": self._dispatcher.receipted,
            "resent": self._dispatcher.resent,
            "dropped": self._outbox.dropped,
            "unkept": self._outbox.not_stored,
        }

    def close(self) -> None:
        """End. Faces without a receipt stay in the outbox for the next run."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(STOP_SECONDS)
        self.session.close()
        self._dispatcher.step()  # receipts that came meanwhile
        self._outbox.close()

    def _run(self) -> None:
        while not self._stop:
            self._wake.wait(self._dispatcher.step())
            self._wake.clear()

    def _publish(self, entry: OutboxFace, timeout_seconds: float) -> None:
        """Send a copy that expires when the next one is due: so no broker's queue grows while S3 is away."""
        expiring = replace(entry.properties, message_expiry_seconds=math.ceil(timeout_seconds))
        answer = self.session.publish(topics.faces(entry.camera), entry.jpeg, qos=self._qos, properties=expiring)
        answer.add_done_callback(self._stop.guard(lambda done: _log_refusal(entry.id, done.exception())))

    def _on_message(self, message: Message) -> None:
        kind, _, rest = message.topic.partition("/")
        if kind == "receipts":
            self._dispatcher.receipt((message.properties.correlation_data or b"").decode("ascii", "replace"), rest)
        else:
            self._heed_forwarder(message)
        self.session.acknowledge(message)
        self._wake.set()

    def _heed_forwarder(self, message: Message) -> None:
        """Hold faces back while the forwarder has no way to the cloud; send again once it has a new one."""
        try:
            stats = status.decode(message.payload)
        except BadMessage as error:
            _log.warning("not a status", topic=message.topic, reason=str(error))
            return
        since = stats.get("cloud_up_since") if stats["online"] else None
        is_new = since is not None and since != self._forwarders.get(message.topic)
        self._forwarders[message.topic] = since
        if is_new:
            self._dispatcher.cloud_up()
        elif not any(self._forwarders.values()):
            self._dispatcher.cloud_down()

    def _on_connected(self) -> None:
        self._dispatcher.link_up()
        self._wake.set()

    def _on_lost(self) -> None:
        # A broker that comes back empty may take faces before a forwarder has subscribed, and forget them. So what a
        # forwarder says next counts as new, even if its own link to the cloud has held.
        self._forwarders.clear()
        self._dispatcher.link_down()


class FireAndForget:
    """QoS 0: a face is published once, and lost where the broker is away."""

    def __init__(self, settings: DetectorSettings, stop: Stop) -> None:
        self.session = Session(settings.local_endpoint(), _options(settings), stop, on_message=lambda message: None)
        self._stop = stop
        self._lock = threading.Lock()
        self._underway = self._published = self._dropped = 0

    def start(self) -> None:
        """Connect, and wait a moment for it: what is published before that is lost."""
        self.session.start()
        deadline = time.monotonic() + _CONNECT_SECONDS
        while not (self.session.connected or self._stop) and time.monotonic() < deadline:
            self._stop.wait(_POLL_SECONDS)

    def store(self, faces: list[Face]) -> None:
        """Publish the faces of one frame, once."""
        for seen in faces:
            with self._lock:
                self._underway += 1
            answer = self.session.publish(
                topics.faces(seen.origin.camera), seen.jpeg, qos=0, properties=face.encode(seen)
            )
            answer.add_done_callback(lambda done: self._done(done.exception()))

    @property
    def pending(self) -> int:
        """How many faces have not been written to the broker."""
        return self._underway

    def finish(self, stop: Stop, seconds: float = math.inf) -> None:
        """Wait until all has been written to the broker, ``stop`` is set, or ``seconds`` are over."""
        _wait_until_none(lambda: self.pending, stop, seconds)

    def stats(self) -> dict[str, Any]:
        """Return what status tells of it."""
        return {"published": self._published, "dropped": self._dropped}

    def close(self) -> None:
        """End."""
        self.session.close()

    def _done(self, error: BaseException | None) -> None:
        with self._lock:
            self._underway -= 1
            if error is None:
                self._published += 1
            else:
                self._dropped += 1


def _options(settings: DetectorSettings) -> ConnectOptions:
    return ConnectOptions(
        client_id=f"facewire-detector-{settings.camera_name}",
        will=Will(topics.status("detector", settings.camera_name), status.OFFLINE),
        receive_maximum=_MAX_UNACKNOWLEDGED_RECEIPTS,
    )


def _wait_until_none(pending: Callable[[], int], stop: Stop, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while pending() and not stop and time.monotonic() < deadline:
        stop.wait(_POLL_SECONDS)


def _log_refusal(face_id: str, error: BaseException | None) -> None:
    if isinstance(error, Refused):
        _log.error("refused by the local broker, will be sent again", id=face_id, reason=str(error))
