"""Several sinks: faces per second of one and of two, beside what they, the broker and the others cost.

``python -m benchmarks.sinks``. Everything runs on this machine, with a real Mosquitto, its guard, and TLS to the sinks.
The S3 server is a small program in C that only answers. Faces of 10 kB are encoded beforehand, and published as fast as
they are stored.
"""

import contextlib
import multiprocessing
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.synchronize import Event
from pathlib import Path

import psutil

from benchmarks.measure import benchmark_parser, faces_of, processor, show, spread
from demo.ports import HOST, free_port
from demo.program import ROOT, await_true, find_program, listens
from demo.stack import Stack
from tests import packets
from tests.builders import make_jpeg
from wire import face
from wire.face import Face
from wire.process import log

SINKS = ("s3sink-1", "s3sink-2")
FACE_BYTES = 10_000
DEVICES = 8
MADE = 4096
"""Number of different faces. They are published again and again."""
UNDER_WAY = 400
"""Faces that are published and not yet stored, for each sink. One of two sinks can hold all of them."""
AT_ONCE = 16
"""Faces that are sent with one call."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    rounds: int = 5
    seconds: float = 5.0
    """Duration of each measurement."""
    warm_up_seconds: float = 4.0
    """In which each sink finds the number of concurrent writes."""


QUICK = Size(rounds=1, seconds=0.7, warm_up_seconds=0.3)


@dataclass(frozen=True, slots=True)
class Result:
    """One measurement."""

    rate: float
    """Faces per second."""
    cores: dict[str, float]
    """Processor time of each part, in cores."""


def main() -> None:
    """Measure one sink and two in turn, and print a table."""
    size = QUICK if benchmark_parser("benchmarks.sinks", __doc__).parse_args().quick else Size()
    log.configure("warning", "console")
    results: dict[int, list[Result]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder), watched=True) as stack:
        stack.start_broker("cloud-broker")
        with _fast_s3(Path(folder)) as (s3, port, counter):
            for _ in range(size.rounds):
                for number, measured in results.items():
                    measured.append(_measure(stack, SINKS[:number], s3, port, counter, size))
    one, two = (statistics.median(each.rate for each in results[number]) for number in (1, 2))
    show(
        f"Faces of {FACE_BYTES // 1000} kB, {two / one:.2f} times as many with two sinks; {processor()}",
        ["sinks", "faces/s: median", "sinks", "broker", "S3", "publisher", "CPU a face"],
        [_row(number, measured) for number, measured in results.items()],
    )
    print("Processor time of each part in cores, as median.")


def _row(number: int, measured: list[Result]) -> list[str]:
    cores = {
        part: statistics.median(each.cores[part] for each in measured)
        for part in ("sinks", "broker", "S3", "publisher")
    }
    a_face = statistics.median(sum(each.cores.values()) / each.rate for each in measured)
    return [
        str(number),
        spread([each.rate for each in measured]),
        *(f"{used:.2f}" for used in cores.values()),
        f"{1000 * a_face:.2f} ms",
    ]


def _measure(stack: Stack, sinks: tuple[str, ...], s3: psutil.Process, port: int, counter: Path, size: Size) -> Result:
    for sink in sinks:
        stack.start_connected(sink, AWS_ENDPOINT_URL_S3=f"http://{HOST}:{port}", DEVICE_FACES_PER_HOUR="0")
    for sink in sinks:
        await_true(partial(_has_checked, stack, sink), 20, "the store is checked")
    with _published(stack.watch_port, counter, len(sinks)) as publisher:
        parts = {
            "sinks": [psutil.Process(stack.programs[sink].pid) for sink in sinks],
            "broker": [psutil.Process(stack.programs["cloud-broker"].pid)],
            "S3": [s3],
            "publisher": [publisher],
        }
        time.sleep(size.warm_up_seconds)
        before, stored, began = _cpu(parts), _stored(counter), time.perf_counter()
        time.sleep(size.seconds)
        after, stored, seconds = _cpu(parts), _stored(counter) - stored, time.perf_counter() - began
    for sink in sinks:
        stack.programs[sink].stop()
    return Result(stored / seconds, {part: (after[part] - before[part]) / seconds for part in parts})


def _has_checked(stack: Stack, sink: str) -> bool:
    return "store checked" in stack.programs[sink].output()


def _cpu(parts: dict[str, list[psutil.Process]]) -> dict[str, float]:
    return {part: sum(sum(one.cpu_times()[:2]) for one in processes) for part, processes in parts.items()}


def _stored(counter: Path) -> int:
    return int.from_bytes(counter.read_bytes(), "little")


@contextmanager
def _fast_s3(folder: Path) -> Iterator[tuple[psutil.Process, int, Path]]:
    """Compile and run the S3 server. Yield its process, its port, and the file in which it counts writes."""
    program, counter, port = folder / "fast_s3", folder / "writes", free_port()
    source = ROOT / "benchmarks" / "fast_s3.c"
    subprocess.run([find_program("cc"), "-O2", "-Wall", "-o", str(program), str(source)], check=True)
    process = subprocess.Popen([str(program), str(port), str(counter)])
    try:
        await_true(lambda: listens(port), 10, "the S3 server listens")
        yield psutil.Process(process.pid), port, counter
    finally:
        process.kill()
        process.wait()


@contextmanager
def _published(port: int, counter: Path, sinks: int) -> Iterator[psutil.Process]:
    """Publish faces in another process. Yield it. At the end, wait until all are stored."""
    context = multiprocessing.get_context("spawn")
    stopping = context.Event()
    process = context.Process(target=_publish, args=(port, counter, sinks * UNDER_WAY, stopping), daemon=True)
    process.start()
    try:
        first = _stored(counter)
        await_true(lambda: _stored(counter) > first + 200, 60, "faces are stored")
        assert process.pid is not None
        yield psutil.Process(process.pid)
        stopping.set()
        process.join(60)
        assert process.exitcode == 0
    finally:
        process.kill()


def _publish(port: int, counter: Path, under_way: int, stopping: Event) -> None:
    jpeg = make_jpeg()
    jpeg = jpeg[:-2] + bytes(FACE_BYTES - len(jpeg)) + jpeg[-2:]
    made = [_packet(number, one) for number, one in enumerate(faces_of(MADE, jpeg, "door"))]
    parts = [b"".join(made[at : at + AT_ONCE]) for at in range(0, MADE, AT_ONCE)]
    with socket.create_connection((HOST, port)) as connection:
        connection.sendall(packets.connect("bench"))
        connection.recv(4096)
        connection.setblocking(False)
        first, published = _stored(counter), 0
        while not stopping.is_set() or _stored(counter) - first < published:
            if stopping.is_set() or published - (_stored(counter) - first) > under_way - AT_ONCE:
                time.sleep(0.001)
            else:
                connection.setblocking(True)
                connection.sendall(parts[published // AT_ONCE % len(parts)])
                connection.setblocking(False)
                published += AT_ONCE
            with contextlib.suppress(BlockingIOError):
                connection.recv(65536)  # the broker's answers


def _packet(number: int, one: Face) -> bytes:
    topic = f"devices/bench-{number % DEVICES}/faces/door".encode()
    identifier = (number + 1).to_bytes(2)
    body = packets.text(topic) + identifier + face.encode(one).pack() + one.jpeg
    return packets.packet(packets.PUBLISH | 1 << 1, body)


if __name__ == "__main__":
    main()
