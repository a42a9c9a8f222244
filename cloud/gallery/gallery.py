"""The gallery: index, filling, pictures and devices, and the feed of what has changed."""

from collections.abc import Sequence
from typing import Any
from zoneinfo import ZoneInfo

from cloud.gallery.bucket import Bucket
from cloud.gallery.changes import Changes
from cloud.gallery.devices import Devices
from cloud.gallery.filling.announcements import Announcements
from cloud.gallery.filling.filling import Filling
from cloud.gallery.index.face import IndexedFace
from cloud.gallery.index.index import Index, Name
from cloud.gallery.pictures import Pictures
from cloud.gallery.settings import GallerySettings
from cloud.gallery.web import as_json
from wire.process.lifecycle import Stop

MAX_EVENTS = 50
"""If more faces are found in S3 at once, open pages load their content again instead."""
STATE_SECONDS = 1.0
"""Interval between looks at the state."""
DEVICES_SECONDS = 5.0
"""Interval between messages to open pages that devices have sent their status."""


class Gallery:
    """Everything but the web server."""

    def __init__(self, settings: GallerySettings, stop: Stop) -> None:
        """Open the index and prepare the connections; :meth:`start` connects.

        Raises:
            ConfigurationError: the folder or a TLS file is not usable.
            Unavailable: the settings of boto3 are not usable.
        """
        zone = ZoneInfo(settings.gallery_time_zone)
        folder = settings.gallery_folder
        self.settings = settings
        self.changes = Changes()
        self.bucket = Bucket(settings)
        self.index = Index(folder / "index.db", f"{settings.s3_bucket}/{settings.s3_prefix}", zone)
        self.pictures = Pictures(self.bucket, self.index, self._on_removed)
        self.devices = Devices(folder / "devices.json", self.index.count_of_day, zone)
        self.filling = Filling(
            self.bucket,
            self.index,
            stop,
            per_second=settings.gallery_fill_per_second,
            on_found=self._on_found,
            on_removed=self._on_removed,
        )
        self.announcements = Announcements(
            settings, stop, on_stored=self._on_stored, on_status=self._on_status, on_link=self.filling.on_link
        )
        self._stop = stop
        self._have_devices_changed = False

    def start(self) -> None:
        """Connect to the broker, and begin to fill the index."""
        self.filling.start()
        self.announcements.start()

    def run(self) -> None:
        """Tell open pages what has changed besides faces, until asked to stop."""
        last: dict[str, Any] = {}
        seconds = 0.0
        while not self._stop.wait(STATE_SECONDS):
            seconds += STATE_SECONDS
            state = self.state()
            if state != last:
                self.changes.publish("state", state)
                last = state
            if self._have_devices_changed or seconds >= DEVICES_SECONDS:
                self._have_devices_changed, seconds = False, 0.0
                self.changes.publish("devices", {})

    def close(self) -> None:
        """Disconnect. The index stays open: its threads may be using it, and what they committed is in its file."""
        self.changes.close()
        self.announcements.close()
        self.devices.save()

    def state(self) -> dict[str, Any]:
        """Return whether the page is live, and why not."""
        broker, problem = self.announcements.connected, self.bucket.problem
        return {"live": broker and problem is None, "broker": broker, "s3": problem, "filling": self.filling.progress()}

    def _on_stored(self, faces: list[IndexedFace]) -> None:
        for face in self.index.add(faces):
            self.changes.publish("face", as_json.of_face(face))

    def _on_found(self, faces: list[IndexedFace]) -> None:
        if len(faces) > MAX_EVENTS:
            self.changes.publish("reset", {})
        else:
            for face in faces:
                self.changes.publish("face", as_json.of_face(face))

    def _on_removed(self, names: Sequence[Name]) -> None:
        self.changes.publish("deleted", {"faces": [as_json.of_name(*name) for name in names]})

    def _on_status(self, topic: str, payload: bytes) -> None:
        if self.devices.update(topic, payload):
            self._have_devices_changed = True
