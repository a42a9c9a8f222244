"""Frames are captured, searched side by side, and handed on in their order.

One thread captures, ``DETECT_THREADS`` search, and whoever takes the frames has a thread of their own. Which frames are
searched is settled before, frame by frame, so that a film gives the same faces with any number of threads.
"""

import queue
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from edge.detector.camera.frame import Camera, Frame
from edge.detector.model.yunet import Detection, FaceDetector
from edge.detector.selection.motion_gate import MotionGate
from wire.process.lifecycle import Stop

IDLE_SECONDS = 1.0
"""A camera without a frame for this long is said to be idle."""
_GIVE_UP_SECONDS = 2.0
"""How long a camera may take to notice that the process is to stop."""
_FILM_AHEAD_FRAMES = 2
"""Frames of a film that are ready when a searching thread wants one; those of a live camera would grow old."""
_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class SearchedFrame:
    """A frame, and what was found in it."""

    frame: Frame
    detections: list[Detection] | None
    """None: nothing had moved, and it was not searched."""


class SearchWorkers:
    """A camera whose frames are searched."""

    def __init__(self, camera: Camera, model: FaceDetector, motion_gate: MotionGate, threads: int, stop: Stop) -> None:
        self._camera, self._model, self._motion_gate, self._stop = camera, model, motion_gate, stop
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="search")
        self._room: queue.SimpleQueue[None] = queue.SimpleQueue()
        """One for each frame that may still be taken; in C, unlike a semaphore."""
        for _ in range(threads + (0 if camera.is_live else _FILM_AHEAD_FRAMES)):
            self._room.put(None)
        self._taken: queue.SimpleQueue[tuple[Frame, Future[list[Detection]] | None] | None] = queue.SimpleQueue()
        self._failure: BaseException | None = None

    def frames(self) -> Iterator[SearchedFrame | None]:
        """Yield every frame that the camera gives; None where a live camera is idle.

        Raises:
            ConfigurationError: there is no such camera, or nothing in it that can be read.
        """
        thread = threading.Thread(target=self._capture, name="capture", daemon=True)
        thread.start()
        silent_seconds = 0.0
        try:
            while True:
                try:
                    taken = self._taken.get(timeout=_POLL_SECONDS)
                except queue.Empty:
                    silent_seconds += _POLL_SECONDS
                    if self._stop and silent_seconds > _GIVE_UP_SECONDS:
                        return
                    if self._camera.is_live and silent_seconds > IDLE_SECONDS:
                        yield None
                    continue
                if taken is None:
                    break
                silent_seconds = 0.0
                frame, search = taken
                yield SearchedFrame(frame, None if search is None else search.result())
                self._room.put(None)
        finally:
            self._pool.shutdown(wait=False, cancel_futures=True)
        if self._failure is not None:
            raise self._failure

    def _capture(self) -> None:
        frames = self._camera.frames(self._stop)
        try:
            # Room first, the frame then: a live camera gives the newest one.
            while self._has_room() and (frame := next(frames, None)) is not None:
                is_searched = self._motion_gate.needs_search(frame)
                self._camera.resting = self._motion_gate.is_at_rest(frame.clock)
                self._taken.put((frame, self._pool.submit(self._model.detect, frame.image) if is_searched else None))
        except BaseException as failure:  # noqa: BLE001 (raised where the frames are taken)
            self._failure = failure
        finally:
            self._taken.put(None)

    def _has_room(self) -> bool:
        while not self._stop:
            try:
                self._room.get(timeout=_POLL_SECONDS)
                return True
            except queue.Empty:
                continue
        return False
