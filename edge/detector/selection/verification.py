"""Verifies that what the model takes for a face is the face of a person, and not that of a dog or a cat.

A second, small network looks at the face once it appears (:mod:`edge.detector.model.verifier`). If it agrees, the track
is verified and is never looked at again, so the cost is one look for each person. If it does not, the track is in
doubt: nothing of it is sent, and it is looked at again in later frames. The log odds of all looks are added up, so one
good view of a person's face outweighs a bad one, while an animal would have to look like a person several times.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from edge.detector.camera.frame import Image
from edge.detector.model.verifier import FaceVerifier
from edge.detector.model.yunet import Detection

MIN_SINGLE_FRAME_CONFIDENCE = 0.8
"""Score from which a face is sent at first sight. Below it, the face must be detected in a second frame."""
_FIRST_LOOKS = 4
"""A track is looked at in this many frames in a row before looks are rarer."""
_INTERVAL_SECONDS = 0.5
"""Interval between the looks after these."""
_MIN_EVIDENCE = -4.0
"""Lower limit of the sum of the log odds: somebody who turns to the camera after a long time is verified soon."""


@dataclass(slots=True)
class _Doubt:
    """A track that is not verified."""

    evidence: float
    """Sum of the log odds of all looks."""
    looks: int
    last_look: float
    """Time of the last look, in seconds on the camera's clock."""


class Verification:
    """Decides for each track whether its face is that of a person."""

    def __init__(self, load: Callable[[], FaceVerifier] = FaceVerifier) -> None:
        """Set up the verification. ``load`` loads the model at the first look, or in :meth:`load`."""
        self._load = load
        self._verified: set[int] = set()
        """Numbers of the verified tracks."""
        self._doubts: dict[int, _Doubt] = {}
        """The other tracks, by number."""

    @cached_property
    def _verifier(self) -> FaceVerifier:
        return self._load()

    def load(self) -> None:
        """Load the model.

        Raises:
            ConfigurationError: the model file is missing or damaged.
        """
        _ = self._verifier

    def accepts(self, image: Image, detection: Detection, track: int, clock: float) -> bool:
        """Return whether a track is verified, after a look at its detection in ``image`` if that is due.

        ``clock`` is the frame's time in seconds.
        """
        if track in self._verified:
            return True
        doubt = self._doubts.setdefault(track, _Doubt(0.0, 0, clock))
        if doubt.looks >= _FIRST_LOOKS and clock - doubt.last_look < _INTERVAL_SECONDS:
            return False
        log_odds = self._verifier.log_odds(image, detection.box)
        doubt.evidence = max(doubt.evidence + log_odds, _MIN_EVIDENCE)
        doubt.looks, doubt.last_look = doubt.looks + 1, clock
        if doubt.evidence < 0:
            return False
        del self._doubts[track]
        self._verified.add(track)
        return True

    def forget(self, is_active: Callable[[int], bool] = lambda number: False) -> None:
        """Forget the tracks that have ended: those for which ``is_active`` returns False, by default all."""
        self._verified = {number for number in self._verified if is_active(number)}
        self._doubts = {number: doubt for number, doubt in self._doubts.items() if is_active(number)}
