"""A client of the check: one connection, with the client that the processes use, and what has arrived on it."""

import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from wire.mqtt.connect_options import ConnectOptions, Will
from wire.mqtt.connection import Connection, Message
from wire.mqtt.endpoint import Endpoint
from wire.mqtt.granted import Granted
from wire.mqtt.properties import NO_PROPERTIES, Properties

ANSWER_SECONDS = 5.0
"""How long an answer, or a message that has to arrive, is awaited."""
KEEPALIVE_SECONDS = 60
"""As the forwarder asks for."""
QUIET_SECONDS = 0.7
"""When nothing has arrived for so long, nothing more is expected."""


class CheckClient:
    """One client. It acknowledges messages unless ``acknowledges`` is False."""

    def __init__(
        self,
        endpoint: Endpoint,
        client_id: str,
        *filters: str,
        session_seconds: int = 0,
        receive_maximum: int = 1000,
        will: Will | None = None,
    ) -> None:
        """Connect and subscribe.

        Raises:
            FacewireError: the broker cannot be reached, or refuses the connection or a subscription.
        """
        self.acknowledges = True
        self._messages: list[Message] = []
        self._arrived = threading.Condition()
        options = ConnectOptions(client_id, will, receive_maximum, session_seconds, KEEPALIVE_SECONDS)
        self._connection = Connection(endpoint, options, self._take)
        self._connection.open([(each, 2) for each in filters])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def granted(self) -> Granted:
        """What the broker has announced."""
        return self._connection.granted

    @property
    def end_reason(self) -> str | None:
        """Why the connection has ended; None if it is open."""
        return self._connection.reason if self._connection.ended.is_set() else None

    def await_end(self) -> bool:
        """Wait for the end of the connection, and return whether it has ended."""
        return self._connection.ended.wait(ANSWER_SECONDS)

    @property
    def messages(self) -> list[Message]:
        """What has arrived."""
        with self._arrived:
            return list(self._messages)

    def publish(
        self,
        topic: str,
        payload: bytes = b"",
        *,
        qos: int = 1,
        retain: bool = False,
        properties: Properties = NO_PROPERTIES,
    ) -> int:
        """Publish a message and return the reason code of the broker's answer.

        Raises:
            Refused: the broker refuses it.
            LinkLost: the connection has ended.
            TimeoutError: the broker does not answer.
        """
        return self._connection.publish(topic, payload, qos, retain, properties).result(ANSWER_SECONDS)

    def publish_many(self, topic: str, payloads: Sequence[bytes], properties: Properties = NO_PROPERTIES) -> None:
        """Publish messages at QoS 1, and wait until all are answered."""
        for future in [self._connection.publish(topic, each, 1, False, properties) for each in payloads]:
            future.result(ANSWER_SECONDS)

    def await_messages(self, count: int) -> list[Message]:
        """Wait until ``count`` messages have arrived, or until it has taken too long, and return what has arrived."""
        with self._arrived:
            self._arrived.wait_for(lambda: len(self._messages) >= count, ANSWER_SECONDS)
            return list(self._messages)

    def settle(self, seconds: float = QUIET_SECONDS) -> list[Message]:
        """Wait until nothing has arrived for some time, and return what has arrived."""
        deadline = time.monotonic() + 2 * ANSWER_SECONDS
        with self._arrived:
            while True:
                before = len(self._messages)
                if not self._arrived.wait_for(lambda before=before: len(self._messages) > before, seconds):  # type: ignore[misc]
                    return list(self._messages)
                if time.monotonic() > deadline:
                    return list(self._messages)

    def acknowledge(self, message: Message) -> None:
        """Acknowledge a message."""
        self._connection.acknowledge(message)

    def abort(self) -> None:
        """End as if this process had been killed."""
        self._connection.abort()

    def close(self) -> None:
        """Disconnect."""
        self._connection.close(ANSWER_SECONDS)

    def _take(self, message: Message) -> None:
        with self._arrived:
            self._messages.append(message)
            self._arrived.notify_all()
        if self.acknowledges:
            message.connection.acknowledge(message)
