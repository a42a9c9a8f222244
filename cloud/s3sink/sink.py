"""The sink: receives faces from the cloud's broker, writes them to S3 and sends receipts.

A message is acknowledged only after S3 has accepted it, in the order of arrival. Its receipt is sent just before.
Devices are served round-robin. If a device has too many messages waiting, further ones are turned away without a
receipt, so its detector sends them again. A message that S3 does not accept while it accepts others is handed back in
the same way: it is acknowledged without a receipt, so that it does not hold up the acknowledgements of others.
Messages of a device that has used up its budget of the hour are turned away, too.
"""

import time
from dataclasses import asdict

import structlog
from prometheus_client import CollectorRegistry, Histogram

from cloud.s3sink.answers import DifferentObject, Outcome, Overloaded, PermanentFailure, TemporaryFailure
from cloud.s3sink.bucket import Bucket
from cloud.s3sink.budget import Budgets
from cloud.s3sink.concurrency import Concurrency
from cloud.s3sink.device_queue import INITIAL_RETRY_SECONDS, MAX_RETRY_SECONDS, Entry
from cloud.s3sink.fair_queue import FairQueue
from cloud.s3sink.job import Job, free, size_of
from cloud.s3sink.membership import Membership
from cloud.s3sink.objects import UNKNOWN_DEVICE, Kind, S3Object
from cloud.s3sink.redelivery import Redeliveries
from cloud.s3sink.replica import KEPT_SECONDS, MAX_UNACKNOWLEDGED, connect_options, subscription
from cloud.s3sink.results import Results
from cloud.s3sink.settings import SinkSettings
from cloud.s3sink.workers import Workers
from wire import receipt, stored, topics
from wire.mqtt.certificate_expiry import CertificateExpiry
from wire.mqtt.connection import Message
from wire.mqtt.session import Session
from wire.probe import is_probe
from wire.process.backoff import delay_seconds
from wire.process.lifecycle import STOP_SECONDS, Stop, spawn
from wire.process.metrics import AGE_BUCKETS

EXPIRY_CHECK_SECONDS = 60.0
"""Interval between checks of the certificate's expiry."""
LEAVE_SECONDS = 6.0
"""How long a sink may take to store what it has been sent when it leaves its group."""
END_WRITES_SECONDS = 2.0
"""How long the writes under way may take after that: what S3 has but the sink does not acknowledge is delivered again,
and a picture of a publisher without an outbox would be stored twice. Docker waits 10 s in all."""
UNSUBSCRIBE_SECONDS = 2.0
MAX_HANG_STEPS = 20
"""After so many steps in which the event loop of the writes has done nothing, the process ends, to be started again."""
STEP_SECONDS = 1.0
"""Interval between checks for messages that are held for too long."""

_log = structlog.get_logger("s3sink")


