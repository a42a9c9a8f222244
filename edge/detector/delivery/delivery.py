"""Delivers faces to the local broker: through the outbox until a receipt arrives, or at QoS 0 without either.

The session's callbacks only report events to the dispatcher. The dispatcher's thread does the work.
"""

import contextlib
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
from edge.detector.stages import ObserveAge, Stage, ignore_age
from wire import receipt, status, topics
from wire.errors import BadMessage, Refused
from wire.face import Face, encode
from wire.ids import time_of_id
from wire.mqtt.connect_options import ConnectOptions, Will
from wire.mqtt.connection import Message
from wire.mqtt.session import Session
from wire.process import clock
from wire.process.lifecycle import STOP_SECONDS, Stop, spawn
from wire.timestamps import format_time

_MAX_UNACKNOWLEDGED_RECEIPTS = 1000
"""Maximum number of receipts that the broker sends before the first of them is acknowledged."""
_POLL_SECONDS = 0.1
_CONNECT_SECONDS = 5.0
"""At QoS 0: maximum time to wait for the connection at the start."""

_log = structlog.get_logger("detector")


class Delivery(Protocol):
    """Delivers the faces of a detector."""

    session: Session

    def start(self) -> None:
        """Connect to the local broker."""

    def store(self, faces: list[Face]) -> None:
        """Take over the faces of one frame."""

    @property
    def pending(self) -> int:
        """Number of faces that are not delivered yet."""

    def finish(self, stop: Stop, seconds: float = math.inf) -> None:
        """Wait until every face is delivered or ``stop`` is set, at most ``seconds``."""
        _wait_until(lambda: not self.pending, stop, seconds)

    def stats(self) -> dict[str, Any]:
        """Return its fields of the detector's status."""

    def close(self) -> None:
        """Disconnect. Faces in the outbox stay there for the next run."""
        self.session.close()


def make_delivery(settings: DetectorSettings, stop: Stop, observe_age: ObserveAge = ignore_age) -> Delivery:
    """Return the delivery for the ``MQTT_QOS`` of the settings."""
    return FireAndForget(settings, stop) if settings.mqtt_qos == 0 else OutboxDelivery(settings, stop, observe_age)


