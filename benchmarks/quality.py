"""Quality of pictures: what changes of light, focus and noise do to it, what the detector sends, and the time per face.

``python -m benchmarks.quality``. The films are those of the demo. In the flickering one, light comes and goes,
and the camera is noisier in the dark.
"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np

from benchmarks.measure import benchmark_parser, show
from demo.film import clip, pan_film
from edge.detector.camera.frame import Frame, Image
from edge.detector.camera.recorded import VideoFile
from edge.detector.model.yunet import Detection, FaceDetector
from edge.detector.selection.best_shot import Candidate
from edge.detector.selection.quality import exposure, face_quality, grey_face, sharpness
from edge.detector.selection.scene import WEAK_CONFIDENCE, Scene
from edge.detector.settings import DetectorSettings
from wire.process import log
from wire.process.lifecycle import Stop

Film = list[tuple[Frame, list[Detection]]]
Pictures = Sequence[tuple[Image, Detection]]


DARK_GREY = 16
"""Mean grey below which a picture shows next to nothing."""


def main() -> None:
    """Print the three tables."""
    quick = benchmark_parser("benchmarks.quality", __doc__).parse_args().quick
    log.configure("error", "console")
    cv2.setNumThreads(1)
    detector = FaceDetector(640, WEAK_CONFIDENCE)
    people: Any = cv2.resize(cv2.imread(str(clip("multi_face.jpg"))), (640, 427))  # type: ignore[arg-type]
    faces = detector.detect(people)
    rows = [_row(name, [(image, face) for face in faces]) for name, image in _changed(people).items()]
    show("Mean of five faces of 51 to 66 pixels", ["", "quality", "sharpness", "exposure"], rows)
    paths = {"one person": clip("WolfgangLanger_Pexels.mp4"), "five people": pan_film()}
    rows = []
    for name, path in paths.items():
        frames = list(VideoFile(path, loop=False).frames(Stop()))[: 48 if quick else None]
        film = [(frame, detector.detect(frame.image)) for frame in frames]
        rows += _sent(name, film) + _sent(f"{name}, flickering light", _flickering(film))
    headings = ["", "pictures", "quality", "sharpness", "score", "mean grey below 16", "a better one existed"]
    show("Pictures of two films, and those of them that are sent", headings, rows)
    show("Median time per face", ["", "microseconds"], _times(people, faces[0], 50 if quick else 1000))


def _changed(image: Image) -> dict[str, Image]:
    """Return the image with changes of light, focus and noise."""
    random = np.random.default_rng(1)
    blurred: Any = cv2.GaussianBlur(image, (0, 0), 2)

    def noisy(changed: Any) -> Image:
        noised: Image = np.clip(changed + random.normal(0, 10, image.shape), 0, 255).astype(np.uint8)
        return noised

    return {
        "as it is": image,
        "noisy (10 levels of grey)": noisy(image),
        "a quarter of the light": (image * 0.25).astype(np.uint8),
        "a quarter of the light, noisy": noisy(image * 0.25),
        "a tenth of the light, noisy": noisy(image * 0.1),
        "blurred (2 pixels)": blurred,
        "blurred, noisy": noisy(blurred),
        "twice the light": np.clip(image * 2.0, 0, 255).astype(np.uint8),
    }


def _row(name: str, pictures: Pictures) -> list[str]:
    greys = [grey_face(image, face.box) for image, face in pictures]
    means = (
        statistics.mean(face_quality(image, face) for image, face in pictures),
        statistics.mean(map(sharpness, greys)),
        statistics.mean(map(exposure, greys)),
    )
    return [name, f"{means[0]:.3f}", f"{means[1]:.0f}", f"{means[2]:.2f}"]


def _flickering(film: Film) -> Film:
    """Return a film whose light goes from 2 to 100 % and back three times in two seconds. The dark is noisier."""
    random = np.random.default_rng(2)
    changed = []
    for frame, detections in film:
        light = 0.02 + 0.98 * np.sin(frame.clock * 1.5 * np.pi) ** 6
        noise = random.normal(0, 4 + 16 * (1 - light), frame.image.shape)
        image = np.clip(frame.image * light + noise, 0, 255).astype(np.uint8)
        changed.append((replace(frame, image=image), detections))
    return changed


def _sent(name: str, film: Film) -> list[list[str]]:
    """Return a row for all detections, and one for what is sent."""
    settings = DetectorSettings.from_environment({"DEVICE_ID": "jetson-1"})
    scene = Scene(settings)
    chosen = [(frame.clock, one) for frame, faces in film for one in scene.update(frame, faces)]
    chosen += [(film[-1][0].clock, one) for one in scene.end()]
    images = {frame.captured_at: frame.image for frame, _ in film}
    began: dict[int, float] = {}
    dark = avoidable = 0
    for clock, one in chosen:
        if _grey(images[one.captured_at], one.detection) < DARK_GREY:
            dark += 1
            since = began.get(one.track, clock - settings.face_first_wait)
            avoidable += _existed_better(one, [pair for pair in film if since < pair[0].clock < clock])
        began[one.track] = clock
    pairs = [(images[one.captured_at], one.detection) for _, one in chosen]
    every = [(frame.image, face) for frame, faces in film for face in faces if face.confidence >= 0.7]
    return [
        _of_film(f"{name}: every detection", every),
        [*_of_film(f"{name}: sent", pairs)[:-2], str(dark), str(avoidable)],
    ]


def _of_film(name: str, pictures: Pictures) -> list[str]:
    _, quality, sharp, _ = _row(name, pictures)
    score = statistics.mean(face.confidence for _, face in pictures)
    dark = sum(_grey(image, face) < DARK_GREY for image, face in pictures)
    return [name, str(len(pictures)), quality, sharp, f"{score:.3f}", str(dark), ""]


def _grey(image: Image, face: Detection) -> float:
    return float(grey_face(image, face.box).mean())


def _existed_better(sent: Candidate, film: Film) -> bool:
    """Return whether a film of its interval has a picture of about the same place that is not dark."""
    x, y, width, height = sent.detection.box
    return any(
        face.confidence >= 0.7
        and abs(face.box[0] - x) < width / 2
        and abs(face.box[1] - y) < height / 2
        and _grey(frame.image, face) >= DARK_GREY
        for frame, faces in film
        for face in faces
    )


def _times(image: Image, face: Detection, count: int) -> list[list[str]]:
    rows = []
    for scale in (1, 2, 4):
        larger: Any = cv2.resize(image, None, fx=scale, fy=scale)
        detection = replace(
            face,
            box=tuple(number * scale for number in face.box),  # type: ignore[arg-type]
            landmarks=tuple((x * scale, y * scale) for x, y in face.landmarks),
        )
        each = []
        for _ in range(count):
            began = time.perf_counter()
            face_quality(larger, detection)
            each.append(time.perf_counter() - began)
        rows.append([f"a face of {detection.box[2]:.0f} pixels", f"{statistics.median(each) * 1e6:.0f}"])
    return rows


if __name__ == "__main__":
    main()
