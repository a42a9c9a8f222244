"""Turns the detections of successive frames into tracks, and selects the pictures of each track that are sent.

It has no threads, and its only clock is that of the frames, so a recording gives the same pictures on any machine.
"""

from collections.abc import Sequence

from edge.detector.camera.frame import Frame
from edge.detector.model.yunet import Detection
from edge.detector.selection.best_shot import BestShotSelector, Candidate, make_candidate
from edge.detector.selection.quality import Box, face_quality
from edge.detector.selection.tracker import Track, Tracker, appearance_of
from edge.detector.selection.verification import MIN_SINGLE_FRAME_CONFIDENCE, Verification
from edge.detector.settings import DetectorSettings

WEAK_CONFIDENCE = 0.4
"""Minimum score of a weak detection, which is not sent but continues the track of a face seen before."""

IDLE_SECONDS = 1.0
"""If a live camera gives no frame for this long, the best pictures so far are sent."""


class Scene:
    """Tracks the faces of one camera and selects their best pictures."""

    def __init__(self, settings: DetectorSettings) -> None:
        self.faces = 0
        """Detections with the required score and size, sent or not, without those of tracks that are not verified."""
        self.false_positives = 0
        """Detections of tracks that were not verified then, or that were not confirmed by a second frame."""
        self._settings = settings
        self._tracker = Tracker()
        self._best_shots = BestShotSelector(settings.face_interval, settings.face_first_wait)
        self._sends_all = settings.face_interval == 0
        """Whether every detection is sent, so there is nothing to compare or to reject."""
        verifies = settings.face_verification and not self._sends_all
        self._verification = Verification() if verifies else None
        self._unconfirmed: dict[int, Candidate] = {}
        """First candidates of tracks that need a second frame, by track."""
        self._searched_frames = 0
        """Frames since the last new scene that were searched."""
        self._clock = 0.0
        """Time of the last frame, on the camera's clock."""
        self._gap = 0.0
        """Seconds between the last two frames; 0 after the first one of a scene."""

    def load(self) -> None:
        """Load the model that verifies faces, if it is used. Otherwise, this is done at the first face.

        Raises:
            ConfigurationError: the model file is missing or damaged.
        """
        if self._verification is not None:
            self._verification.load()

    def update(self, frame: Frame, detections: Sequence[Detection] | None) -> list[Candidate]:
        """Process the next frame, and return the candidates to be sent now, from this frame or earlier ones.

        ``detections`` is None if the frame was not searched because nothing had moved.
        """
        self._gap = 0.0 if frame.new_scene else frame.clock - self._clock
        self._clock = frame.clock
        candidates = self.end() if frame.new_scene else self._end_tracks() if frame.after_cut else []
        candidates += self._best_shots.take_finished(frame.clock)
        if detections is None:
            self._tracker.hold(frame.clock)
            return candidates
        return candidates + self._track(frame, detections) + self._end_lost_tracks()

    def wait(self, seconds: float) -> list[Candidate]:
        """Return the candidates to be sent while a live camera is idle. The tracks continue.

        ``seconds`` is the time since the last frame was processed.
        """
        if seconds > IDLE_SECONDS:
            return self._best_shots.flush()
        return self._best_shots.take_finished(self._clock + seconds)

    def end(self) -> list[Candidate]:
        """End the scene and all its tracks, and return their best candidates."""
        # A scene of a single frame has no second frame that could confirm a face.
        unconfirmed = list(self._unconfirmed.values()) if self._searched_frames == 1 else []
        for candidate in unconfirmed:
            del self._unconfirmed[candidate.track]
        self._searched_frames = 0
        return self._end_tracks() + unconfirmed

    def _end_tracks(self) -> list[Candidate]:
        """End all tracks, and return their best candidates. A face of one frame before a cut is not confirmed."""
        self._tracker.reset()
        self.false_positives += len(self._unconfirmed)
        self._unconfirmed.clear()
        return self._best_shots.end()

    def _track(self, frame: Frame, detections: Sequence[Detection]) -> list[Candidate]:
        settings = self._settings
        self._searched_frames += 1
        large = [detection for detection in detections if min(detection.box[2:]) >= settings.face_min_size]
        strong = [detection for detection in large if detection.confidence >= settings.face_confidence]
        weak = [detection for detection in large if detection.confidence < settings.face_confidence]
        boxes, weak_boxes = [detection.box for detection in strong], [detection.box for detection in weak]
        tracks = self._tracker.update(boxes, frame.clock, [appearance_of(frame.image, box) for box in boxes])
        self._tracker.update_weak(weak_boxes, frame.clock, [appearance_of(frame.image, box) for box in weak_boxes])
        verified = self._verified(frame, list(zip(strong, tracks, strict=True)))
        self.faces += len(verified)
        self.false_positives += len(strong) - len(verified)
        return [
            candidate for detection, track in verified for candidate in self._select(frame, detection, track, boxes)
        ]

    def _verified(self, frame: Frame, found: list[tuple[Detection, Track]]) -> list[tuple[Detection, Track]]:
        """Return the detections whose tracks are verified."""
        verification = self._verification
        if verification is None:
            return found
        verification.forget(self._tracker.is_active)
        return [
            (detection, track)
            for detection, track in found
            if verification.accepts(frame.image, detection, track.number, frame.clock)
        ]

    def _select(self, frame: Frame, detection: Detection, track: Track, boxes: Sequence[Box]) -> list[Candidate]:
        """Offer the picture of one detection for selection, and return it if it is to be sent at once."""
        margin, number = self._settings.face_margin, track.number
        quality = face_quality(frame.image, detection, boxes)
        needs_second_frame = not self._sends_all and detection.confidence < MIN_SINGLE_FRAME_CONFIDENCE
        if needs_second_frame and track.sightings == 1:
            self._unconfirmed[number] = make_candidate(frame, detection, number, margin, quality)
            return []
        self._unconfirmed.pop(number, None)
        if not self._best_shots.is_improvement(number, quality, frame.captured_at):
            return []
        may_wait = self._gap < self._settings.face_first_wait  # frames further apart bring no other picture in time
        candidate = make_candidate(frame, detection, number, margin, quality)
        return self._best_shots.offer(candidate, frame.clock, may_wait)

    def _end_lost_tracks(self) -> list[Candidate]:
        """End the tracks that the tracker has dropped, and return their best candidates."""
        for number in [number for number in self._unconfirmed if not self._tracker.is_active(number)]:
            del self._unconfirmed[number]
            self.false_positives += 1
        return self._best_shots.end(self._tracker.is_active)
