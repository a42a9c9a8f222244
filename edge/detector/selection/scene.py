"""What a camera sees, frame after frame: faces that are followed, and the pictures of them that are due.

It has no threads and no clock but that of the frames, so that a film gives the same pictures on any machine.
"""

from collections.abc import Sequence

from edge.detector.camera.frame import Frame
from edge.detector.model.yunet import Detection
from edge.detector.selection.best_shot import BestShotSelector, Candidate, make_candidate, picture_quality
from edge.detector.selection.false_positives import PASSING, is_false_positive
from edge.detector.selection.tracker import Tracker, appearance_of
from edge.detector.settings import DetectorSettings

WEAK_CONFIDENCE = 0.4
"""The score from which a detection keeps the number of a face that was seen before; it is never sent."""


class Scene:
    """Follows faces and picks their pictures."""

    def __init__(self, settings: DetectorSettings) -> None:
        self.faces = 0
        """Detections that count, by score and size, sent or not."""
        self.doubted = 0
        """Detections that would count but for their landmarks, or for being seen only once."""
        self._settings = settings
        self._tracker = Tracker()
        self._best_shots = BestShotSelector(settings.face_interval)
        self._doubts = settings.face_interval > 0  # 0 sends every detection
        self._held: dict[int, Candidate] = {}
        """The first shots of faces that count once they are seen again."""
        self._searched = 0
        """Frames of this scene that were searched."""

    def see(self, frame: Frame, detections: Sequence[Detection] | None) -> list[Candidate]:
        """Take one frame and return the shots that are due, of this frame or of earlier ones.

        Args:
            frame: the next one of the camera.
            detections: what was found in it; None where nothing has moved and it was not searched.
        """
        candidates = self.end() if frame.new_scene else []
        if detections is None:
            self._tracker.rest(frame.clock)
            return candidates + self._best_shots.due(frame.clock)
        return candidates + self._best_shots.due(frame.clock) + self._follow(frame, detections) + self._gone()

    def pause(self) -> list[Candidate]:
        """Return what is kept of every face, as the camera gives no frames; it may be the same scene that goes on."""
        return self._best_shots.flush()

    def end(self) -> list[Candidate]:
        """Return what is kept of every face, and forget them all: what comes next is another scene, or nothing."""
        self._tracker.forget()
        # In a scene of one picture nobody could be seen again.
        held = [candidate for candidate in self._held.values() if self._searched == 1]
        self.doubted += len(self._held) - len(held)
        self._held.clear()
        self._searched = 0
        return self._best_shots.end() + held

    def _follow(self, frame: Frame, detections: Sequence[Detection]) -> list[Candidate]:
        settings, clock = self._settings, frame.clock
        self._searched += 1
        large = [found for found in detections if min(found.box[2:]) >= settings.face_min_size]
        firm = [found for found in large if found.confidence >= settings.face_confidence]
        weak = [found for found in large if found.confidence < settings.face_confidence]
        if self._doubts:
            size = (frame.image.shape[1], frame.image.shape[0])
            likely = [found for found in firm if not is_false_positive(found, size)]
            self.doubted += len(firm) - len(likely)
            firm = likely
        self.faces += len(firm)
        tracks = self._tracker.follow(
            [found.box for found in firm], clock, [appearance_of(frame.image, found.box) for found in firm]
        )
        self._tracker.keep_alive(
            [found.box for found in weak], clock, [appearance_of(frame.image, found.box) for found in weak]
        )
        candidates = []
        for found, track in zip(firm, tracks, strict=True):
            quality = picture_quality(frame.image, found) if settings.face_interval > 0 else 0.0
            if self._doubts and track.sightings == 1 and found.confidence < PASSING:
                self._held[track.number] = make_candidate(frame, found, track.number, settings.face_margin, quality)
                continue
            self._held.pop(track.number, None)
            if self._best_shots.wants(track.number, quality):
                candidates += self._best_shots.offer(
                    make_candidate(frame, found, track.number, settings.face_margin, quality), clock
                )
        return candidates

    def _gone(self) -> list[Candidate]:
        """Return what is kept of faces that are no longer looked for."""
        passed = [number for number in self._held if not self._tracker.is_known(number)]
        for number in passed:
            del self._held[number]
        self.doubted += len(passed)
        return [
            candidate
            for number in self._best_shots.tracks
            if not self._tracker.is_known(number)
            for candidate in self._best_shots.end(number)
        ]
