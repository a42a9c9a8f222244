"""Face detectors side by side, in one run: how well they find faces, how long they take, how much memory.

``python -m benchmarks.detector LABELS.json... [--peers-python PATH]``. Labels are a JSON list of ``{"image": path
beside the file, "boxes": [[x, y, width, height], ...], "ignore": [...]}``, in pixels. Haar, libfacedetection and MTCNN
need an environment of their own: ``python -m venv peers``, then ``peers/bin/pip install --require-hashes -r
requirements/benchmarks.txt``, then ``--peers-python peers/bin/python``. MediaPipe is not among them: its wheel brings
no model, and pulls in an OpenCV over the one that Haar needs.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2

from benchmarks.measure import PeakMemory, megabytes, show
from demo.film import clip
from demo.stack import ROOT, Stack

OURS = ("facewire", "opencv")
OTHERS = ("haar", "libfacedetection", "mtcnn")
CLIP = "WolfgangLanger_Pexels.mp4"
FRAMES = 40
ALARMS = 0.1
"""False alarms for each picture at which recall is told."""
_PEER_SECONDS = 600

Box = list[float]


@dataclass(frozen=True, slots=True)
class Labelled:
    """One picture, and where its faces are."""

    path: Path
    boxes: list[Box]
    ignore: list[Box]


def main() -> None:
    """Run every detector in turns and print both tables for each set of pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("labels", nargs="*", type=Path, help="labelled pictures")
    parser.add_argument("--peers-python", default=None, help="the Python that has the other detectors")
    parser.add_argument("--rounds", type=int, default=5, help="how often each speed is measured")
    parser.add_argument("--size", type=int, default=640, help="longest side of what every detector sees")
    options = parser.parse_args()
    for path in options.labels:
        accuracy(path, options.size, options.peers_python)
    speed(options.size, options.rounds, options.peers_python)
    whole_process(options.rounds)


def accuracy(labels: Path, size: int, peers_python: str | None) -> None:
    """Print average precision and recall of each detector on one set."""
    pictures = [
        Labelled(labels.parent / entry["image"], entry["boxes"], entry.get("ignore", []))
        for entry in json.loads(labels.read_text())
    ]
    rows = []
    for name in (*OURS, *OTHERS):
        answer = _run(name, 1, size, [str(one.path) for one in pictures], peers_python)
        if isinstance(answer, str):
            rows.append([name, answer, "", "", ""])
            continue
        half, third = (_judge(pictures, answer["boxes"], least) for least in (0.5, 0.35))
        rows.append([name, f"{half[0]:.3f}", f"{third[0]:.3f}", f"{half[1]:.3f}", f"{third[1]:.3f}"])
    faces = sum(len(one.boxes) for one in pictures)
    columns = ["", "AP at 0.5", "AP at 0.35", f"recall at {ALARMS:g} alarms a picture, 0.5", "0.35"]
    show(f"{labels.stem}: {len(pictures)} pictures, {faces} faces, longest side {size}", columns, rows)


def speed(size: int, rounds: int, peers_python: str | None) -> None:
    """Print how long a frame of a clip takes on one core and on two."""
    with tempfile.TemporaryDirectory() as folder:
        capture, paths = cv2.VideoCapture(str(clip(CLIP))), []
        for number in range(FRAMES):
            path = Path(folder) / f"{number:03d}.png"
            cv2.imwrite(str(path), capture.read()[1])
            paths.append(str(path))
        taken: dict[tuple[str, int], list[dict[str, Any] | str]] = {}
        for _ in range(rounds):
            for name in (*OURS, *OTHERS):
                for cores in (1, 2):
                    taken.setdefault((name, cores), []).append(_run(name, cores, size, paths, peers_python))
    rows = []
    for name in (*OURS, *OTHERS):
        first = taken[name, 1][0]
        if isinstance(first, str):
            rows.append([name, first, "", ""])
            continue
        medians = [
            statistics.median(answer["ms"] for answer in taken[name, cores] if not isinstance(answer, str))
            for cores in (1, 2)
        ]
        rows.append([name, *(f"{median:.1f} ms" for median in medians), megabytes(first["rss"])])
    show(f"A frame of 640 x 360: median of {rounds} rounds", ["", "1 core", "2 cores", "memory"], rows)


def whole_process(rounds: int) -> None:
    """Print the frames a second of the whole detector process on a film, from its start to its end."""
    rates, peak = [], 0
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder)) as stack:
        stack.start_broker("local-broker")
        for number in range(rounds):
            began = time.perf_counter()
            detector = stack.start(
                "detector", CAMERA_SOURCE=str(clip(CLIP)), MQTT_QOS="0", OUTBOX_PATH=f"{folder}/{number}.db"
            )
            with PeakMemory({"detector": detector.pid}) as memory:
                detector.wait(120)
            rates.append(472 / (time.perf_counter() - began))
            peak = max(peak, memory.peak_bytes["detector"])
    show(
        "The detector process on a film of 640 x 360, 472 frames",
        ["", "frames/s: median", "memory at most"],
        [["Facewire", f"{statistics.median(rates):.0f}", megabytes(peak)]],
    )


def _run(name: str, cores: int, size: int, paths: list[str], peers_python: str | None) -> dict[str, Any] | str:
    """Return what a detector has answered, or in a few words why it has not."""
    python = sys.executable if name in OURS else peers_python
    if python is None:
        return "skipped: no --peers-python"
    command = [python, str(ROOT / "benchmarks" / "peer.py"), name, str(cores), str(size), *paths]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_PEER_SECONDS)
    if done.returncode:
        return f"skipped: {(done.stderr.strip().splitlines() or ['it says nothing'])[-1][:60]}"
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def _judge(pictures: list[Labelled], found: list[list[Box]], least: float) -> tuple[float, float]:
    """Return average precision (area below the curve, as PASCAL VOC has it since 2010) and recall at :data:`ALARMS`."""
    marks: list[tuple[float, bool]] = []
    for picture, rows in zip(pictures, found, strict=True):
        free = list(picture.boxes)
        for row in sorted(rows, key=lambda row: -row[4]):
            best = max(free, key=lambda box: _overlap(row, box), default=None)
            if best is not None and _overlap(row, best) >= least:
                free.remove(best)
                marks.append((row[4], True))
            elif not any(_overlap(row, box) >= least for box in picture.ignore):
                marks.append((row[4], False))
    marks.sort(key=lambda mark: -mark[0])
    faces, hits, recall = sum(len(one.boxes) for one in pictures), 0, 0.0
    curve: list[tuple[float, float]] = []
    for count, (_, hit) in enumerate(marks, 1):
        hits += hit
        curve.append((hits / faces, hits / count))
        if count - hits <= ALARMS * len(pictures):
            recall = hits / faces
    precision = area = 0.0
    for index in range(len(curve) - 1, -1, -1):
        precision = max(precision, curve[index][1])
        area += precision * (curve[index][0] - (curve[index - 1][0] if index else 0.0))
    return area, recall


def _overlap(a: Box, b: Box) -> float:
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    shared = max(0.0, width) * max(0.0, height)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


if __name__ == "__main__":
    main()
