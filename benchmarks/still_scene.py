"""Processor time of the detector while nothing moves, beside the same camera with a moving person.

``python -m benchmarks.still_scene``. A network camera of 640 x 360 pixels and 30 frames/s. The figures are those of
the whole process.
"""

import statistics
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil

from benchmarks.measure import benchmark_parser, show, spread
from demo.camera import NetworkCamera
from demo.film import clip
from demo.program import await_true
from demo.stack import Stack
from wire.process import log

FRAMES_PER_SECOND = 30
ROUNDS = 3
FILM = "WolfgangLanger_Pexels.mp4"


def main() -> None:
    """Watch both scenes and print the table."""
    quick = benchmark_parser("benchmarks.still_scene", __doc__).parse_args().quick
    rounds, seconds = (1, 2) if quick else (ROUNDS, 8)
    log.configure("error", "console")
    random = np.random.default_rng(1)
    capture = cv2.VideoCapture(str(clip(FILM)))
    moving = [_jpeg(capture.read()[1], random) for _ in range(8 * FRAMES_PER_SECOND)]
    image = capture.read()[1]
    scenes = {"a moving person": moving, "a still scene": [_jpeg(image, random) for _ in range(10)]}
    shares: dict[str, list[float]] = {name: [] for name in scenes}
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder)) as stack:
        stack.start_broker("local-broker")
        for number in range(rounds):
            for name, jpegs in scenes.items():
                shares[name].append(_cores_used(stack, jpegs, seconds, f"{number}-{name}.db"))
    moves = statistics.median(shares["a moving person"])
    rows = [[name, spread(found, ".2f"), f"{statistics.median(found) / moves:.2f}"] for name, found in shares.items()]
    show(f"Cores that the detector uses at {FRAMES_PER_SECOND} frames/s", ["", "cores", "of a moving person"], rows)


def _cores_used(stack: Stack, jpegs: list[bytes], seconds: int, outbox: str) -> float:
    with NetworkCamera(jpegs, frames_per_second=FRAMES_PER_SECOND) as camera:
        detector = stack.start_connected(
            "detector", CAMERA_SOURCE=camera.address, OUTBOX_PATH=str(stack.folder / outbox)
        )

        def await_frames(count: int) -> None:
            goal = camera.sent + count
            await_true(lambda: camera.sent >= goal, 10 + 3 * seconds, "the camera sends frames")

        await_frames(3 * FRAMES_PER_SECOND)  # after two seconds without a movement, the detector rests
        process = psutil.Process(detector.pid)
        before, sent = sum(process.cpu_times()[:2]), camera.sent
        await_frames(seconds * FRAMES_PER_SECOND)
        used, frames = sum(process.cpu_times()[:2]) - before, camera.sent - sent
        detector.stop()
    return float(used / (frames / FRAMES_PER_SECOND))


def _jpeg(image: Any, random: np.random.Generator) -> bytes:
    """Return a frame as a network camera sends it, with noise."""
    noisy = np.clip(image + random.normal(0, 3, image.shape), 0, 255).astype(np.uint8)
    return cv2.imencode(".jpg", noisy, (cv2.IMWRITE_JPEG_QUALITY, 80))[1].tobytes()


if __name__ == "__main__":
    main()