class Sink:
    """Receives messages, writes them to the bucket and sends receipts."""

    def __init__(self, settings: SinkSettings, bucket: Bucket, stop: Stop, registry: CollectorRegistry) -> None:
        """Set up the sink; :meth:`run` connects. ``registry`` is for the histogram of the times to a receipt."""
        meaning = "Seconds from the arrival of a message to its receipt."
        self._seconds = Histogram("facewire_receipt_seconds", meaning, registry=registry, buckets=AGE_BUCKETS)
        self.results = Results()
        self.certificate = CertificateExpiry(settings.cloud_certificate)
        self._settings, self._bucket, self._stop = settings, bucket, stop
        self._concurrency = Concurrency(settings.s3_concurrency)
        self._queue: FairQueue[Job] = FairQueue(self._concurrency.limit)
        self._workers = Workers(self._queue, self._concurrency, self._store, bucket.close, stop)
        self._budgets = Budgets(settings.device_faces_per_hour, settings.device_bytes_per_hour)
        self._redeliveries = Redeliveries(self._queue.held)
        self._session = Session(
            settings.cloud_endpoint(),
            connect_options(settings.sink_group, settings.sink_name),
            stop,
            on_message=self._on_message,
            subscriptions=[(subscription(settings.sink_group), settings.mqtt_qos)],
            may_receive=self._may_receive,
        )
        self._is_paused = False
        """Whether nothing is received at present."""
        self._has_left = False
        """Whether messages are no longer accepted, although the process still works."""

    @property
    def connected(self) -> bool:
        """Whether the cloud's broker is connected."""
        return self._session.connected

    @property
    def underway(self) -> int:
        """Number of messages that are queued or being written."""
        return self._queue.count

    @property
    def concurrency(self) -> int:
        """Maximum number of concurrent writes at present."""
        return self._concurrency.limit

    @property
    def underway_bytes(self) -> int:
        """Bytes of the messages that are queued or being written."""
        return self._queue.size

    def run(self) -> None:
        """Work until asked to stop; then finish the current writes."""
        spawn("store-check", self._start_writing, self._stop)
        self._session.start()
        if self._settings.sink_group:
            membership = Membership(self._session, self._bucket, lambda: self._queue.count, self._stop)
            spawn("membership", membership.run, self._stop)
        self.certificate.step()
        checked_at = time.monotonic()
        while not self._stop.wait(STEP_SECONDS):
            self.step()
            if self._workers.check() > MAX_HANG_STEPS:
                self._stop.fail(RuntimeError("the writes to S3 hang"))
            self.results.loudest.step()
            if time.monotonic() - checked_at >= EXPIRY_CHECK_SECONDS:
                self.certificate.step()
                checked_at = time.monotonic()
        if self._settings.sink_group:
            self._leave_group()
        else:
            self._queue.serve_oldest_first()
            self._queue.wait_until_empty(STOP_SECONDS / 2)
            self._workers.close(END_WRITES_SECONDS)
            self._session.close()
        _log.info("ended", **asdict(self.results.counts))

    def step(self) -> None:
        """Give up messages that are held for too long and that no worker has.

        A picture of a publisher without an outbox would be lost. If it has not been tried, it is held as long as the
        broker sends more messages.
        """
        is_window_full = self._queue.span > MAX_UNACKNOWLEDGED * 3 // 4
        for entry in self._queue.waiting():
            has_outbox = entry.item.has_outbox
            if not self._bucket.acceptance.gives_up(entry, is_window_full=is_window_full and has_outbox):
                continue
            if not has_outbox and not entry.failures and not is_window_full:
                continue
            reason = entry.item.reason or "S3 accepts no object of this device"
            if not self._rescue(entry, reason) and self._queue.withdraw(entry):
                self._hand_back(entry.item, reason)
            is_window_full = self._queue.span > MAX_UNACKNOWLEDGED * 3 // 4
        self._resume()

    def _may_receive(self) -> bool:
        self._is_paused = self._queue.is_saturated
        return not self._is_paused

    def _resume(self) -> None:
        """Receive again if there is room again."""
        if self._is_paused and not self._queue.is_saturated:
            self._session.look_again()

    def _leave_group(self) -> None:
        """Get no more messages, store those that have been sent to this sink, and end the session.

        If S3 does not accept all of them in time, the broker keeps the session with the others for this sink.
        """
        self._queue.serve_oldest_first()
        deadline = time.monotonic() + LEAVE_SECONDS
        has_left = is_finished = False
        while not (is_finished or self._stop.failure) and (seconds := deadline - time.monotonic()) > 0:
            self._queue.wait_until_empty(seconds if has_left else 0)
            is_empty = not self._queue.count
            # The acknowledgements may have released more messages. They arrive before the answer.
            if not self._session.unsubscribe(min(seconds, UNSUBSCRIBE_SECONDS)):
                break
            is_finished = has_left and is_empty and not self._queue.count
            has_left = True
        self._has_left = True
        self._workers.close(END_WRITES_SECONDS)
        expiry = 0 if is_finished else KEPT_SECONDS if has_left else None
        self._session.close(session_expiry_seconds=expiry)

    def _start_writing(self) -> None:
        """Find out what the store can do, and start to write."""
        attempt = 0
        while not self._stop:
            try:
                abilities = self._bucket.check_store()
            except TemporaryFailure as error:
                self._bucket.note_failure(str(error))
                self._stop.wait(delay_seconds(attempt, INITIAL_RETRY_SECONDS, MAX_RETRY_SECONDS))
                attempt += 1
                continue
            self._bucket.write_without_boto3()
            for name, meaning in abilities.lines():
                _log.info("store checked", ability=name, result=meaning)
            if not abilities.conditional_writes:
                _log.warning("the store has no conditional writes: an object may be overwritten by the same face")
            spawn("s3", self._workers.run, self._stop)
            return

    def _on_message(self, message: Message) -> None:
        is_ending = self._has_left or (self._stop and not self._settings.sink_group)
        if is_ending or (message.qos and message.connection.ended.is_set()):
            return  # not acknowledged: the broker delivers it again
        if is_probe(message.properties, message.payload):
            self._drop(message)
            return
        earlier = self._redeliveries.match(message)
        if earlier is not None and earlier.replace(message):
            return
        device = topics.device_of(message.topic) or UNKNOWN_DEVICE
        if earlier is None and not self._budgets.allows(device):
            self.results.over_budget(message, device, size_of(message))
            self._drop(message)
            return
        job = Job(message, device)
        if earlier is not None:  # stored in the meantime: the same key
            job.arrived_at = earlier.arrived_at
        if not self._queue.put(device, job, job.size):
            self.results.turned_away(job)
            self._acknowledge(job)
            return
        self._workers.wake()
        if earlier is None:  # what was turned away costs nothing, so a device may send it again
            self._budgets.charge(device, job.size)

    def _drop(self, message: Message) -> None:
        """Acknowledge a message that is not kept, and free its memory."""
        free(message)
        if message.qos:
            self._session.acknowledge(message)

    async def _store(self, entry: Entry[Job]) -> None:
        job = entry.item
        is_overload = False
        s3_object = job.make_object(self._settings.s3_prefix, self._bucket.clock.now())
        try:
            outcome = await self._bucket.write(s3_object)
        except TemporaryFailure as error:
            job.reason = str(error)
            is_overload = isinstance(error, Overloaded)
            if self._bucket.acceptance.gives_up(entry) and not self._rescue(entry, job.reason):
                self._hand_back(job, job.reason)
                self._queue.finish(entry, accepted=False)
            else:
                self._queue.retry(entry)
        except DifferentObject as error:
            self.results.different(job, s3_object.key, str(error))
            self._acknowledge(job)
            self._queue.finish(entry, accepted=True)
        except PermanentFailure as error:
            if s3_object.kind is Kind.PICTURE:
                self._rescue(entry, str(error))
                self._queue.retry(entry)
            else:
                self.results.refused(job, str(error))
                self._acknowledge(job)
                self._queue.finish(entry, accepted=False)
        else:
            if s3_object.receipt_topic is not None and s3_object.receipt_id is not None:
                # If the receipt is lost, the face is sent again and gets another one.
                properties = receipt.encode(s3_object.receipt_id, is_congested=self._queue.is_congested(entry))
                self._session.publish(s3_object.receipt_topic, b"", qos=1, properties=properties)
                self._seconds.observe(time.monotonic() - entry.held_since)
            if s3_object.quarantine_reason is None:
                self._announce(job, s3_object)
            self.results.stored(job, s3_object, is_new=outcome is Outcome.WRITTEN)
            self._acknowledge(job)
            self._queue.finish(entry, accepted=True)
        self._resume()
        self._concurrency.note_end(is_waiting=self._queue.count > self._queue.busy, is_overload=is_overload)

    def _announce(self, job: Job, s3_object: S3Object) -> None:
        """Tell subscribers, such as the gallery, that S3 has a face."""
        topic = topics.stored(topics.origin_of(job.message.topic))
        payload, properties = stored.encode(s3_object.key, s3_object.metadata)
        self._session.publish(topic, payload, qos=0, properties=properties)

    def _rescue(self, entry: Entry[Job], reason: str) -> bool:
        """Put a picture of a publisher without an outbox into quarantine at the next attempt.

        Return False if the message is not such a picture, or if this has been tried already.
        """
        if entry.item.has_outbox or entry.item.rescue_reason is not None:
            return False
        entry.item.rescue_reason = reason
        entry.held_since = time.monotonic()
        return True

    def _hand_back(self, job: Job, reason: str) -> None:
        """Acknowledge a message without storing it."""
        self.results.handed_back(job, reason)
        self._acknowledge(job)

    def _acknowledge(self, job: Job) -> None:
        """Acknowledge a message, and free its memory: it is kept until all earlier messages are acknowledged."""
        message = job.release()
        if message.qos:
            self._session.acknowledge(message)
