"""When the detector is healthy: frames arrive."""

import time

from edge.detector.detector import Detector

MAX_FRAME_SECONDS = 10.0
"""A detector that has had no frame for longer than this is unhealthy."""


def health_problem(detector: Detector) -> str | None:
    """Return why ``detector`` is unhealthy, in one line; None if it is healthy."""
    if detector.camera_ended:
        return None
    silent = time.monotonic() - detector.last_frame_at
    return f"no frame for {silent:.0f} s" if silent > MAX_FRAME_SECONDS else None
