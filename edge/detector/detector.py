"""The detector: finds faces in a camera's frames, tracks them, and stores their best pictures for delivery.

Frames are captured, searched, tracked and stored in separate threads. The queues between them are short.
"""

import contextlib
import itertools
import os
import queue
import threading
import time
from collections.abc import Iterable
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
from wire.face import Face, digest_of, new_id
from wire.process.lifecycle import STOP_SECONDS, Stop, spawn
from wire.topics import Origin

STATUS_SECONDS = 2.0
"""Interval between status messages, which are sent only if something has changed."""
MAX_DELIVERY_SECONDS_WITHOUT_CAMERA = 60.0
"""Time to deliver the faces of an earlier run if the camera cannot be opened."""
MAX_DEFAULT_THREADS = 4
"""Maximum number of search threads if ``DETECT_THREADS`` is not set."""
_MAX_QUEUED_BATCHES = 16
"""Batches of candidates that may wait for the outbox. When the queue is full, tracking waits for the disk."""

_log = structlog.get_logger("detector")


class Detector:
    """Searches every frame for faces and hands the selected ones over to delivery."""

    def __init__(
        self, settings: DetectorSettings, camera: Camera, model: FaceDetector, delivery: Delivery, stop: Stop
    ) -> None:
        self.frames = 0
        """Frames processed."""
        self.still = 0
        """Processed frames that were not searched because nothing had moved."""
        self.sent = 0
        """Faces handed over to delivery."""
        self.last_frame_at = time.monotonic()
        """Time of the last frame, on the monotonic clock."""
        self.camera_ended = False
        """Whether the camera has ended and only receipts are awaited."""
        self._settings, self._camera, self._model, self._delivery, self._stop = settings, camera, model, delivery, stop
        self._motion_gate = MotionGate(settings.face_interval)
        self._scene = Scene(settings)
        self._origin = Origin(settings.device_id, settings.camera_name)
        self._to_store: queue.Queue[list[Candidate] | None] = queue.Queue(_MAX_QUEUED_BATCHES)
        """Candidates for the store thread; None ends it."""
        self._finished = threading.Event()

    def run(self) -> None:
        """Run until the camera has ended and every face is delivered, or until asked to stop.

        Raises:
            ConfigurationError: the camera does not exist, or nothing in it can be read.
        """
        usable_cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        threads = self._settings.detect_threads or min(usable_cpus, MAX_DEFAULT_THREADS)
        frames = SearchWorkers(self._camera, self._model, self._motion_gate, threads, self._stop).frames()
        try:
            # Wait for the first frame before connecting: without a camera there is nothing to start.
            first = next((searched for searched in frames if searched is not None), None)
            if first is not None:
                self._process(itertools.chain((first,), frames))
        except ConfigurationError as error:
            if self.frames == 0 and self._delivery.pending:
                _log.error("no camera, delivering the faces in the outbox before exiting", reason=str(error))
                self._delivery.start()
                self._delivery.finish(self._stop, MAX_DELIVERY_SECONDS_WITHOUT_CAMERA)
            raise
        finally:
            self._delivery.close()

    def _process(self, frames: Iterable[SearchedFrame | None]) -> None:
        """Process frames until they end, then wait until every face is delivered. None: the camera is idle."""
        self._delivery.start()
        status_thread = spawn("status", self._publish_status_until_finished, self._stop)
        store_thread = spawn("store", self._store_queued, self._stop)
        try:
            try:
                for searched in frames:
                    self._enqueue(self._scene.flush() if searched is None else self._track(searched))
            finally:
                self._enqueue(self._scene.end())
                self._enqueue(None)
                store_thread.join(STOP_SECONDS if self._stop else None)
            self.camera_ended = True
            if not self._stop:
                _log.info("camera ended, waiting for receipts", **self.stats())
            self._delivery.finish(self._stop)
        finally:
            self._finished.set()
            status_thread.join()
            _log.info("ended", **self.stats())

    def _track(self, searched: SearchedFrame) -> list[Candidate]:
        self.last_frame_at = time.monotonic()
        self.frames += 1
        self.still += searched.detections is None
        return self._scene.update(searched.frame, searched.detections)

    def _enqueue(self, candidates: list[Candidate] | None) -> None:
        """Pass candidates to the store thread, and wait while its queue is full; None ends the thread."""
        while candidates != [] and not self._stop.failure:
            with contextlib.suppress(queue.Full):  # the disk is slow, or the store thread has failed
                self._to_store.put(candidates, timeout=STATUS_SECONDS)
                return

    def _store_queued(self) -> None:
        """Store batches until None ends the thread; the faces of a batch are committed together."""
        while (candidates := self._to_store.get()) is not None:
            faces = [self._make_face(candidate) for candidate in candidates]
            self._delivery.store(faces)
            self.sent += len(faces)

    def _make_face(self, candidate: Candidate) -> Face:
        settings, detection = self._settings, candidate.detection
        captured_at = candidate.captured_at.replace(microsecond=candidate.captured_at.microsecond // 1000 * 1000)
        right_eye, left_eye, nose, right_mouth, left_mouth = detection.landmarks
        jpeg = encode_jpeg(candidate.image, settings.face_jpeg_quality, settings.face_max_bytes)
        return Face(
            id=new_id(captured_at),
            origin=self._origin,
            captured_at=captured_at,
            jpeg=jpeg,
            confidence=detection.confidence,
            box=clamp(detection.box, *candidate.framesize),
            landmarks=(right_eye, left_eye, nose, right_mouth, left_mouth),
            framesize=candidate.framesize,
            track=candidate.track,
            model=MODEL,
            latitude=settings.device_latitude,
            longitude=settings.device_longitude,
            sha256=digest_of(jpeg),
        )

    def _publish_status_until_finished(self) -> None:
        published: dict[str, object] = {}
        finished = False
        while not finished:
            finished = self._finished.wait(STATUS_SECONDS)
            stats = self.stats()
            if stats != published and self.connected:
                topic = topics.status("detector", self._origin.camera)
                self._delivery.session.publish(topic, status.encode(**stats), qos=1, retain=True)
                published = stats

    @property
    def connected(self) -> bool:
        """Whether the local broker is connected."""
        return self._delivery.session.connected

    def stats(self) -> dict[str, Any]:
        """Return the fields of the detector's status."""
        faces = self._scene.faces  # read before the frames: a frame is counted before its faces
        return {
            "frames": self.frames + self._camera.ignored,
            "still": self.still + self._camera.ignored,
            "skipped": self._camera.skipped,
            "reopened": self._camera.reopened,
            "spoiled": self._camera.corrupt,
            "faces": faces,
            "doubted": self._scene.false_positives,
            "sent": self.sent,
            **self._delivery.stats(),
        }
