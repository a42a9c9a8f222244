"""The sink: from the cloud's broker to the bucket, as many writes at once as it was told.

A message is acknowledged only after S3 has answered, and in the order of arrival; its receipt goes out just before.
Devices have their turns, and what one of them sends beyond its share is turned away: without a receipt, so a detector
sends it again.
"""

import threading
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import structlog

from cloud.s3sink.bucket import Bucket, Outcome, PermanentFailure, Stopped
from cloud.s3sink.fair_queue import FairQueue
from cloud.s3sink.objects import NO_DEVICE, S3Object, object_of, quarantined
from cloud.s3sink.settings import SinkSettings
from wire import topics
from wire.mqtt.certificate_expiry import CertificateExpiry
from wire.mqtt.connection import ConnectOptions, Message
from wire.mqtt.properties import Properties
from wire.mqtt.session import Session
from wire.process.lifecycle import STOP_SECONDS, Stop, spawn

MAX_UNACKNOWLEDGED = 2000
"""Messages that the broker may have sent and that have no acknowledgement yet: more than one device may have waiting,
so that one that floods us does not keep the others behind itself in the broker's queue."""
QUIET_SECONDS = 10.0
"""That a device is turned away is mentioned once in this time at the most."""
CLIENT_ID = "facewire-s3sink"
EXPIRY_SECONDS = 86400
"""For how long the broker keeps faces of publishers without an outbox while the sink is away."""
LOOK_AGAIN_SECONDS = 60.0
"""How often the sink looks when its certificate expires."""

_log = structlog.get_logger("s3sink")


@dataclass(slots=True)
class Counts:
    """What has become of messages since the start."""

    written: int = 0
    already_there: int = 0
    quarantined: int = 0
    refused: int = 0
    """By S3, in quarantine too."""
    dropped: int = 0
    """At QoS 0, while more than could be written was waiting."""
    turned_away: int = 0
    """Of devices that had more waiting than their share; they got no receipt."""


class Sink:
    """Takes faces from the broker, writes them, signs for them."""

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
                client_id=CLIENT_ID,
                receive_maximum=MAX_UNACKNOWLEDGED,
                session_expiry_seconds=EXPIRY_SECONDS,
            ),
            stop,
            on_message=self._take,
            subscriptions=[(topics.ALL_DEVICES_FACES, settings.mqtt_qos)],
        )

    @property
    def linked(self) -> bool:
        """Whether the cloud's broker can be reached."""
        return self._session.connected

    @property
    def underway(self) -> int:
        """How many messages are being stored."""
        return self._underway

    def run(self) -> None:
        """Work until asked to stop; then finish the writes that are under way."""
        for number in range(self._settings.s3_concurrency):
            spawn(f"s3-{number}", self._work, self._stop)
        self._session.start()
        self.certificate.step()
        while not self._stop.wait(LOOK_AGAIN_SECONDS):
            self.certificate.step()
        deadline = time.monotonic() + STOP_SECONDS / 2
        with self._idle:
            self._idle.wait_for(lambda: self._underway == 0, max(0.0, deadline - time.monotonic()))
        self._queue.close()
        self._session.close()
        _log.info("ended", **asdict(self.counts))

    def _take(self, message: Message) -> None:
        if self._stop:
            return  # not acknowledged: the broker delivers it again
        device = topics.device_of(message.topic) or NO_DEVICE
        with self._lock:
            self._underway += 1
        if not self._queue.put(device, (message, datetime.now(UTC)), len(message.payload)):
            self._turn_away(message, device)
            self._end()

    def _turn_away(self, message: Message, device: str) -> None:
        """Let a message go for which there is no room: the device has as many waiting as it may."""
        if message.qos == 0:
            self.counts.dropped += 1
            return
        self.counts.turned_away += 1
        message.payload = b""  # it stays until those before it are acknowledged
        self._session.acknowledge(message)
        if time.monotonic() - self._logged_at.get(device, -QUIET_SECONDS) >= QUIET_SECONDS:
            self._logged_at[device] = time.monotonic()
            _log.warning("more than its share, turned away", device=device, so_far=self.counts.turned_away)

    def _work(self) -> None:
        while (taken := self._queue.take()) is not None:
            self._store(*taken)

    def _end(self) -> None:
        with self._idle:
            self._underway -= 1
            self._idle.notify_all()

    def _store(self, message: Message, arrived_at: datetime) -> None:
        try:
            stored = object_of(message, self._settings.s3_prefix, arrived_at)
            began = time.monotonic()
            try:
                outcome = self._bucket.write(stored, began)
            except PermanentFailure as error:
                if stored.quarantined is not None:
                    raise
                stored = quarantined(message, self._settings.s3_prefix, arrived_at, str(error))
                outcome = self._bucket.write(stored, began)
            self._sign(stored)
            self._session.acknowledge(message)
            self._count(stored, outcome, message)
        except PermanentFailure as error:
            self._refuse(message, str(error))
        except Stopped:
            pass  # not acknowledged: the broker delivers it again
        finally:
            self._end()

    def _refuse(self, message: Message, reason: str) -> None:
        """Set a message aside that S3 takes neither as what it is nor into quarantine, so that it stops nobody.

        It gets no receipt: a face stays in its detector's outbox and comes again.
        """
        with self._lock:
            self.counts.refused += 1
        face_id = (message.properties.correlation_data or b"").decode("ascii", "replace")
        _log.error("refused by S3", topic=message.topic, id=face_id, reason=reason)
        self._session.acknowledge(message)

    def _sign(self, stored: S3Object) -> None:
        """Send the receipt. One that is lost is made up for when the face comes again."""
        if stored.receipt_topic is not None and stored.receipt_id is not None:
            receipt = Properties(correlation_data=stored.receipt_id)
            self._session.publish(stored.receipt_topic, b"", qos=1, properties=receipt)

    def _count(self, stored: S3Object, outcome: Outcome, message: Message) -> None:
        with self._lock:
            if outcome is Outcome.ALREADY_THERE:
                self.counts.already_there += 1
            elif stored.quarantined is not None:
                self.counts.quarantined += 1
            else:
                self.counts.written += 1
        if stored.quarantined is not None:
            _log.warning("in quarantine", topic=message.topic, key=stored.key, reason=stored.quarantined)
        else:
            _log.debug(outcome.value, key=stored.key)
