"""The sink: from the cloud's broker to the bucket, as many writes at once as it was told.

A message is acknowledged only after S3 has answered, and in the order of arrival; its receipt goes out just before.
"""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import structlog

from cloud.s3sink.bucket import Bucket, Outcome, Stopped, Unacceptable
from cloud.s3sink.objects import Stored, quarantined, stored_as
from cloud.s3sink.settings import SinkSettings
from wire import topics
from wire.connection import Message, Terms
from wire.expiry import Expiry
from wire.process import STOP_SECONDS, Stop
from wire.properties import Properties
from wire.session import Session

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


class Sink:
    """Takes faces from the broker, writes them, signs for them."""

    def __init__(self, settings: SinkSettings, bucket: Bucket, stop: Stop) -> None:
        self.counts = Counts()
        self.certificate = Expiry(settings.cloud_certificate)
        self._settings, self._bucket, self._stop = settings, bucket, stop
        self._lock = threading.Lock()
        self._underway = 0
        self._idle = threading.Condition(self._lock)
        self._most = max(64, 2 * settings.s3_concurrency)
        self._workers = ThreadPoolExecutor(settings.s3_concurrency, "s3")
        self._session = Session(
            settings.cloud_link(),
            Terms(
                client_id=CLIENT_ID,
                receive_maximum=self._most,
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
        self._session.start()
        self.certificate.step()
        while not self._stop.wait(LOOK_AGAIN_SECONDS):
            self.certificate.step()
        deadline = time.monotonic() + STOP_SECONDS / 2
        with self._idle:
            self._idle.wait_for(lambda: self._underway == 0, max(0.0, deadline - time.monotonic()))
        self._session.close()
        self._workers.shutdown(wait=False, cancel_futures=True)
        _log.info("ended", **asdict(self.counts))

    def _take(self, message: Message) -> None:
        if self._stop:
            return  # not acknowledged: the broker delivers it again
        with self._lock:
            if message.qos == 0 and self._underway >= self._most:  # QoS 0 knows no back-pressure
                self.counts.dropped += 1
                return
            self._underway += 1
        self._workers.submit(self._stop.guard(self._store), message, datetime.now(UTC))

    def _store(self, message: Message, arrived_at: datetime) -> None:
        try:
            stored = stored_as(message, self._settings.s3_prefix, arrived_at)
            began = time.monotonic()
            try:
                outcome = self._bucket.write(stored, began)
            except Unacceptable as error:
                if stored.quarantined is not None:
                    raise
                stored = quarantined(message, self._settings.s3_prefix, arrived_at, str(error))
                outcome = self._bucket.write(stored, began)
            self._sign(stored)
            self._session.acknowledge(message)
            self._count(stored, outcome, message)
        except Unacceptable as error:
            self._refuse(message, str(error))
        except Stopped:
            pass  # not acknowledged: the broker delivers it again
        finally:
            with self._idle:
                self._underway -= 1
                self._idle.notify_all()

    def _refuse(self, message: Message, reason: str) -> None:
        """Set a message aside that S3 takes neither as what it is nor into quarantine, so that it stops nobody.

        It gets no receipt: a face stays in its detector's outbox and comes again.
        """
        with self._lock:
            self.counts.refused += 1
        face_id = (message.properties.correlation_data or b"").decode("ascii", "replace")
        _log.error("refused by S3", topic=message.topic, id=face_id, reason=reason)
        self._session.acknowledge(message)

    def _sign(self, stored: Stored) -> None:
        """Send the receipt. One that is lost is made up for when the face comes again."""
        if stored.receipt_topic is not None and stored.receipt_id is not None:
            receipt = Properties(correlation_data=stored.receipt_id)
            self._session.publish(stored.receipt_topic, b"", qos=1, properties=receipt)

    def _count(self, stored: Stored, outcome: Outcome, message: Message) -> None:
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
