"""A light device: the detector's own delivery with its outbox, and faces that no camera has seen."""

import secrets
import threading
from datetime import UTC, datetime
from typing import Any

from demo.stack import CAMERA, DEVICE, Stack
from edge.detector.delivery.delivery import make_delivery
from edge.detector.settings import DetectorSettings
from tests.builders import make_face, make_jpeg
from wire import face
from wire.process.lifecycle import Stop, spawn
from wire.topics import Origin

FACE_PIXELS = 96


class Device:
    """Stores faces in an outbox at a constant rate, and delivers them to the local broker of a stack."""

    def __init__(self, stack: Stack, rate: float, **settings: str) -> None:
        """Prepare a device that makes ``rate`` faces a second."""
        self.stop = Stop()
        environ = stack.environ("detector", CAMERA_SOURCE="none", **settings)
        self._delivery = make_delivery(DetectorSettings.from_environment(environ), self.stop)
        self._interval = 1 / rate
        self._jpegs = [make_jpeg(FACE_PIXELS, FACE_PIXELS, seed) for seed in range(16)]
        self._made: list[str] = []
        self._no_more = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "Device":
        self._delivery.start()
        self._thread = spawn("device", self._run, self.stop)
        return self

    def __exit__(self, *failure: object) -> None:
        self.show_nobody()
        self.stop.set()
        self._delivery.close()
        assert self.stop.failure is None

    @property
    def made(self) -> list[str]:
        """The ids of all faces."""
        return list(self._made)

    @property
    def waiting(self) -> int:
        """Number of faces in the outbox."""
        return self._delivery.pending

    def stats(self) -> dict[str, Any]:
        """The fields of the detector's status."""
        return self._delivery.stats()

    def show_nobody(self) -> None:
        """Make no more faces."""
        self._no_more.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._no_more.wait(self._interval):
            now = datetime.now(UTC)
            captured_at = now.replace(microsecond=now.microsecond // 1000 * 1000)
            jpeg = self._jpegs[secrets.randbelow(len(self._jpegs))]
            made = make_face(
                jpeg=jpeg, origin=Origin(DEVICE, CAMERA), captured_at=captured_at, sha256=face.digest_of(jpeg)
            )
            self._delivery.store([made])
            self._made.append(made.id)
