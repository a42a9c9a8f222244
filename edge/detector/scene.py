"""What a camera sees, frame after frame: faces that are followed, and the pictures of them that are due.

It has no threads and no clock but that of the frames, so that a film gives the same pictures on any machine.
"""

from collections.abc import Sequence

from edge.detector.frame import Frame
from edge.detector.settings import DetectorSettings
from edge.detector.shots import BestShots, Shot, quality_of, shot_of
from edge.detector.tracker import Tracker, look_of
from edge.detector.yunet import Detection

WEAK_CONFIDENCE = 0.4
"""The score from which a detection keeps the number of a face that was seen before; it is never sent."""


class Scene:
    """Follows faces and picks their pictures."""

    def __init__(self, settings: DetectorSettings) -> None:
        self.faces = 0
        """Detections that count, by score and size, sent or not."""
        self._settings = settings
        self._tracker = Tracker()
        self._shots = BestShots(settings.face_interval)

    def see(self, frame: Frame, detections: Sequence[Detection] | None) -> list[Shot]:
        """Take one frame and return the shots that are due, of this frame or of earlier ones.

        Args:
            frame: the next one of the camera.
            detections: what was found in it; None where nothing has moved and it was not searched.
        """
        shots = self.end() if frame.new_scene else []
        if detections is None:
            self._tracker.rest(frame.clock)
            return shots + self._shots.due(frame.clock)
        return shots + self._shots.due(frame.clock) + self._follow(frame, detections) + self._gone()

    def pause(self) -> list[Shot]:
        """Return what is kept of every face, as the camera gives no frames; it may be the same scene that goes on."""
        return self._shots.flush()

    def end(self) -> list[Shot]:
        """Return what is kept of every face, and forget them all: what comes next is another scene, or nothing."""
        self._tracker.forget()
        return self._shots.end()

    def _follow(self, frame: Frame, detections: Sequence[Detection]) -> list[Shot]:
        settings, clock = self._settings, frame.clock
        large = [found for found in detections if min(found.box[2:]) >= settings.face_min_size]
        firm = [found for found in large if found.confidence >= settings.face_confidence]
        weak = [found for found in large if found.confidence < settings.face_confidence]
        self.faces += len(firm)
        tracks = self._tracker.follow(
            [found.box for found in firm], clock, [look_of(frame.image, found.box) for found in firm]
        )
        self._tracker.linger([found.box for found in weak], clock, [look_of(frame.image, found.box) for found in weak])
        shots = []
        for found, track in zip(firm, tracks, strict=True):
            quality = quality_of(frame.image, found) if settings.face_interval > 0 else 0.0
            if self._shots.wants(track.number, quality):
                shots += self._shots.offer(shot_of(frame, found, track.number, settings.face_margin, quality), clock)
        return shots

    def _gone(self) -> list[Shot]:
        """Return what is kept of faces that are no longer looked for."""
        return [
            shot for number in self._shots.tracks if not self._tracker.knows(number) for shot in self._shots.end(number)
        ]
