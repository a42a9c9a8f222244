"""Recognises the messages that the broker delivers again after the connection has ended.

The broker delivers every message that is not acknowledged again on the next connection, while the sink still holds it.
The new message takes the place of the old one, so that one message has one place in the memory and one object: the key
of an image of another publisher contains its time of arrival.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable

from cloud.s3sink.job import Job
from cloud.s3sink.objects import digest_of
from wire.mqtt.connection import Connection, Message


class Redeliveries:
    """The messages that are held and whose connection has ended. Safe to use from several threads."""

    def __init__(self, held: Callable[[], Iterable[Job]]) -> None:
        """``held``: return all messages that are held, in the order of arrival."""
        self._held = held
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        """The connection of the latest message."""
        self._expected: dict[str, deque[Job]] = {}
        """The messages of earlier connections, by their digest. Equal messages are in the order of arrival."""

    def match(self, message: Message) -> Job | None:
        """Return the job of an earlier connection that has the same topic, properties and payload; None if none has.

        Each job is returned once, so two equal messages remain two.
        """
        with self._lock:
            if message.connection is not self._connection:
                self._connection = message.connection
                self._expect(message.connection)
            if not self._expected or not message.qos:
                return None
            key = digest_of(message)
            jobs = self._expected.get(key)
            if jobs is None:
                return None
            job = jobs.popleft()
            if not jobs:
                del self._expected[key]
            return job

    def _expect(self, connection: Connection) -> None:
        self._expected = {}
        for job in self._held():
            message = job.held_message()
            if message is not None and message.qos and message.connection is not connection:
                self._expected.setdefault(digest_of(message), deque()).append(job)
