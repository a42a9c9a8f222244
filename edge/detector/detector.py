"""The detector: a camera is searched, its faces are followed, and the pictures that are due go into custody.

Capture, search, following, and custody each have their own threads, with little room between them.
"""

import itertools
import os
import queue
import threading
import time
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import structlog

from edge.detector.camera.frame import Camera
from edge.detector.delivery.delivery import Delivery
from edge.detector.model.yunet import MODEL, FaceDetector
from edge.detector.selection.best_shot import Candidate
from edge.detector.selection.crop import clamp, encode_jpeg
from edge.detector.selection.motion_gate import MotionGate
from edge.detector.selection.scene import Scene
from edge.detector.selection.workers import SearchedFrame, SearchWorkers
from edge.detector.settings import DetectorSettings
from wire import status, topics
from wire.errors import ConfigurationError
from wire.face import Face, mint_id
from wire.process.lifecycle import STOP_SECONDS, Stop, spawn
from wire.topics import Origin

STATUS_SECONDS = 2.0
FINISH_SECONDS = 60.0
"""How long a detector without a camera goes on for the faces that an earlier run has left."""
MAX_DEFAULT_THREADS = 4
"""Of those that search, unless more are asked for."""
_MAX_QUEUED_FRAMES = 16
"""Frames with shots that are due and not yet in custody: then whoever follows the faces waits for the disk."""

_log = structlog.get_logger("detector")


class Detector:
    """Looks at each frame and hands over the faces that are due."""

    def __init__(
        self, settings: DetectorSettings, camera: Camera, model: FaceDetector, delivery: Delivery, stop: Stop
    ) -> None:
        self.frames = 0
        self.still = 0
        """Frames among them that were not searched, since nothing had moved."""
        self.sent = 0
        """Faces handed over to custody."""
        self.last_frame_at = time.monotonic()
        """When the last frame came, on the monotonic clock."""
        self.film_is_over = False
        """The camera has ended; the last receipts are awaited."""
        self._settings, self._camera, self._model, self._delivery, self._stop = settings, camera, model, delivery, stop
        self._motion_gate = MotionGate(settings.face_interval)
        self._scene = Scene(settings)
        self._origin = Origin(settings.device_id, settings.camera_name)
        self._due: queue.Queue[list[Candidate] | None] = queue.Queue(_MAX_QUEUED_FRAMES)
        self._finished = threading.Event()

    def run(self) -> None:
        """Work until the camera ends and every face has reached its goal, or until asked to stop."""
        threads = self._settings.detect_threads or min(_cores(), MAX_DEFAULT_THREADS)
        frames = SearchWorkers(self._camera, self._model, self._motion_gate, threads, self._stop).frames()
        try:
            # Before anything is connected: without a camera there is nothing to start.
            first = next((seen for seen in frames if seen is not None), None)
            if first is not None:
                self._work(itertools.chain((first,), frames))
        except ConfigurationError as mistake:
            if self.frames == 0 and self._delivery.pending:
                _log.error("no camera; first the faces that wait in the outbox", reason=str(mistake))
                self._delivery.start()
                self._delivery.finish(self._stop, FINISH_SECONDS)
            raise
        finally:
            self._delivery.close()

    def _work(self, frames: Iterable[SearchedFrame | None]) -> None:
        self._delivery.start()
        reporter = spawn("status", self._report_until_finished, self._stop)
        renewal = spawn("keeper", self._keep_what_is_due, self._stop)
        try:
            try:
                for seen in frames:
                    self._pass_on(self._see(seen) if seen is not None else self._scene.pause())
            finally:
                self._pass_on(self._scene.end())
                self._pass_on(None)
                renewal.join(STOP_SECONDS if self._stop else None)
            self.film_is_over = True
            if not self._stop:
                _log.info("the camera has ended, waiting for the last receipts", **self.stats())
            self._delivery.finish(self._stop)
        finally:
            self._finished.set()
            reporter.join()
            _log.info("ended", **self.stats())

    def _see(self, seen: SearchedFrame) -> list[Candidate]:
        self.last_frame_at = time.monotonic()
        self.frames += 1
        self.still += seen.detections is None
        return self._scene.see(seen.frame, seen.detections)

    def _pass_on(self, candidates: list[Candidate] | None) -> None:
        """Hand shots to the thread that keeps them; None ends it."""
        waiting = candidates is None or bool(candidates)
        while waiting and not self._stop.failure:
            try:
                self._due.put(candidates, timeout=STATUS_SECONDS)
                waiting = False
            except queue.Full:  # the disk is slow, or whoever keeps has failed
                continue

    def _keep_what_is_due(self) -> None:
        while (candidates := self._due.get()) is not None:
            self._keep(candidates)

    def _keep(self, candidates: list[Candidate]) -> list[Face]:
        """Commit the faces that are due at one frame, all of them at once."""
        faces = [self._face(candidate) for candidate in candidates]
        if faces:
            self._delivery.store(faces)
        self.sent += len(faces)
        return faces

    def _face(self, candidate: Candidate) -> Face:
        settings, found = self._settings, candidate.found
        captured_at = _whole_milliseconds(candidate.captured_at)
        first, second, third, fourth, fifth = found.landmarks
        return Face(
            id=mint_id(captured_at),
            origin=self._origin,
            captured_at=captured_at,
            jpeg=encode_jpeg(candidate.picture, settings.face_jpeg_quality, settings.face_max_bytes),
            confidence=found.confidence,
            box=clamp(found.box, *candidate.framesize),
            landmarks=(first, second, third, fourth, fifth),
            framesize=candidate.framesize,
            track=candidate.track,
            model=MODEL,
            latitude=settings.device_latitude,
            longitude=settings.device_longitude,
        )

    def _report_until_finished(self) -> None:
        reported: dict[str, object] = {}
        while True:
            finished = self._finished.wait(STATUS_SECONDS)
            stats = self.stats()
            if stats != reported and self._delivery.session.connected:
                topic = topics.status("detector", self._origin.camera)
                self._delivery.session.publish(topic, status.encode(**stats), qos=1, retain=True)
                reported = stats
            if finished:
                return

    @property
    def linked(self) -> bool:
        """Whether the local broker can be reached."""
        return self._delivery.session.connected

    def stats(self) -> dict[str, Any]:
        """Return what status tells of the detector."""
        faces = self._scene.faces  # before the frames, which are counted first
        return {
            "frames": self.frames + self._camera.passed,
            "still": self.still + self._camera.passed,
            "skipped": self._camera.skipped,
            "reopened": self._camera.reopened,
            "spoiled": self._camera.spoiled,
            "faces": faces,
            "doubted": self._scene.doubted,
            "sent": self.sent,
            **self._delivery.stats(),
        }


def _whole_milliseconds(moment: datetime) -> datetime:
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def _cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
