"""Seconds from the start of the detector's process to its first searched frame, beside what its imports alone take.

``python -m benchmarks.startup``. The camera is a folder with one picture.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import benchmark_parser, show, spread
from demo.film import clip
from demo.program import ROOT, await_true
from demo.stack import Stack
from wire.process import log

ROUNDS = 9
FIRST_FRAME = "camera ended"
"""The detector logs this after the only frame."""
IMPORTS = "import cv2, numpy, onnxruntime, paho.mqtt.client, prometheus_client, pydantic, structlog"


def main() -> None:
    """Measure each way in turn and print the table."""
    rounds = 2 if benchmark_parser("benchmarks.startup", __doc__).parse_args().quick else ROUNDS
    log.configure("error", "console")
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder)) as stack:
        stack.start_broker("local-broker")
        pictures = Path(folder) / "pictures"
        pictures.mkdir()
        shutil.copy(clip("multi_face.jpg"), pictures)
        for number in range(rounds):
            seconds.setdefault("Python alone", []).append(_run("pass"))
            seconds.setdefault("the packages that the detector imports", []).append(_run(IMPORTS))
            seconds.setdefault("the detector, to its first searched frame", []).append(
                _detector(stack, pictures, number)
            )
    show(
        f"Seconds from the start of the process: median (least to most) of {rounds}",
        ["", "seconds"],
        [[name, spread(found, ".2f")] for name, found in seconds.items()],
    )


def _run(program: str) -> float:
    command: Sequence[str] = [sys.executable, "-c", program]
    began = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True)
    return time.perf_counter() - began


def _detector(stack: Stack, pictures: Path, number: int) -> float:
    outbox = str(stack.folder / f"{number}.db")
    before = (stack.folder / "detector.log").stat().st_size if number else 0
    began = time.perf_counter()
    detector = stack.start("detector", CAMERA_SOURCE=str(pictures), OUTBOX_PATH=outbox)
    await_true(lambda: FIRST_FRAME in detector.output()[before:], 30, "the first frame is searched")
    seconds = time.perf_counter() - began
    detector.stop()
    return seconds


if __name__ == "__main__":
    main()
