"""Throughput and memory of the whole chain: from a film at full speed to objects in S3.

``python -m benchmarks.pipeline``. Everything runs on this machine, over loopback, with a real Mosquitto and a real
S3 server. The other benchmarks measure each part beside its peers, and the latency of each stage.
"""

import tempfile
import time
from pathlib import Path

from benchmarks.measure import PeakMemory, benchmark_parser, megabytes, processor, show, spread
from demo.film import clip
from demo.stack import CHAIN, Stack
from wire.process import log

CLIP, SHORT_CLIP = "WolfgangLanger_Pexels.mp4", "single_face.mp4"
ROUNDS = 5


def main() -> None:
    """Run the film several times and print the table."""
    parser = benchmark_parser("benchmarks.pipeline", __doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="how often the film is run (%(default)s)")
    arguments = parser.parse_args()
    film, rounds = (SHORT_CLIP, 1) if arguments.quick else (CLIP, arguments.rounds)
    log.configure("warning", "console")
    rates: list[float] = []
    peaks: dict[str, list[float]] = {name: [] for name in CHAIN}
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder)) as stack:
        stack.start_servers()
        for name in ("s3sink", "forwarder"):
            stack.start_connected(name)
        faces = 0
        for number in range(rounds):
            began = time.perf_counter()
            detector = stack.start(
                "detector", CAMERA_SOURCE=str(clip(film)), CAMERA_NAME=f"run-{number}", FACE_INTERVAL="0"
            )
            with PeakMemory({name: stack.programs[name].pid for name in CHAIN}) as memory:
                detector.wait(300)
            seconds = time.perf_counter() - began
            stored, faces = len(stack.keys()) - faces, len(stack.keys())
            rates.append(stored / seconds)
            for name, peak in memory.peak_bytes.items():
                peaks[name].append(peak)
    show(
        f"The whole chain, camera to S3, with a film of 640x360 at full speed; {processor()}",
        ["", "median (least to most)"],
        [
            ["faces stored in each run", str(stored)],
            ["faces/s, from the start of the detector to its end", spread(rates)],
            *([f"peak resident memory: {name}", megabytes(max(peaks[name]))] for name in CHAIN),
        ],
    )


if __name__ == "__main__":
    main()
