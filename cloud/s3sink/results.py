"""What became of each message: counted, and logged if an operator may want to know.

Each line names its device, by which :mod:`wire.process.log_limit` limits the number of lines.
"""

import threading
from dataclasses import dataclass

import structlog

from cloud.s3sink.job import Job
from cloud.s3sink.loudest import Loudest
from cloud.s3sink.objects import Kind, S3Object
from wire import face
from wire.mqtt.connection import Message

_MAX_TOPIC_CHARS = 200
"""A valid topic has at most 150 characters. A longer one is cut in the log."""

_log = structlog.get_logger("s3sink")


@dataclass(slots=True)
class Counts:
    """Number of messages since the start, by their result."""

    written: int = 0
    already_there: int = 0
    quarantined: int = 0
    damaged: int = 0
    """Faces that had changed on the way. They are in quarantine, too, and got no receipt."""
    refused: int = 0
    """S3 will never accept them, or has another object with their key. They got no receipt."""
    handed_back: int = 0
    """S3 did not accept them while it accepted others. They got no receipt."""
    dropped: int = 0
    """QoS 0 messages that arrived while their device's queue was full."""
    turned_away: int = 0
    """QoS 1 and 2 messages that arrived while their device's queue was full. They got no receipt."""
    over_budget: int = 0
    """Messages of devices that had used up their budget. They got no receipt."""
    over_budget_lost: int = 0
    """Those of them that are lost: their publisher keeps no copy, or they were sent at QoS 0."""


class Results:
    """Counts and logs results. Safe to use from several threads."""

    def __init__(self) -> None:
        self.counts = Counts()
        self.loudest = Loudest()
        self._lock = threading.Lock()

    def stored(self, job: Job, s3_object: S3Object, *, is_new: bool) -> None:
        """Note that S3 has the object of a message. ``is_new``: this message wrote it."""
        reason = s3_object.quarantine_reason
        with self._lock:
            self.counts.damaged += s3_object.kind is Kind.DAMAGED
            if not is_new:
                self.counts.already_there += 1
            elif reason is not None:
                self.counts.quarantined += 1
            else:
                self.counts.written += 1
        if reason is not None:
            self.loudest.note(job.device, s3_object.kind.value, job.size)
        if s3_object.kind is Kind.DAMAGED:
            _log.error(
                "damaged face quarantined without a receipt",
                device=job.device,
                id=job.id,
                key=s3_object.key,
                reason=reason,
            )
        elif reason is not None:
            topic = job.message.topic[:_MAX_TOPIC_CHARS]
            _log.warning("message quarantined", device=job.device, topic=topic, key=s3_object.key, reason=reason[:500])
        else:
            _log.debug("stored", key=s3_object.key, is_new=is_new)

    def over_budget(self, message: Message, device: str, size: int) -> None:
        """Note that a message of ``size`` bytes was not taken because its device had used up its budget."""
        is_lost = message.qos == 0 or not face.is_cloudevent(message.properties)
        with self._lock:
            self.counts.over_budget += 1
            self.counts.over_budget_lost += is_lost
        self.loudest.note(device, "over_budget_lost" if is_lost else "over_budget", size)

    def turned_away(self, job: Job) -> None:
        """Note that a message was not taken because its device's queue was full."""
        self.loudest.note(job.device, "queue_full", job.size)
        with self._lock:
            if job.message.qos == 0:
                self.counts.dropped += 1
            else:
                self.counts.turned_away += 1

    def handed_back(self, job: Job, reason: str) -> None:
        """Note that a message was acknowledged without a receipt because S3 did not accept it for too long."""
        with self._lock:
            self.counts.handed_back += 1
        if not job.has_outbox:
            _log.error(
                "message lost: S3 accepts it neither under its key nor in quarantine"
                if job.reason
                else "message lost: too many messages wait, and S3 accepts no object of its device",
                device=job.device,
                topic=job.message.topic[:_MAX_TOPIC_CHARS],
                id=job.id,
                reason=reason,
            )
        else:
            _log.warning(
                "S3 does not accept a face, handed back to its outbox",
                device=job.device,
                id=job.id,
                reason=reason,
                total=self.counts.handed_back,
            )

    def refused(self, job: Job, reason: str) -> None:
        """Note that S3 will never accept a message. A face stays in its detector's outbox and is sent again."""
        with self._lock:
            self.counts.refused += 1
        topic = job.message.topic[:_MAX_TOPIC_CHARS]
        _log.error("message refused by S3", device=job.device, topic=topic, id=job.id, reason=reason)

    def different(self, job: Job, key: str, reason: str) -> None:
        """Note that the key of a message exists with another object."""
        with self._lock:
            self.counts.refused += 1
        _log.error("the key exists with another object, no receipt sent", device=job.device, key=key, reason=reason)
