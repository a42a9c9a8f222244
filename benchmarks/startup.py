"""Seconds from the start of the detector's process to its first searched frame, beside what its imports alone take.

``python -m benchmarks.startup``. The camera is a folder with one picture. The detector runs once with the packages of
its image, and once with those of the development environment. Bytecode is compiled beforehand, as in the image.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from benchmarks.measure import benchmark_parser, environment, processor, show, spread
from demo.film import clip
from demo.program import ROOT, Program, await_true
from demo.stack import Stack
from wire.process import log

ROUNDS = 9
FIRST_FRAME = "camera ended"
"""The detector logs this after the only frame."""
IMPORTS = "import cv2, numpy, onnxruntime, paho.mqtt.client, pydantic, structlog; pydantic.BaseModel"


def main() -> None:
    """Measure each way in turn and print the table."""
    rounds = 2 if benchmark_parser("benchmarks.startup", __doc__).parse_args().quick else ROUNDS
    log.configure("error", "console")
    pythons = {"its image": str(environment("detector")), "the development environment": sys.executable}
    took: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as name, Stack(Path(name)) as stack:
        folder = Path(name)
        stack.start_broker("local-broker")
        (folder / "pictures").mkdir()
        shutil.copy(clip("multi_face.jpg"), folder / "pictures")
        for number in range(rounds + 1):  # the first round compiles the bytecode and is not counted
            for packages, python in pythons.items():
                found = {
                    "Python alone": _run(python, folder, "pass"),
                    f"what the detector imports, with the packages of {packages}": _run(python, folder, IMPORTS),
                    f"the detector, with the packages of {packages}": _detector(python, folder, stack),
                }
                for title, measured in found.items():
                    took.setdefault(title, []).extend([measured] if number else [])
    show(
        f"{processor()}: from the start of the process to the first searched frame; median (least to most) of {rounds}",
        ["", "seconds", "of the processor"],
        [[title, *(spread(numbers, ".3f") for numbers in zip(*found, strict=True))] for title, found in took.items()],
    )


def _run(python: str, folder: Path, code: str) -> tuple[float, float]:
    """Run a line of Python. Return the seconds, and those of the processor."""
    command: Sequence[str] = [python, "-c", f"{code}; import time; print(time.process_time())"]
    began = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, env=_environ(folder), stdout=subprocess.PIPE, check=True)
    return time.perf_counter() - began, float(done.stdout)


def _detector(python: str, folder: Path, stack: Stack) -> tuple[float, float]:
    """Run the detector to its first searched frame. Return the seconds, and those of the processor."""
    logged = folder / "detector.log"
    logged.unlink(missing_ok=True)
    outbox = folder / "outbox.db"
    environ = stack.environ("detector", CAMERA_SOURCE=str(folder / "pictures"), OUTBOX_PATH=str(outbox), MQTT_QOS="1")
    command = [python, "-m", "edge.detector"]
    began = time.perf_counter()
    program = Program("detector", command, environ | _environ(folder), logged).start()
    try:
        await_true(lambda: FIRST_FRAME in program.output(), 30, "the first frame is searched")
        seconds, used = time.perf_counter() - began, psutil.Process(program.pid).cpu_times()
    finally:
        program.stop()
        for file in folder.glob("outbox.db*"):
            file.unlink()
    return seconds, used.user + used.system


def _environ(folder: Path) -> dict[str, str]:
    """Return variables with which Python finds and writes bytecode."""
    return {"PYTHONPYCACHEPREFIX": str(folder / "bytecode")}


if __name__ == "__main__":
    main()
