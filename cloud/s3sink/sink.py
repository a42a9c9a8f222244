"""The sink: receives faces from the cloud's broker, writes them to S3 and sends receipts.

A message is acknowledged only after S3 has accepted it, in the order of arrival. Its receipt is sent just before.
Devices are served round-robin. If a device has too many messages waiting, further ones are turned away without a
receipt, so its detector sends them again.
"""

import threading
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import structlog

from cloud.s3sink.bucket import Bucket, Outcome, PermanentFailure, Stopped
from cloud.s3sink.fair_queue import FairQueue
from cloud.s3sink.objects import UNKNOWN_DEVICE, S3Object, make_object, make_quarantined
from cloud.s3sink.settings import SinkSettings
from wire import topics
from wire.mqtt.certificate_expiry import CertificateExpiry
from wire.mqtt.connect_options import ConnectOptions
from wire.mqtt.connection import Message
from wire.mqtt.properties import Properties
from wire.mqtt.session import Session
from wire.process.lifecycle import STOP_SECONDS, Stop, spawn

MAX_UNACKNOWLEDGED = 2000
"""Maximum number of unacknowledged messages from the broker. It is larger than the queue of one device, so that a
device that floods the sink does not hold up the messages of others in the broker's queue."""
MIN_LOG_INTERVAL_SECONDS = 10.0
"""Minimum interval between two warnings that messages of the same device are turned away."""
CLIENT_ID = "facewire-s3sink"
SESSION_EXPIRY_SECONDS = 86400
"""How long the broker keeps messages of publishers without an outbox while the sink is disconnected."""
EXPIRY_CHECK_SECONDS = 60.0
"""Interval between checks of the certificate's expiry."""

_log = structlog.get_logger("s3sink")


@dataclass(slots=True)
class Counts:
    """Number of messages since the start, by their result."""

    written: int = 0
    already_there: int = 0
    quarantined: int = 0
    refused: int = 0
    """Refused by S3, in quarantine too."""
    dropped: int = 0
    """QoS 0 messages that arrived while their device's queue was full."""
    turned_away: int = 0
    """QoS 1 and 2 messages that arrived while their device's queue was full. They got no receipt."""


class Sink:
    """Receives messages, writes them to the bucket and sends receipts."""

    def __init__(self, settings: SinkSettings, bucket: Bucket, stop: Stop) -> None:
        self.counts = Counts()
        self.certificate = CertificateExpiry(settings.cloud_certificate)
        self._settings, self._bucket, self._stop = settings, bucket, stop
        self._lock = threading.Lock()
        self._underway = 0
        self._idle = threading.Condition(self._lock)
        self._queue: FairQueue[tuple[Message, datetime]] = FairQueue()
        self._logged_at: dict[str, float] = {}
        self._session = Session(
            settings.cloud_endpoint(),
            ConnectOptions(
                CLIENT_ID, receive_maximum=MAX_UNACKNOWLEDGED, session_expiry_seconds=SESSION_EXPIRY_SECONDS
            ),
            stop,
            on_message=self._on_message,
            subscriptions=[(topics.ALL_DEVICES_FACES, settings.mqtt_qos)],
        )

    @property
    def connected(self) -> bool:
        """Whether the cloud's broker is connected."""
        return self._session.connected

    @property
    def underway(self) -> int:
        """Number of messages that are queued or being written."""
        return self._underway

    def run(self) -> None:
        """Work until asked to stop; then finish the current writes."""
        for number in range(self._settings.s3_concurrency):
            spawn(f"s3-{number}", self._work, self._stop)
        self._session.start()
        self.certificate.step()
        while not self._stop.wait(EXPIRY_CHECK_SECONDS):
            self.certificate.step()
        with self._idle:
            self._idle.wait_for(lambda: self._underway == 0, STOP_SECONDS / 2)
        self._queue.close()
        self._session.close()
        _log.info("ended", **asdict(self.counts))

    def _on_message(self, message: Message) -> None:
        if self._stop:
            return  # not acknowledged: the broker delivers it again
        device = topics.device_of(message.topic) or UNKNOWN_DEVICE
        with self._lock:
            self._underway += 1
        if not self._queue.put(device, (message, datetime.now(UTC)), len(message.payload)):
            self._turn_away(message, device)
            self._finish_one()

    def _turn_away(self, message: Message, device: str) -> None:
        """Acknowledge a message without storing it, because its device's queue is full."""
        if message.qos == 0:
            self.counts.dropped += 1
            return
        self.counts.turned_away += 1
        message.payload = b""  # the message itself stays in memory until all earlier ones are acknowledged
        self._session.acknowledge(message)
        if time.monotonic() - self._logged_at.get(device, -MIN_LOG_INTERVAL_SECONDS) >= MIN_LOG_INTERVAL_SECONDS:
            self._logged_at[device] = time.monotonic()
            _log.warning("queue of a device is full, message turned away", device=device, total=self.counts.turned_away)

    def _work(self) -> None:
        while (queued := self._queue.get()) is not None:
            self._store(*queued)

    def _finish_one(self) -> None:
        with self._idle:
            self._underway -= 1
            self._idle.notify_all()

    def _store(self, message: Message, arrived_at: datetime) -> None:
        try:
            s3_object = make_object(message, self._settings.s3_prefix, arrived_at)
            started_at = time.monotonic()
            try:
                outcome = self._bucket.write(s3_object, started_at)
            except PermanentFailure as error:
                if s3_object.quarantine_reason is not None:
                    raise
                s3_object = make_quarantined(message, self._settings.s3_prefix, arrived_at, str(error))
                outcome = self._bucket.write(s3_object, started_at)
            self._send_receipt(s3_object)
            self._session.acknowledge(message)
            self._count(s3_object, outcome, message)
        except PermanentFailure as error:
            self._refuse(message, str(error))
        except Stopped:
            pass  # not acknowledged: the broker delivers it again
        finally:
            self._finish_one()

    def _refuse(self, message: Message, reason: str) -> None:
        """Acknowledge a message that S3 refuses even in quarantine, so that it does not block others.

        It gets no receipt, so a face stays in its detector's outbox and is sent again.
        """
        with self._lock:
            self.counts.refused += 1
        face_id = (message.properties.correlation_data or b"").decode("ascii", "replace")
        _log.error("message refused by S3", topic=message.topic, id=face_id, reason=reason)
        self._session.acknowledge(message)

    def _send_receipt(self, s3_object: S3Object) -> None:
        """Send the receipt. If it is lost, the face is sent again and gets another one."""
        if s3_object.receipt_topic is not None and s3_object.receipt_id is not None:
            receipt = Properties(correlation_data=s3_object.receipt_id)
            self._session.publish(s3_object.receipt_topic, b"", qos=1, properties=receipt)

    def _count(self, s3_object: S3Object, outcome: Outcome, message: Message) -> None:
        reason = s3_object.quarantine_reason
        with self._lock:
            if outcome is Outcome.ALREADY_THERE:
                self.counts.already_there += 1
            elif reason is not None:
                self.counts.quarantined += 1
            else:
                self.counts.written += 1
        if reason is not None:
            _log.warning("message quarantined", topic=message.topic, key=s3_object.key, reason=reason)
        else:
            _log.debug(outcome.value, key=s3_object.key)
