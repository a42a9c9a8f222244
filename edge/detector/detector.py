"""The detector: finds faces in a camera's frames, tracks them, and stores their best pictures for delivery.

Frames are captured, searched, tracked and stored in separate threads. The queues between them are short.
"""

import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable
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
from edge.detector.stages import ObserveAge, Stage, ignore_age
from wire import status, topics
from wire.errors import ConfigurationError
from wire.face import CORRECTED, UNKNOWN, Face, digest_of
from wire.ids import new_id
from wire.process import clock
from wire.process.lifecycle import STOP_SECONDS, Stop, spawn
from wire.timestamps import format_time
from wire.topics import Origin

STATUS_SECONDS = 2.0
"""Minimum interval between status messages. The maximum is :data:`wire.status.REPEAT_SECONDS`."""
MAX_DELIVERY_SECONDS_WITHOUT_CAMERA = 60.0
"""Time to deliver the faces of an earlier run if the camera gives no frame."""
MAX_DEFAULT_THREADS = 4
"""Maximum number of search threads if ``DETECT_THREADS`` is not set."""
_MAX_QUEUED_BATCHES = 16
"""Batches of candidates that may wait for the outbox. When the queue is full, tracking waits for the disk."""

_log = structlog.get_logger("detector")


class Detector:
    """Searches every frame for faces and hands the selected ones over to delivery."""

    def __init__(
        self,
        settings: DetectorSettings,
        open_camera: Callable[[], Camera],
        load_model: Callable[[], FaceDetector],
        delivery: Delivery,
        stop: Stop,
        observe_age: ObserveAge = ignore_age,
    ) -> None:
        """Set up the detector. The camera is opened and the model is loaded by :meth:`run`."""
        self.frames = 0
        """Frames processed."""
        self.still = 0
        """Processed frames that were not searched because nothing had moved."""
        self.sent = 0
        """Faces handed over to delivery."""
        self.last_face_at: datetime | None = None
        """Capture time of the last of them; None before the first, and while the clock is not set."""
        self.last_frame_at = time.monotonic()
        """Time of the last frame, or of the start, on the monotonic clock."""
        self.camera_ended = False
        """Whether the camera has ended and only receipts are awaited."""
        self.status_at = time.monotonic()
        """Time when the fields of the status were last read, on the monotonic clock."""
        self.outbox_problem = ""
        """Problem of the outbox at that time, such as «disk full»; empty if there was none."""
        self._settings, self._delivery, self._stop = settings, delivery, stop
        self._open_camera, self._load_model, self._observe_age = open_camera, load_model, observe_age
        self._camera: Camera | None = None
        self._scene = Scene(settings)
        self._origin = Origin(settings.device_id, settings.camera_name)
        self._to_store: queue.Queue[list[Candidate] | None] = queue.Queue(_MAX_QUEUED_BATCHES)
        """Candidates for the store thread; None ends it."""
        self._finished = threading.Event()
        self._has_warned_of_clock = False

    def run(self) -> None:
        """Run until the camera has ended and every face is delivered, or until asked to stop.

        The faces of an earlier run are delivered from the start, whether the camera gives frames or not.

        Raises:
            ConfigurationError: the camera does not exist, nothing in it can be read, or it hangs again and again; or
                the model cannot be loaded.
        """
        status_thread = spawn("status", self._publish_status_until_finished, self._stop)
        try:
            self._delivery.start()
            self._process_camera()
            self.camera_ended = True
            if not self._stop:
                _log.info("camera ended, waiting for receipts", **self.stats())
            self._delivery.finish(self._stop)
        except ConfigurationError as error:
            if self.frames == 0 and self._delivery.pending:
                _log.error("no camera, delivering the faces in the outbox before exiting", reason=str(error))
                self._delivery.finish(self._stop, MAX_DELIVERY_SECONDS_WITHOUT_CAMERA)
            raise
        finally:
            self._finished.set()
            status_thread.join()
            _log.info("ended", **self.stats())
            self._delivery.close()

    def _process_camera(self) -> None:
        """Process the camera's frames until they end. The faces found so far are stored, however it ends."""
        self._camera, model = self._open_camera(), self._load_model()
        self._scene.load()
        usable_cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        threads = self._settings.detect_threads or min(usable_cpus, MAX_DEFAULT_THREADS)
        motion_gate = MotionGate(self._settings.face_interval)
        workers = SearchWorkers(self._camera, model, motion_gate, threads, self._stop)
        self.last_frame_at = time.monotonic()
        store_thread = spawn("store", self._store_queued, self._stop)
        try:
            for searched in workers.frames():
                self._enqueue(self._scene.wait(searched) if isinstance(searched, float) else self._track(searched))
        finally:
            self._enqueue(self._scene.end())
            self._enqueue(None)
            store_thread.join(STOP_SECONDS if self._stop else None)

    def _track(self, searched: SearchedFrame) -> list[Candidate]:
        self.last_frame_at = time.monotonic()
        self.frames += 1
        self.still += searched.detections is None
        if searched.detections:
            self._observe_age(Stage.DETECTED, clock.seconds_since_boot() - searched.frame.captured_at)
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
            newest = max(face.captured_at for face in faces)
            self.last_face_at = newest if clock.is_set(newest) else None
            for candidate in candidates:
                self._observe_age(Stage.STORED, clock.seconds_since_boot() - candidate.captured_at)

    def _make_face(self, candidate: Candidate) -> Face:
        settings, detection = self._settings, candidate.detection
        captured_at = clock.true_time(candidate.captured_at)
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
            clock=self._clock_of(candidate, captured_at),
            quality=candidate.quality,
        )

    def _clock_of(self, candidate: Candidate, captured_at: datetime) -> str | None:
        """Return the attribute ``clock`` of a face.

        With an outbox, a face keeps its implausible time there until the clock is set, and is then given its true time.
        """
        if clock.is_set(captured_at):
            return None if candidate.is_clock_set else CORRECTED
        return UNKNOWN if self._settings.mqtt_qos == 0 else None

    def _publish_status_until_finished(self) -> None:
        """Publish the status when it has changed, and regularly, as it expires in the brokers."""
        published: dict[str, object] = {}
        published_at = 0.0
        finished = False
        while not finished:
            finished = self._finished.wait(STATUS_SECONDS)
            self._report_clock()
            stats = self.stats()
            self.status_at, self.outbox_problem = time.monotonic(), stats.get("outbox_problem") or ""
            is_due = self.status_at - published_at >= status.REPEAT_SECONDS
            if not self.connected:
                published = {}  # the broker has replaced the status by the last will
            elif stats != published or is_due:
                topic = topics.status("detector", self._origin.camera)
                payload, properties = status.encode(**stats), status.PROPERTIES
                self._delivery.session.publish(topic, payload, qos=1, retain=True, properties=properties)
                published, published_at = stats, self.status_at

    def _report_clock(self) -> None:
        """Log once that the clock is not set, and once that it has been set."""
        moment = clock.now()
        if clock.is_set(moment) == self._has_warned_of_clock:
            self._has_warned_of_clock = not self._has_warned_of_clock
            if self._has_warned_of_clock:
                _log.warning("clock not set", time=format_time(moment))
            else:
                _log.info("clock set", time=format_time(moment))

    @property
    def connected(self) -> bool:
        """Whether the local broker is connected."""
        return self._delivery.session.connected

    def stats(self) -> dict[str, Any]:
        """Return the fields of the detector's status."""
        faces = self._scene.faces  # read before the frames: a frame is counted before its faces
        camera = self._camera
        last_face_at = self.last_face_at
        ignored = 0 if camera is None else camera.ignored
        return {
            "frames": self.frames + ignored,
            "still": self.still + ignored,
            "skipped": 0 if camera is None else camera.skipped,
            "reopened": 0 if camera is None else camera.reopened,
            "spoiled": 0 if camera is None else camera.corrupt,
            "faces": faces,
            "doubted": self._scene.false_positives,
            "sent": self.sent,
            "last_face": None if last_face_at is None else format_time(last_face_at),
            "clock": "set" if clock.is_set(clock.now()) else "not set",
            **self._delivery.stats(),
        }
