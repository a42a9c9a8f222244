"""Adds the faces that the sink announces, and passes status messages on, as they arrive from the cloud's broker."""

from collections.abc import Callable
from queue import Empty, Full, Queue

import structlog

from cloud.gallery.index.face import IndexedFace
from cloud.gallery.settings import GallerySettings
from wire import stored, topics
from wire.errors import BadMessage
from wire.mqtt.connect_options import ConnectOptions
from wire.mqtt.connection import Message
from wire.mqtt.session import Session
from wire.process.lifecycle import Stop, spawn

CLIENT_ID = "facewire-gallery"
MAX_WAITING = 5_000
"""Maximum number of messages that wait. Beyond it they are dropped, and S3 is listed later."""
MAX_BATCH = 200
_TAKE_SECONDS = 1.0

_log = structlog.get_logger("gallery")


class Announcements:
    """A session with the broker, and a thread that handles what it delivers."""

    def __init__(
        self,
        settings: GallerySettings,
        stop: Stop,
        *,
        on_stored: Callable[[list[IndexedFace]], None],
        on_status: Callable[[str, bytes], None],
        on_link: Callable[[bool], None],
    ) -> None:
        """Set up; :meth:`start` connects.

        Args:
            settings: the gallery's.
            stop: ends the thread.
            on_stored: called with announced faces.
            on_status: called with topic and payload of each status.
            on_link: called when the connection is made (True) or lost (False).
        """
        self._prefix, self._stop = settings.s3_prefix, stop
        self._on_stored, self._on_status = on_stored, on_status
        self._waiting: Queue[Message] = Queue(MAX_WAITING)
        self.dropped = 0
        """Number of messages that were dropped because too many waited."""
        self.invalid = 0
        """Number of announcements that do not follow the contract."""
        self._session = Session(
            settings.cloud_endpoint(),
            ConnectOptions(CLIENT_ID),
            stop,
            on_message=self._on_message,
            subscriptions=[(topics.ALL_DEVICES_STORED, 0), (topics.ALL_DEVICES_STATUS, 0)],
            on_connected=lambda: on_link(True),
            on_lost=lambda: on_link(False),
        )

    @property
    def connected(self) -> bool:
        """Whether the broker is connected."""
        return self._session.connected

    def start(self) -> None:
        """Connect, and handle messages in a thread."""
        spawn("announcements", self._run, self._stop)
        self._session.start()

    def close(self) -> None:
        """Disconnect."""
        self._session.close()

    def _on_message(self, message: Message) -> None:
        try:
            self._waiting.put_nowait(message)
        except Full:
            self.dropped += 1

    def _run(self) -> None:
        while not self._stop:
            self.step(_TAKE_SECONDS)

    def step(self, seconds: float) -> None:
        """Handle what waits. Wait for a message for at most ``seconds``."""
        faces = []
        for message in take(self._waiting, MAX_BATCH, seconds):
            if topics.status_of(message.topic) is not None:
                self._on_status(message.topic, message.payload)
                continue
            try:
                faces.append(self._face(message))
            except BadMessage as error:
                self.invalid += 1
                _log.warning("announcement ignored", device=topics.device_of(message.topic), reason=str(error))
        if faces:
            self._on_stored(faces)

    def _face(self, message: Message) -> IndexedFace:
        announced = stored.decode(message.properties, message.payload)
        face = IndexedFace.of_key(self._prefix, announced.key, announced.attributes)
        if topics.stored(face.origin) != message.topic:
            raise BadMessage(f"the key {announced.key!r} is not of the topic {message.topic!r}")
        return face


def take(queue: "Queue[Message]", limit: int, seconds: float) -> list[Message]:
    """Return what is in a queue, at most ``limit``. Wait for the first one for at most ``seconds``."""
    found: list[Message] = []
    try:
        found.append(queue.get(timeout=seconds))
        while len(found) < limit:
            found.append(queue.get_nowait())
    except Empty:
        pass
    return found
