"""The providers that can run the detector's model on this machine, beside ``cv2.FaceDetectorYN``: which one is fastest.

``python -m benchmarks.detector [--quick]``. The last line is the setting for this machine. Each provider runs in a
process of its own on one core, and all of them in turn, round after round.
"""

import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.detector_comparison import SIZES, Measured, search, write_frames
from benchmarks.measure import benchmark_parser, megabytes, processor, show, spread
from benchmarks.peers import OWN, PROVIDERS, same_faces
from edge.detector.model.inference import load_network
from wire.process import log

ROUNDS = 7
PICTURES = 6
_FACEWIRE, _OPENCV = OWN
_FILM, _FRAMES = "WolfgangLanger_Pexels.mp4", 472


def main() -> None:
    """Measure every available provider at each size, and print a table and the setting."""
    quick = benchmark_parser("benchmarks.detector", __doc__).parse_args().quick
    log.configure("warning", "console")
    rounds, count = (3, 2) if quick else (ROUNDS, PICTURES)
    on_cpu = load_network(["cpu"]).provider  # also what replaces a provider that is not available
    providers = [name for name in PROVIDERS if name == "cpu" or load_network([name]).provider != on_cpu]
    names = [_OPENCV, *(f"{_FACEWIRE}, {provider}" for provider in providers)]
    measured: dict[tuple[str, int], list[Measured]] = {}
    with tempfile.TemporaryDirectory() as folder:
        pictures = write_frames(Path(folder) / "frames", _FILM, _FRAMES // count)
        for _ in range(rounds):
            for size in SIZES:
                for name in names:
                    measured.setdefault((name, size), []).append(search(sys.executable, name, 1, size, pictures))
    for size in SIZES:
        theirs = measured[_OPENCV, size]
        show(
            f"{size} pixels: milliseconds per picture, median (least to most) of {rounds}",
            ["", "ms", "times as fast", f"the faces of {_OPENCV}", "peak memory"],
            [_row(name, measured[name, size], theirs) for name in names],
        )
    times = {provider: _milliseconds(measured[f"{_FACEWIRE}, {provider}", SIZES[1]]) for provider in providers}
    print(f"on one core of {processor()}. A GPU is busy with nothing else here")
    print(f"DETECT_PROVIDERS={','.join(sorted(times, key=lambda provider: times[provider]))}")


def _milliseconds(runs: Sequence[Measured]) -> float:
    return statistics.median(float(run["ms"]) for run in runs)


def _row(name: str, ours: Sequence[Measured], theirs: Sequence[Measured]) -> list[str]:
    ratio = statistics.median(b["ms"] / a["ms"] for a, b in zip(ours, theirs, strict=True))
    pairs = zip(ours[0]["found"], theirs[0]["found"], strict=True)
    same = "yes" if all(same_faces(a, b) for a, b in pairs) else "NO"
    memory = megabytes(max(run["bytes"] for run in ours))
    return [name, spread([run["ms"] for run in ours], ".1f"), f"{ratio:.2f}", same, memory]


if __name__ == "__main__":
    main()
