"""False faces that are verified away, and faces of people that are lost with them.

``python -m benchmarks.false_faces --labels set.json --animals set.json``. ``--labels`` are pictures of people, with the
boxes of their faces; ``--animals`` are pictures without any person. :mod:`benchmarks.labelled` describes the format. A
picture is a scene of its own, so a single look decides. Without data sets, only films and the cost are measured.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import cv2
import numpy as np

from benchmarks.labelled import Numbers, overlaps, read
from benchmarks.measure import benchmark_parser, processor, show
from demo.film import clip
from edge.detector.camera.recorded import VideoFile
from edge.detector.model.verifier import FaceVerifier
from edge.detector.model.yunet import FaceDetector
from edge.detector.selection.motion_gate import MotionGate
from edge.detector.selection.scene import WEAK_CONFIDENCE, Scene
from edge.detector.settings import DetectorSettings
from wire.process import log
from wire.process.lifecycle import Stop

SIZES = ((640, 32), (320, 20))
"""``DETECT_SIZE`` with the smallest face that is counted, in pixels."""
CONFIDENCE = 0.7
LEAST_OVERLAP = 0.35
"""Intersection over union with a label from which a detection is a face. Some labels are tighter than YuNet's boxes."""
FILMS = ("single_face.mp4", "face_noface.mov", "noface_face.mov", "WolfgangLanger_Pexels.mp4", "no_face.mp4")


def main() -> None:
    """Measure everything and print the tables."""
    parser = benchmark_parser("benchmarks.false_faces", __doc__)
    parser.add_argument("--labels", type=Path, nargs="*", default=[], help="labelled pictures of people")
    parser.add_argument("--animals", type=Path, nargs="*", default=[], help="pictures without people")
    options = parser.parse_args()
    log.configure("error", "console")
    cv2.setNumThreads(1)
    verifier = FaceVerifier()
    for size, least_pixels in SIZES if options.labels or options.animals else ():
        rows = []
        for name, paths, is_person in (("faces", options.labels, True), ("false faces", options.animals, False)):
            for path in paths:
                odds = list(_odds_in(path, verifier, size, least_pixels, is_person))
                rejected = sum(value < 0 for value in odds)
                rows.append(
                    [f"{name} in {path.stem}", str(len(odds)), str(rejected), f"{rejected / max(len(odds), 1):.1%}"]
                )
        show(f"DETECT_SIZE={size}, {least_pixels} px and more", ["", "detected", "rejected", "part"], rows)
    films = FILMS[:2] if options.quick else FILMS
    rows = [[name, *(figure for is_on in ("false", "true") for figure in _watch(name, is_on))] for name in films]
    show("FACE_VERIFICATION", ["film", "false: tracks sent", "ms/frame", "true: tracks sent", "ms/frame"], rows)
    print(f"\na look: {_milliseconds(verifier, 50 if options.quick else 500):.2f} ms of one core of {processor()}")


def _odds_in(path: Path, verifier: FaceVerifier, size: int, least_pixels: int, is_person: bool) -> Iterator[float]:
    """Yield the log odds of each detection in a set that counts: faces of people, or all in a set without people."""
    detector = FaceDetector(size, CONFIDENCE)
    for labelled in read(path):
        image = cv2.imread(str(labelled.image))
        assert image is not None, labelled.image
        picture = image.astype(np.uint8, copy=False)
        faces = np.concatenate([labelled.boxes, labelled.ignore])
        for detection in detector.detect(picture):
            if min(detection.box[2:]) >= least_pixels and _is_face(np.array(detection.box), faces) == is_person:
                yield verifier.log_odds(picture, detection.box)


def _is_face(box: Numbers, faces: Numbers) -> bool:
    union, _ = overlaps(box, faces)
    return bool(union.max(initial=0.0) >= LEAST_OVERLAP)


def _watch(film: str, verification: str) -> tuple[str, str]:
    """Return the number of tracks of a film of which a picture is sent, and the processor time of a frame."""
    environ = {"DEVICE_ID": "benchmark", "FACE_VERIFICATION": verification}
    settings = DetectorSettings.from_environment(environ)
    detector, scene, gate = FaceDetector(640, WEAK_CONFIDENCE), Scene(settings), MotionGate(settings.face_interval)
    scene.load()
    tracks: set[int] = set()
    frames, started = 0, time.thread_time()
    for frame in VideoFile(clip(film), loop=False).frames(Stop()):
        frames += 1
        detections = detector.detect(frame.image) if gate.needs_search(frame) else None
        tracks |= {candidate.track for candidate in scene.update(frame, detections)}
    seconds = time.thread_time() - started
    return str(len(tracks | {candidate.track for candidate in scene.end()})), f"{1000 * seconds / frames:.1f}"


def _milliseconds(verifier: FaceVerifier, looks: int) -> float:
    """Return the median processor time of a look at a face in a picture."""
    image = np.random.default_rng(1).integers(0, 256, (540, 960, 3), np.uint8)
    times = []
    for _ in range(looks):
        started = time.thread_time()
        verifier.log_odds(image, (212.0, 61.0, 91.0, 115.0))
        times.append(time.thread_time() - started)
    return 1000 * median(times)


if __name__ == "__main__":
    main()
