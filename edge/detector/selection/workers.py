"""Search workers: search frames in parallel and yield them in the order in which they were captured.

One thread captures frames and ``DETECT_THREADS`` threads search them. The capture thread decides frame by frame which
ones are searched, so a recording gives the same faces with any number of threads.
"""

import contextlib
import queue
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

from edge.detector.camera.frame import Camera, Frame
from edge.detector.model.yunet import Detection, FaceDetector
from edge.detector.selection.motion_gate import MotionGate
from wire.process.lifecycle import Stop

_MAX_STOP_SECONDS = 2.0
"""Maximum time for the camera to end after the process was asked to stop."""
_READ_AHEAD_FRAMES = 2
"""Frames of a recording that are read before a worker is free. Those of a live camera would be out of date by then."""
_POLL_SECONDS = 0.1

_Captured = tuple[Frame, Future[list[Detection]] | None]


@dataclass(frozen=True, slots=True)
class SearchedFrame:
    """A frame and the detections in it."""

    frame: Frame
    detections: list[Detection] | None
    """None if the frame was not searched because nothing had moved."""


class SearchWorkers:
    """Captures and searches the frames of a camera."""

    def __init__(self, camera: Camera, model: FaceDetector, motion_gate: MotionGate, threads: int, stop: Stop) -> None:
        self._camera, self._model, self._motion_gate, self._stop = camera, model, motion_gate, stop
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="search")
        self._slots: queue.SimpleQueue[None] = queue.SimpleQueue()
        """One item for each frame that may be captured now. Unlike a semaphore, this queue is implemented in C."""
        for _ in range(threads + (0 if camera.is_live else _READ_AHEAD_FRAMES)):
            self._slots.put(None)
        self._captured: queue.SimpleQueue[_Captured | BaseException | None] = queue.SimpleQueue()
        """Each captured frame with its search, if it is searched; then None, or why the camera failed."""

    def frames(self) -> Iterator[SearchedFrame | float]:
        """Yield every frame of the camera in order. Raise what the camera raises.

        While a live camera gives no frame, yield the seconds since the last one was processed, several times a second.
        """
        threading.Thread(target=self._capture, name="capture", daemon=True).start()
        idle_seconds = 0.0
        try:
            while True:
                try:
                    captured = self._captured.get(timeout=_POLL_SECONDS)
                except queue.Empty:
                    idle_seconds += _POLL_SECONDS
                    if self._stop and idle_seconds > _MAX_STOP_SECONDS:
                        return
                    if self._camera.is_live:
                        yield idle_seconds
                    continue
                if captured is None:
                    return
                if isinstance(captured, BaseException):
                    raise captured
                idle_seconds = 0.0
                frame, search = captured
                yield SearchedFrame(frame, None if search is None else search.result())
                self._slots.put(None)
        finally:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _capture(self) -> None:
        frames = self._camera.frames(self._stop)
        try:
            # The slot comes first: the frame is then the newest one at the time when it can be searched.
            while self._await_slot() and (frame := next(frames, None)) is not None:
                needs_search = self._motion_gate.needs_search(frame)
                if self._motion_gate.is_cut:
                    frame = replace(frame, after_cut=True)
                self._camera.reduced_rate = self._motion_gate.is_still(frame.clock)
                search = self._pool.submit(self._model.detect, frame.image) if needs_search else None
                self._captured.put((frame, search))
        except BaseException as failure:  # noqa: BLE001 (raised again by the thread that reads the frames)
            self._captured.put(failure)
        else:
            self._captured.put(None)

    def _await_slot(self) -> bool:
        """Wait until another frame may be captured, and return whether one may; False if the process is stopping."""
        while not self._stop:
            with contextlib.suppress(queue.Empty):
                self._slots.get(timeout=_POLL_SECONDS)
                return True
        return False
