"""A message that the sink holds, and the object that it becomes."""

import threading
from copy import copy
from datetime import UTC, datetime

from cloud.s3sink.objects import S3Object, make_object, make_quarantined
from wire import face
from wire.mqtt.connection import Message
from wire.mqtt.properties import NO_PROPERTIES

_MESSAGE_BYTES = 1024
_PROPERTY_BYTES = 256
"""Memory of a message without its texts, and of one of its properties."""


def size_of(message: Message) -> int:
    """Return the bytes of a complete message in memory, approximately."""
    properties = message.properties
    texts = sum(len(name) + len(value) for name, value in properties.user_properties)
    texts += len(properties.content_type or "") + len(properties.response_topic or "") + len(message.topic)
    binary = len(message.payload) + len(properties.correlation_data or b"") + len(properties.excess or b"")
    return binary + texts + _MESSAGE_BYTES + len(properties.user_properties) * _PROPERTY_BYTES


def free(message: Message) -> None:
    """Free the memory of a message, which stays in the order of acknowledgements until all earlier ones are sent."""
    message.topic, message.payload, message.properties = "", b"", NO_PROPERTIES


class Job:
    """A message that is to be stored. Its message may be replaced by another delivery of it until it is released."""

    __slots__ = (
        "_is_released",
        "_lock",
        "arrived_at",
        "device",
        "has_outbox",
        "id",
        "message",
        "reason",
        "rescue_reason",
        "s3_object",
        "size",
    )

    def __init__(self, message: Message, device: str) -> None:
        properties = message.properties
        self.message, self.device = message, device
        self._lock, self._is_released = threading.Lock(), False
        self.arrived_at = datetime.now(UTC)
        """When it was delivered for the first time since the sink was started."""
        self.has_outbox = face.is_cloudevent(properties)
        """Whether its publisher keeps it until the receipt arrives: all that send metadata do."""
        self.id = (properties.correlation_data or b"")[:64].decode("ascii", "replace")
        """For the log."""
        self.reason = ""
        """Why the last write failed; empty if none has failed."""
        self.rescue_reason: str | None = None
        """Why it is put into quarantine although it is a valid picture; None if it is not."""
        self.s3_object: S3Object | None = None
        self.size = size_of(message)
        """Bytes in memory, approximately."""

    def held_message(self) -> Message | None:
        """Return a copy of the message; None if it has been released."""
        with self._lock:
            return None if self._is_released else copy(self.message)

    def replace(self, message: Message) -> bool:
        """Take another delivery of the same message instead. Return False if the message has been released."""
        with self._lock:
            if self._is_released:
                return False
            message.payload, message.properties = self.message.payload, self.message.properties  # in memory once
            self.message = message
            return True

    def release(self) -> Message:
        """Free the memory of the message, and return it to be acknowledged."""
        with self._lock:
            self._is_released = True
            self.s3_object = None
            free(self.message)
            return self.message

    def make_object(self, prefix: str, now: datetime | None) -> S3Object:
        """Return the object to write. ``now``: see :func:`cloud.s3sink.objects.make_object`."""
        if self.rescue_reason is not None:
            return make_quarantined(self.message, prefix, self.arrived_at, self.rescue_reason)
        if self.s3_object is None:
            self.s3_object = make_object(self.message, prefix, self.arrived_at, now)
        return self.s3_object
