"""The stages that a face passes in the detector, and how their latency is reported."""

from collections.abc import Callable
from enum import StrEnum


class Stage(StrEnum):
    """A point that a face passes."""

    DETECTED = "detected"
    """The frame has been searched, and the frames before it too."""
    STORED = "stored"
    """The face is committed to the outbox. With ``FACE_INTERVAL``, its best picture was awaited before."""
    PUBLISHED = "published"
    """It is published. A face that is sent again counts again."""
    RECEIPTED = "receipted"
    """Its receipt has arrived."""


ObserveAge = Callable[[Stage, float], None]
"""Called with the seconds between the capture of a frame and the moment when its face has passed a stage."""


def ignore_age(stage: Stage, seconds: float) -> None:
    """Ignore the age: no metrics are served."""
