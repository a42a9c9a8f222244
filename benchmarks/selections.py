"""Selections of pictures, side by side: the detector's own, and simple ones. All get the same detections."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import cv2

from edge.detector.camera.frame import Frame
from edge.detector.model.yunet import Detection, FaceDetector
from edge.detector.selection.best_shot import Candidate, make_candidate
from edge.detector.selection.crop import clamp
from edge.detector.selection.motion_gate import MotionGate
from edge.detector.selection.quality import face_quality, frontality, grey_face, sharpness
from edge.detector.selection.scene import WEAK_CONFIDENCE, Scene
from edge.detector.settings import DetectorSettings


@dataclass(frozen=True, slots=True)
class Measures:
    """Properties of one picture."""

    grey: float
    """Mean grey of the face's box, 0 to 255."""
    sharpness: float
    frontality: float
    is_truncated: bool
    """Whether the face is cut off by the edge of the frame."""
    score: float
    quality: float


@dataclass(frozen=True, slots=True)
class Sent:
    """A picture, and the time on the film's clock when it is sent."""

    candidate: Candidate
    when: float
    measures: Measures


class Selection(Protocol):
    """Selects the candidates that are sent."""

    def update(self, frame: Frame, detections: Sequence[Detection]) -> list[Candidate]:
        """Return those to be sent after this frame."""

    def end(self) -> list[Candidate]:
        """Return the remaining ones."""


class Facewire:
    """The detector's selection, with the settings given."""

    def __init__(self, **environ: str) -> None:
        settings = DetectorSettings.from_environment({"DEVICE_ID": "benchmark"} | environ)
        self._scene, self._gate = Scene(settings), MotionGate(settings.face_interval)
        self.end = self._scene.end

    def update(self, frame: Frame, detections: Sequence[Detection]) -> list[Candidate]:
        """Pass the frame through motion gate and scene, like the detector."""
        needs_search = self._gate.needs_search(frame)
        frame = replace(frame, after_cut=self._gate.is_cut)
        return self._scene.update(frame, detections if needs_search else None)


class LargestOfEachSecond:
    """The largest face of each second, which a simple program would send."""

    def __init__(self) -> None:
        self._best: tuple[float, Candidate] | None = None
        self._second = 0

    def update(self, frame: Frame, detections: Sequence[Detection]) -> list[Candidate]:
        """Return the largest face of a second that has ended."""
        ended = self.end() if frame.new_scene or int(frame.clock) != self._second else []
        self._second = int(frame.clock)
        for detection in detections:
            area = detection.box[2] * detection.box[3]
            if _is_face(detection) and (self._best is None or area > self._best[0]):
                self._best = area, make_candidate(frame, detection, 1, 0.25, 0.0)
        return ended

    def end(self) -> list[Candidate]:
        """Return the largest face so far."""
        best, self._best = self._best, None
        return [] if best is None else [best[1]]


SELECTIONS: dict[str, Callable[[], Selection]] = {
    "Facewire": Facewire,
    "Facewire, FACE_FIRST_WAIT=0": lambda: Facewire(FACE_FIRST_WAIT="0"),
    "every detection": lambda: Facewire(FACE_INTERVAL="0"),
    "the largest of each second": LargestOfEachSecond,
}


@dataclass(slots=True)
class Run:
    """What all selections have sent of one film or set."""

    sent: dict[str, list[Sent]] = field(default_factory=lambda: {name: [] for name in SELECTIONS})
    face_seconds: float = 0.0
    """Sum of the time that each face was in view."""
    seconds: float = 0.0
    """Duration of the film."""


def run_frames(frames: Iterator[Frame]) -> Run:
    """Return what each selection sends of these frames."""
    detector, run, before = FaceDetector(640, WEAK_CONFIDENCE), Run(), 0.0
    selections = {name: make() for name, make in SELECTIONS.items()}
    measures: dict[tuple[float, Any], Measures] = {}

    def note(name: str, when: float, candidates: Sequence[Candidate]) -> None:
        for candidate in candidates:
            measured = measures[candidate.captured_at, candidate.detection.box]
            run.sent[name].append(Sent(candidate, when, measured))

    for frame in frames:
        detections = detector.detect(frame.image)
        gap = 0.0 if frame.new_scene else frame.clock - before
        run.seconds += gap
        for detection in detections:
            measures[frame.captured_at, detection.box] = _measure(frame, detection)
            run.face_seconds += gap * _is_face(detection)
        for name, selection in selections.items():
            note(name, frame.clock, selection.update(frame, detections))
        before = frame.clock
    for name, selection in selections.items():
        note(name, before, selection.end())
    return run


def _is_face(detection: Detection) -> bool:
    return detection.confidence >= 0.7 and min(detection.box[2:]) >= 32  # the defaults of the detector's settings


def _measure(frame: Frame, detection: Detection) -> Measures:
    height, width = frame.image.shape[:2]
    left, top, box_width, box_height = clamp(detection.box, width, height)
    grey: Any = cv2.cvtColor(frame.image[top : top + box_height, left : left + box_width], cv2.COLOR_BGR2GRAY)
    x, y, exact_width, exact_height = detection.box
    return Measures(
        float(grey.mean()),
        sharpness(grey_face(frame.image, detection.box)),
        frontality(detection),
        x < 0 or y < 0 or x + exact_width > width or y + exact_height > height,
        detection.confidence,
        face_quality(frame.image, detection),
    )