class OutboxDelivery(Delivery):
    """Delivery at QoS 1 and 2: a face stays in the outbox until its receipt arrives."""

    def __init__(self, settings: DetectorSettings, stop: Stop, observe_age: ObserveAge) -> None:
        self._stop, self._qos = stop, settings.mqtt_qos
        self._wake = threading.Event()
        self._outbox = Outbox(settings.outbox_path, settings.outbox_max_bytes, settings.device_id)
        self._dispatcher = Dispatcher(
            self._outbox,
            self._publish,
            window=settings.outbox_window,
            resend_after=settings.resend_after,
            camera=settings.camera_name,
        )
        self._camera, self._observe_age = settings.camera_name, observe_age
        self._cloud_up_since: dict[str, object] = {}
        """By the status topic of each forwarder: when it connected to the cloud; None while it is disconnected."""
        self._thread: threading.Thread | None = None
        self.session = Session(
            settings.local_endpoint(),
            _options(settings),
            stop,
            on_message=self._on_message,
            # Receipts of all cameras: the outbox may have faces of other ones, some of which it has not read yet.
            subscriptions=[(topics.ALL_RECEIPTS, 1), (topics.ALL_FORWARDER_STATUS, 1)],
            on_connected=self._on_connected,
            on_lost=self._on_lost,
        )
        if self._outbox.count:
            _log.info("outbox has faces of an earlier run", faces=self._outbox.count)

    def start(self) -> None:
        """Connect, and begin to send the faces in the outbox."""
        self.session.start()
        self._thread = spawn("dispatcher", self._run, self._stop)

    def store(self, faces: list[Face]) -> None:
        """Commit the faces of one frame to the outbox."""
        self._outbox.store(faces)
        self._wake.set()

    @property
    def pending(self) -> int:
        """Number of faces in the outbox."""
        return self._outbox.count

    def stats(self) -> dict[str, Any]:
        """Return its fields of the detector's status."""
        oldest = self._outbox.oldest_id()
        return {
            "outbox": self._outbox.count,
            "outbox_bytes": self._outbox.bytes,
            "oldest": None if oldest is None else format_time(time_of_id(oldest)),
            "underway": self._dispatcher.underway,
            "published": self._dispatcher.published,
            "receipted": self._dispatcher.receipted,
            "resent": self._dispatcher.resent,
            "dropped": self._outbox.dropped,
            "unkept": self._outbox.not_stored,
            "damaged": self._outbox.damaged,
            "untimed": self._outbox.untimed,
            "outbox_problem": self._outbox.problem,
            "commit_seconds": round(self._outbox.commits.last_seconds, 3),
        }

    def close(self) -> None:
        """Disconnect. Faces without a receipt stay in the outbox for the next run."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(STOP_SECONDS)
        self.session.close()
        self._dispatcher.step()  # process the last receipts
        self._outbox.close()

    def _run(self) -> None:
        while not self._stop:
            self._wake.wait(self._dispatcher.step())
            self._wake.clear()

    def _publish(self, face: OutboxFace, timeout_seconds: float) -> None:
        """Publish a copy that expires when the next one is sent, so copies do not pile up in brokers in an outage."""
        expiring = replace(face.properties, message_expiry_seconds=math.ceil(timeout_seconds))
        future = self.session.publish(topics.faces(face.camera), face.jpeg, qos=self._qos, properties=expiring)
        future.add_done_callback(self._stop.guard(lambda done: _log_refusal(face.id, done.exception())))
        self._observe(Stage.PUBLISHED, face.id)

    def _on_message(self, message: Message) -> None:
        kind, _, rest = message.topic.partition("/")
        if kind == "receipts":
            decoded = receipt.decode(message.properties)
            self._dispatcher.on_receipt(decoded, camera=rest)
            if rest == self._camera:
                self._observe(Stage.RECEIPTED, decoded.face_id)
        else:
            self._on_forwarder_status(message)
        self.session.acknowledge(message)
        self._wake.set()

    def _observe(self, stage: Stage, face_id: str) -> None:
        with contextlib.suppress(BadMessage):  # a receipt may name anything
            self._observe_age(stage, (clock.now() - time_of_id(face_id)).total_seconds())

    def _on_forwarder_status(self, message: Message) -> None:
        """Pause while no forwarder is connected to the cloud; send again when one has reconnected."""
        try:
            stats = status.decode(message.payload)
        except BadMessage as error:
            _log.warning("malformed status ignored", topic=message.topic, reason=str(error))
            return
        since = stats.get("cloud_up_since") if stats["online"] else None
        has_reconnected = since is not None and since != self._cloud_up_since.get(message.topic)
        self._cloud_up_since[message.topic] = since
        if has_reconnected:
            self._dispatcher.on_cloud_up()
        elif not any(self._cloud_up_since.values()):
            self._dispatcher.on_cloud_down()

    def _on_connected(self) -> None:
        self._dispatcher.on_link_up()
        self._wake.set()

    def _on_lost(self) -> None:
        # A restarted broker may accept and discard faces until a forwarder subscribes again. So the next status of each
        # forwarder counts as a reconnection, even if its own connection to the cloud has not been interrupted.
        self._cloud_up_since.clear()
        self._dispatcher.on_link_down()


class FireAndForget(Delivery):
    """Delivery at QoS 0: a face is published once, and lost if the broker is disconnected."""

    def __init__(self, settings: DetectorSettings, stop: Stop) -> None:
        self.session = Session(settings.local_endpoint(), _options(settings), stop, on_message=lambda message: None)
        self._stop = stop
        self._lock = threading.Lock()
        self._underway = self._published = self._dropped = 0

    def start(self) -> None:
        """Connect, and wait a few seconds for the connection: faces published before it are lost."""
        self.session.start()
        _wait_until(lambda: self.session.connected, self._stop, _CONNECT_SECONDS)

    def store(self, faces: list[Face]) -> None:
        """Publish the faces of one frame, once."""
        for face in faces:
            with self._lock:
                self._underway += 1
            future = self.session.publish(topics.faces(face.origin.camera), face.jpeg, qos=0, properties=encode(face))
            future.add_done_callback(lambda done: self._on_published(done.exception()))

    @property
    def pending(self) -> int:
        """Number of faces that are not written to the broker yet."""
        return self._underway

    def stats(self) -> dict[str, Any]:
        """Return its fields of the detector's status."""
        return {"published": self._published, "dropped": self._dropped}

    def _on_published(self, error: BaseException | None) -> None:
        with self._lock:
            self._underway -= 1
            self._published += error is None
            self._dropped += error is not None


def _options(settings: DetectorSettings) -> ConnectOptions:
    return ConnectOptions(
        client_id=f"facewire-detector-{settings.camera_name}",
        will=Will(topics.status("detector", settings.camera_name), status.OFFLINE),
        receive_maximum=_MAX_UNACKNOWLEDGED_RECEIPTS,
    )


def _wait_until(is_done: Callable[[], bool], stop: Stop, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not (is_done() or stop) and time.monotonic() < deadline:
        stop.wait(_POLL_SECONDS)


def _log_refusal(face_id: str, error: BaseException | None) -> None:
    if isinstance(error, Refused):
        _log.error("face refused by the local broker, will be sent again", id=face_id, reason=str(error))
