"""An MQTT session: keeps a connection to one broker, and reconnects with exponential backoff.

A publication succeeds only when the broker has accepted it. Messages are acknowledged by an explicit call. A problem is
logged once; the session then retries without logging it again until it is connected.
"""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future

import structlog

from wire.errors import FacewireError, LinkLost
from wire.mqtt.connect_options import ConnectOptions
from wire.mqtt.connection import Connection, Message
from wire.mqtt.endpoint import Endpoint
from wire.mqtt.properties import NO_PROPERTIES, Properties
from wire.mqtt.reason_codes import SESSION_TAKEN_OVER
from wire.process.backoff import delay_seconds
from wire.process.lifecycle import Stop, spawn

INITIAL_RECONNECT_SECONDS = 0.5
MAX_RECONNECT_SECONDS = 10.0
MIN_STABLE_SECONDS = 10.0
"""A connection that ends sooner counts as a failed attempt, so that two clients with the same name do not disconnect
each other in a tight loop."""

MAX_SHORT_CONNECTIONS = 3
"""After so many of them in a row, the log says that there may be such another client."""

_log = structlog.get_logger("session")


class Session:
    """A connection to one broker that is restored when it is lost."""

    def __init__(
        self,
        endpoint: Endpoint,
        options: ConnectOptions,
        stop: Stop,
        *,
        on_message: Callable[[Message], None],
        subscriptions: Sequence[tuple[str, int]] = (),
        on_connected: Callable[[], None] = lambda: None,
        on_lost: Callable[[], None] = lambda: None,
        may_receive: Callable[[], bool] = lambda: True,
    ) -> None:
        """Prepare a session; :meth:`start` connects.

        Args:
            endpoint: the broker.
            options: how to connect.
            stop: an exception in a callback is a bug, and stops the process through it.
            on_message: called for each message in the connection's thread; must not block.
            subscriptions: topic filters, each with its maximum QoS.
            on_connected: called when a connection is established and all subscriptions are granted.
            on_lost: called when a connection has ended.
            may_receive: whether there is room for more messages. While there is none, nothing is received. When there
                is room again, call :meth:`look_again`.
        """
        self._endpoint, self._options, self._stop = endpoint, options, stop
        self._on_message, self._on_connected, self._on_lost = stop.guard(on_message), on_connected, on_lost
        self._subscriptions, self._may_receive = subscriptions, may_receive
        self._filters = subscriptions
        self._connection: Connection | None = None
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._logged_problems: set[str] = set()
        self._short_connections = 0
        """Number of connections in a row that ended soon after they had been established."""

    @property
    def connected(self) -> bool:
        """Whether the broker is connected."""
        connection = self._connection
        return connection is not None and not connection.ended.is_set()

    def start(self) -> None:
        """Start a thread that connects and stays connected."""
        self._thread = spawn(f"session-{self._endpoint.name}", self._run, self._stop)

    def publish(
        self, topic: str, payload: bytes, *, qos: int, retain: bool = False, properties: Properties = NO_PROPERTIES
    ) -> "Future[int]":
        """Publish a message; see :meth:`Connection.publish`. Without a connection it fails with LinkLost at once."""
        connection = self._connection
        if connection is None:
            future: Future[int] = Future()
            future.set_exception(LinkLost("not connected"))
            return future
        return connection.publish(topic, payload, qos, retain, properties)

    def acknowledge(self, message: Message) -> None:
        """Acknowledge ``message``; see :meth:`Connection.acknowledge`."""
        message.connection.acknowledge(message)

    def look_again(self) -> None:
        """Report that there may be room for more messages."""
        connection = self._connection
        if connection is not None:
            connection.look_again()

    def unsubscribe(self, seconds: float) -> bool:
        """End all subscriptions, also those of later connections. Return whether the broker answers within ``seconds``.

        All messages that it had sent until then have been delivered before this returns. It may be called again.
        """
        filters = [topic for topic, _ in self._filters]
        self._subscriptions = ()
        connection = self._connection
        return connection is not None and connection.unsubscribe(filters, seconds)

    def subscribe_again(self) -> None:
        """Take back :meth:`unsubscribe`. If the broker refuses, the connection ends, and the next attempt says why."""
        self._subscriptions = self._filters
        connection = self._connection
        if connection is not None:
            try:
                connection.subscribe(self._subscriptions)
            except FacewireError as error:
                self._log_problem(str(error))
                connection.close(0)

    def close(self, seconds: float = 1.0, session_expiry_seconds: int | None = None) -> None:
        """Disconnect and stop. Unanswered publications fail with LinkLost.

        ``session_expiry_seconds``: how long the broker keeps the session; None: as the options say.
        """
        self._closing.set()
        connection = self._connection
        if connection is not None:
            connection.close(seconds, session_expiry_seconds)
        if self._thread is not None:
            self._thread.join(seconds)

    def _run(self) -> None:
        attempt = 0
        while not self._closing.is_set():
            opened_at = time.monotonic()
            try:
                connection = Connection(self._endpoint, self._options, self._deliver, self._may_receive)
                connection.open(self._subscriptions)
                self._serve(connection)
            except FacewireError as error:
                self._log_problem(str(error))
            finally:
                self._connection = None
            attempt = 0 if time.monotonic() - opened_at > MIN_STABLE_SECONDS else attempt + 1
            self._closing.wait(delay_seconds(attempt, INITIAL_RECONNECT_SECONDS, MAX_RECONNECT_SECONDS))

    def _serve(self, connection: Connection) -> None:
        self._connection = connection
        connected_at = time.monotonic()
        self._logged_problems.clear()
        _log.info("connected", to=self._endpoint.name, at=str(self._endpoint))
        self._on_connected()
        connection.ended.wait()
        self._connection = None
        self._on_lost()
        self._note_duration(time.monotonic() - connected_at)
        raise LinkLost(connection.reason)

    def _note_duration(self, seconds: float) -> None:
        """Warn if connections end again and again. Mosquitto before 2.0.15 does not say why it ends them."""
        self._short_connections = self._short_connections + 1 if seconds < MIN_STABLE_SECONDS else 0
        if self._short_connections == MAX_SHORT_CONNECTIONS and not self._closing.is_set():
            client_id, hint = self._options.client_id, self._options.hints.get(SESSION_TAKEN_OVER)
            _log.warning(
                "connections end soon, perhaps another client has the same id",
                to=self._endpoint.name,
                client_id=client_id,
                **({"hint": hint} if hint else {}),
            )

    def _log_problem(self, reason: str) -> None:
        if not self._closing.is_set() and reason not in self._logged_problems:
            self._logged_problems.add(reason)
            _log.warning("not connected, retrying", to=self._endpoint.name, at=str(self._endpoint), reason=reason)

    def _deliver(self, message: Message) -> None:
        self._connection = message.connection  # a message may arrive before the SUBACK
        self._on_message(message)
