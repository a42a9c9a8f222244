"""The detector: camera, model, tracker and custody, one frame after another."""

import itertools
import threading
import time
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import structlog

from edge.detector.crop import clamp, crop, encode_jpeg
from edge.detector.custody import Custody
from edge.detector.frame import Camera, Frame
from edge.detector.settings import DetectorSettings
from edge.detector.tracker import Tracker
from edge.detector.yunet import MODEL, Detection, FaceDetector
from wire import status, topics
from wire.errors import ConfigurationError
from wire.face import Face, mint_id
from wire.process import Stop, spawn
from wire.topics import Origin

STATUS_SECONDS = 2.0
FINISH_SECONDS = 60.0
"""How long a detector without a camera goes on for the faces that an earlier run has left."""

_log = structlog.get_logger("detector")


class Detector:
    """Looks at each frame and hands over the faces that are due."""

    def __init__(
        self, settings: DetectorSettings, camera: Camera, model: FaceDetector, custody: Custody, stop: Stop
    ) -> None:
        self.frames = 0
        self.faces = 0
        """Detections of the size that counts, sent or not."""
        self.sent = 0
        """Faces handed over to custody."""
        self.last_frame_at = time.monotonic()
        """When the last frame came, on the monotonic clock."""
        self.film_is_over = False
        """The camera has ended; the last receipts are awaited."""
        self._settings, self._camera, self._model, self._custody, self._stop = settings, camera, model, custody, stop
        self._tracker = Tracker(settings.face_interval)
        self._origin = Origin(settings.device_id, settings.camera_name)
        self._finished = threading.Event()

    def run(self) -> None:
        """Work until the camera ends and every face has reached its goal, or until asked to stop."""
        frames = self._camera.frames(self._stop)
        try:
            first = next(frames, None)  # before anything is connected: without a camera there is nothing to start
            if first is not None:
                self._work(itertools.chain((first,), frames))
        except ConfigurationError as mistake:
            if self.frames == 0 and self._custody.pending:
                _log.error("no camera; first the faces that wait in the outbox", reason=str(mistake))
                self._custody.start()
                self._custody.finish(self._stop, FINISH_SECONDS)
            raise
        finally:
            self._custody.close()

    def _work(self, frames: Iterable[Frame]) -> None:
        self._custody.start()
        reporter = spawn("status", self._report_until_finished, self._stop)
        try:
            for frame in frames:
                self.step(frame)
            self.film_is_over = True
            if not self._stop:
                _log.info("the camera has ended, waiting for the last receipts", **self.facts())
            self._custody.finish(self._stop)
        finally:
            self._finished.set()
            reporter.join()
            _log.info("ended", **self.facts())

    def step(self, frame: Frame) -> list[Face]:
        """Find the faces of one frame and hand over those that are due."""
        self.last_frame_at = time.monotonic()
        if frame.new_scene:
            self._tracker.forget()
        least = self._settings.face_min_size
        detections = [found for found in self._model.detect(frame.image) if min(found.box[2:]) >= least]
        tracks = self._tracker.follow([found.box for found in detections], frame.clock)
        due = [
            self._face(frame, found, track.number)
            for found, track in zip(detections, tracks, strict=True)
            if self._tracker.is_due(track, frame.clock)
        ]
        if due:
            self._custody.keep(due)
        self.frames += 1
        self.faces += len(detections)
        self.sent += len(due)
        return due

    def _face(self, frame: Frame, found: Detection, track: int) -> Face:
        settings, (height, width) = self._settings, frame.image.shape[:2]
        captured_at = _whole_milliseconds(frame.captured_at)
        first, second, third, fourth, fifth = found.landmarks
        return Face(
            id=mint_id(captured_at),
            origin=self._origin,
            captured_at=captured_at,
            jpeg=encode_jpeg(
                crop(frame.image, found.box, settings.face_margin), settings.face_jpeg_quality, settings.face_max_bytes
            ),
            confidence=found.confidence,
            box=clamp(found.box, width, height),
            landmarks=(first, second, third, fourth, fifth),
            framesize=(width, height),
            track=track,
            model=MODEL,
            latitude=settings.device_latitude,
            longitude=settings.device_longitude,
        )

    def _report_until_finished(self) -> None:
        reported: dict[str, object] = {}
        while True:
            finished = self._finished.wait(STATUS_SECONDS)
            facts = self.facts()
            if facts != reported and self._custody.session.connected:
                topic = topics.status("detector", self._origin.camera)
                self._custody.session.publish(topic, status.encode(**facts), qos=1, retain=True)
                reported = facts
            if finished:
                return

    @property
    def linked(self) -> bool:
        """Whether the local broker can be reached."""
        return self._custody.session.connected

    def facts(self) -> dict[str, Any]:
        """Return what status tells of the detector."""
        return {
            "frames": self.frames,
            "skipped": self._camera.skipped,
            "reopened": self._camera.reopened,
            "faces": self.faces,
            "sent": self.sent,
            **self._custody.facts(),
        }


def _whole_milliseconds(moment: datetime) -> datetime:
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
