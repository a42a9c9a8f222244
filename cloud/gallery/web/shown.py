"""What the web server requires of the gallery."""

from typing import Any, Protocol

from cloud.gallery.changes import Changes
from cloud.gallery.index.index import Index
from cloud.gallery.pictures import Pictures
from cloud.gallery.settings import GallerySettings


class DeviceList(Protocol):
    """The devices as their status messages describe them."""

    def list(self) -> list[dict[str, Any]]:
        """Return each device with its cameras, ready for JSON."""


class Shown(Protocol):
    """The parts of the gallery that the web server shows."""

    @property
    def settings(self) -> GallerySettings:
        """The settings."""

    @property
    def index(self) -> Index:
        """The index of the faces."""

    @property
    def pictures(self) -> Pictures:
        """The pictures in S3."""

    @property
    def devices(self) -> DeviceList:
        """The devices."""

    @property
    def changes(self) -> Changes:
        """The feed of changes."""

    def state(self) -> dict[str, Any]:
        """Return whether new faces arrive, and what is away, ready for JSON."""
