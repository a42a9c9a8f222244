"""Instructions that an arm64 processor executes for one picture, with ONNX Runtime and with ncnn.

``python -m benchmarks.arm64_instructions``. QEMU emulates the processor and counts. The number of instructions is the
same in every run, whatever else the machine does, but it is only a proxy for the time on a real processor. Time is what
``python -m benchmarks.detector`` measures there. The boxes are compared with those of ``cv2.FaceDetectorYN`` here.
"""

import json
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2

from benchmarks import emulated_arm64
from benchmarks.detector_comparison import search
from benchmarks.measure import benchmark_parser, processor, show, spread
from benchmarks.peers import same_faces
from demo.film import clip
from demo.program import ROOT

PROVIDERS = ("cpu", "ncnn")
"""As in DETECT_PROVIDERS. The first one is what the others are compared with."""
PICTURES = 5
_SIZE = (640, 360)
"""The network gets it as 640 x 384."""
_SECONDS = 500


def main() -> None:
    """Set up the emulated machine, search the same pictures with each provider, and print the table."""
    count = 1 if benchmark_parser("benchmarks.arm64_instructions", __doc__).parse_args().quick else PICTURES
    try:
        emulated_arm64.set_up()
    except emulated_arm64.Unavailable as reason:
        print(f"instructions on arm64 are not counted on this machine: {reason}")
        return
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor() as pool:
        paths = [Path(folder) / f"{number}.png" for number in range(count)]
        for path, picture in zip(paths, _pictures(count), strict=True):
            cv2.imwrite(str(path), picture)
        results = list(pool.map(lambda provider: _search(provider, paths), PROVIDERS))
        expected = search(sys.executable, "cv2.FaceDetectorYN", 1, 0, paths)["found"]
    rows = []
    for runtime, network, whole, found in results:
        ratio = statistics.median(a / b for a, b in zip(network, results[0][1], strict=True))
        same = all(same_faces(ours, theirs) for ours, theirs in zip(found, expected, strict=True))
        rows.append([runtime, spread(network, ".1f"), spread(whole, ".1f"), f"{ratio:.2f}", "yes" if same else "NO"])
    show(
        f"Millions of instructions for a picture of {_SIZE[0]} x {_SIZE[1]}, median (least to most) of {count}",
        ["", "network", "with decoding", "ratio", "boxes of cv2.FaceDetectorYN"],
        rows,
    )
    print(f"an emulated Cortex-A72 (QEMU on {processor()}). A proxy: instructions are not time")


def _pictures(count: int) -> list[Any]:
    """Return a picture with five faces, and frames of a film with one."""
    people: Any = cv2.imread(str(clip("multi_face.jpg")))
    film = cv2.VideoCapture(str(clip("WolfgangLanger_Pexels.mp4")))
    frames = [film.read()[1] for _ in range(60 * (count - 1))][::60]
    return [cv2.resize(picture, _SIZE) for picture in (people, *frames)]


def _search(provider: str, paths: Sequence[Path]) -> tuple[str, list[float], list[float], Any]:
    """Return the runtime, millions of instructions of network and search for each picture, and the boxes."""
    arguments = ["-m", "benchmarks.arm64_guest", provider, *map(str, paths)]
    done = subprocess.run(
        emulated_arm64.command(arguments), cwd=ROOT, capture_output=True, text=True, timeout=_SECONDS, check=False
    )
    if done.returncode:
        raise RuntimeError(f"the emulated detector failed: {done.stderr[-500:]}")
    result = json.loads(done.stdout.splitlines()[-1])
    marks = [int(count) / 1e6 for count in re.findall(r"^mark \d+ (\d+)$", done.stderr, flags=re.MULTILINE)]
    begun, run, searched = marks[::3], marks[1::3], marks[2::3]
    network = [after - before for before, after in zip(begun, run, strict=True)]
    whole = [after - before for before, after in zip(run, searched, strict=True)]
    return result["runtime"], network, whole, result["found"]


if __name__ == "__main__":
    main()
