"""When the detector is healthy: frames arrive, and the outbox works."""

import time

from edge.detector.detector import Detector

MAX_FRAME_SECONDS = 10.0
"""A detector that has had no frame for longer than this is unhealthy."""
MAX_OUTBOX_SECONDS = 10.0
"""A detector whose outbox has not answered for longer than this is unhealthy: the disk hangs."""


def health_problem(detector: Detector) -> str | None:
    """Return why ``detector`` is unhealthy, in one line; None if it is healthy.

    It does not use the outbox itself, which may hang or be closed already.
    """
    problems, now = [], time.monotonic()
    if detector.outbox_problem:
        problems.append(f"the outbox: {detector.outbox_problem}")
    if (hangs := now - detector.status_at) > MAX_OUTBOX_SECONDS:
        problems.append(f"the outbox has not answered for {hangs:.0f} s")
    if not detector.camera_ended and (silent := now - detector.last_frame_at) > MAX_FRAME_SECONDS:
        problems.append(f"no frame for {silent:.0f} s")
    return "; ".join(problems) or None
