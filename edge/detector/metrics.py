"""The detector's metrics and its health."""

import math
import time
from collections.abc import Callable
from typing import Any

from edge.detector.detector import Detector
from wire.process.metrics import Metric, counter, gauge

FRAME_SECONDS = 10.0
"""A detector without a frame for this long makes no progress."""
_STATS_SECONDS = 0.1


def metrics_of(detector: Detector) -> list[Metric]:
    """Return what Prometheus is told of ``detector``."""
    stats = _StatsCache(detector)

    def fact(name: str) -> Callable[[], float]:
        return lambda: float(stats.now().get(name) or 0)

    return [
        counter("facewire_frames_total", "Frames looked at.", fact("frames")),
        counter("facewire_frames_still_total", "Frames not searched, as nothing had moved.", fact("still")),
        counter("facewire_frames_skipped_total", "Frames that nobody had time for.", fact("skipped")),
        counter("facewire_frames_spoiled_total", "Frames that are green, cut off or none.", fact("spoiled")),
        counter("facewire_camera_reopens_total", "Times the camera was opened again.", fact("reopened")),
        counter("facewire_faces_total", "Faces seen, sent or not.", fact("faces")),
        counter("facewire_faces_doubted_total", "Detections that are doubtful, not sent.", fact("doubted")),
        counter("facewire_faces_due_total", "Faces handed over to be sent.", fact("sent")),
        counter("facewire_faces_published_total", "Faces published, copies too.", fact("published")),
        counter("facewire_faces_resent_total", "Copies among them.", fact("resent")),
        counter("facewire_faces_receipted_total", "Faces that have been signed for.", fact("receipted")),
        counter("facewire_faces_unkept_total", "Faces that could not be committed.", fact("unkept")),
        gauge("facewire_faces_dropped", "Committed faces that gave way, unsigned.", fact("dropped")),
        gauge("facewire_faces_underway", "Faces published and not yet signed for.", fact("underway")),
        gauge("facewire_outbox_faces", "Faces in the outbox.", fact("outbox")),
        gauge("facewire_outbox_bytes", "What they take of its file.", fact("outbox_bytes")),
        gauge("facewire_link_up", "Whether the link to a broker is up.", lambda: detector.linked, broker="local"),
    ]


class _StatsCache:
    """The facts of one moment for all that is asked in one go: frames and faces agree, however fast they come."""

    def __init__(self, detector: Detector) -> None:
        self._detector, self._taken_at = detector, -math.inf
        self._stats: dict[str, Any] = {}

    def now(self) -> dict[str, Any]:
        """Return the facts, at most a tenth of a second old."""
        if time.monotonic() - self._taken_at > _STATS_SECONDS:
            self._stats, self._taken_at = self._detector.stats(), time.monotonic()
        return self._stats


def health_problem(detector: Detector) -> str | None:
    """Return what hinders ``detector``; None where it makes progress."""
    if detector.film_is_over:
        return None
    silent = time.monotonic() - detector.last_frame_at
    return f"no frame for {silent:.0f} s" if silent > FRAME_SECONDS else None
