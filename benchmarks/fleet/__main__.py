"""A fleet of light devices against one cloud: rate, fairness, processor time, memory, and the return after a crash.

``python -m benchmarks.fleet``. Each light device is a real MQTT session over TLS with a certificate of its own. It
keeps each face until its receipt arrives. It has no camera and no disk. The fleet shares this machine with broker, sink
and S3: SeaweedFS, which needs most of the processor, and a small server that only answers. Beside them, a client that
answers each face without S3 shows what the broker alone sustains.
"""

import argparse
import contextlib
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from benchmarks.distant_s3 import stand_in
from benchmarks.fleet.device import RAMP_SECONDS
from benchmarks.fleet.load import FACE_BYTES, name_of
from benchmarks.measure import PeakMemory, benchmark_parser, megabytes, processor, show
from demo.ports import HOST
from demo.program import await_true
from demo.stack import Stack
from wire.process import log

BROKER, SINK, S3 = "cloud-broker", "s3sink", "s3"
CONNECT_SECONDS = 60.0
DRAIN_SECONDS = 180.0
SHARE = 0.5
"""The part of the highest rate at which the fleet sends when the broker is killed."""


NO_BUDGET: Any = {"DEVICE_FACES_PER_HOUR": "0", "DEVICE_BYTES_PER_HOUR": "0"}


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    counts: Sequence[int] = (10, 100, 1000)
    """Numbers of devices."""
    warm_up_seconds: float = 60.0
    """In which the devices find out how much may be under way. What is lost meanwhile is sent again after 30 s."""
    seconds: float = 30.0


QUICK = Size(counts=(20,), warm_up_seconds=RAMP_SECONDS, seconds=1.0)


@dataclass(frozen=True, slots=True)
class Result:
    """The highest rate of a fleet, and what it costs."""

    rate: float
    """Faces per second with a receipt."""
    slowest: float
    """The rate of the slowest device, as a part of the median."""
    oldest_seconds: float
    """How long the oldest face at the end of the measurement has waited for its receipt."""
    cpu_ms: dict[str, float]
    """Milliseconds of processor time for each face, by process."""
    cores: float
    """Cores used by everything of this benchmark."""
    peak_bytes: dict[str, int]
    idle_bytes: int
    """The broker's memory when all devices are connected and nothing was sent."""


class Fleet:
    """Light devices in a process of their own."""

    def __init__(self, stack: Stack, count: int) -> None:
        """Start the devices."""
        self.count = count
        command = [sys.executable, "-m", "benchmarks.fleet.load", str(stack.folder), str(stack.cloud_port), str(count)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.communicate()

    def tell(self, command: str = "status") -> dict[str, Any]:
        """Give a command, and return the status after it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def await_connected(self, seconds: float) -> float:
        """Wait until all devices are connected, and return how long it took."""
        began_at = time.monotonic()
        await_true(lambda: self.tell()["connected"] == self.count, seconds, f"{self.count} devices are connected")
        return time.monotonic() - began_at

    def drain(self) -> None:
        """Let no more faces be captured, and wait until each has its receipt."""
        self.tell("pace 0")
        await_true(lambda: self.tell()["pending"] == 0, DRAIN_SECONDS, "each face has its receipt")


def main() -> None:
    """Measure, and print the tables."""
    arguments = _parser().parse_args()
    size = QUICK if arguments.quick else Size()
    if arguments.devices:
        size = Size(tuple(arguments.devices), size.warm_up_seconds, size.seconds)
    log.configure("warning", "console")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    rows, returns = [], []
    for count in size.counts:
        for name, cloud in (("SeaweedFS", _seaweed), ("answers only", _small_s3), ("none", _no_sink)):
            with tempfile.TemporaryDirectory() as folder, Stack(Path(folder)) as stack, cloud(stack) as watched:
                _enroll(stack, count)
                with Fleet(stack, count) as fleet:
                    fleet.await_connected(CONNECT_SECONDS)
                    result = _measure(fleet, watched, size)
                    rows.append(_row(count, name, result))
                    if name == "SeaweedFS":
                        returns.append(_crash(fleet, stack, result.rate * SHARE, count))
                        returns[-1] += _compare(fleet, stack)
    show(
        f"Highest rate with faces of {FACE_BYTES // 1000} kB over TLS; {processor()}",
        [
            "devices",
            "S3",
            "faces/s",
            "slowest/median",
            "oldest",
            "broker a face",
            "sink a face",
            "cores",
            "broker idle",
            "broker",
            "sink",
        ],
        rows,
    )
    show(
        f"The broker is killed with -9 and started again while the fleet sends {SHARE:.0%} of its highest rate",
        ["devices", "faces/s", "all are back after", "backlog gone after", "faces", "lost", "twice"],
        returns,
    )


def _parser() -> argparse.ArgumentParser:
    parser = benchmark_parser("benchmarks.fleet", __doc__)
    parser.add_argument("--devices", type=int, nargs="+", metavar="N", help="numbers of devices")
    return parser


def _enroll(stack: Stack, count: int) -> None:
    for number in range(count):
        stack.authority.enroll(name_of(number)).write(stack.folder, HOST)


@contextlib.contextmanager
def _seaweed(stack: Stack) -> Iterator[dict[str, int]]:
    """Run broker, sink and SeaweedFS, and yield their process ids."""
    stack.start_servers()
    sink = stack.start_connected(SINK, **NO_BUDGET)
    yield {BROKER: stack.programs[BROKER].pid, SINK: sink.pid, S3: stack.programs[S3].pid}


@contextlib.contextmanager
def _small_s3(stack: Stack) -> Iterator[dict[str, int]]:
    """Run broker and sink with the small server, and yield their process ids."""
    with stand_in(0) as port:
        stack.start_broker(BROKER)
        sink = stack.start_connected(SINK, AWS_ENDPOINT_URL_S3=f"http://{HOST}:{port}", **NO_BUDGET)
        yield {BROKER: stack.programs[BROKER].pid, SINK: sink.pid}


@contextlib.contextmanager
def _no_sink(stack: Stack) -> Iterator[dict[str, int]]:
    """Run the broker, and a client that answers each face at once."""
    stack.start_broker(BROKER)
    files = stack.authority.sink
    command = [sys.executable, "-m", "benchmarks.fleet.answers", str(stack.cloud_port), str(files)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it has subscribed
        try:
            yield {BROKER: stack.programs[BROKER].pid, SINK: process.pid}
        finally:
            process.kill()


def _measure(fleet: Fleet, watched: dict[str, int], size: Size) -> Result:
    """Let each device send as much as receipts allow."""
    processes = {name: psutil.Process(pid) for name, pid in (watched | {"load": fleet.process.pid}).items()}
    idle_bytes = processes[BROKER].memory_info().rss
    with PeakMemory(watched) as memory:
        fleet.tell("pace inf")
        time.sleep(size.warm_up_seconds)  # in which each device finds out how much may be under way
        before, used = fleet.tell(), {name: _cpu(process) for name, process in processes.items()}
        time.sleep(size.seconds)
        after, cpu = fleet.tell(), {name: _cpu(process) - used[name] for name, process in processes.items()}
        fleet.drain()
    seconds = after["at"] - before["at"]
    faces = [b - a for a, b in zip(before["receipts"], after["receipts"], strict=True)]
    return Result(
        rate=sum(faces) / seconds,
        slowest=min(faces) / max(1, statistics.median(faces)),
        oldest_seconds=after["oldest"],
        cpu_ms={name: 1000 * each / max(1, sum(faces)) for name, each in cpu.items()},
        cores=sum(cpu.values()) / seconds,
        peak_bytes=memory.peak_bytes,
        idle_bytes=idle_bytes,
    )


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _row(count: int, name: str, result: Result) -> list[str]:
    return [
        str(count),
        name,
        f"{result.rate:.0f}",
        f"{result.slowest:.2f}",
        f"{result.oldest_seconds:.1f} s",
        f"{result.cpu_ms[BROKER]:.2f} ms",
        f"{result.cpu_ms[SINK]:.2f} ms",
        f"{result.cores:.1f}",
        megabytes(result.idle_bytes),
        megabytes(result.peak_bytes[BROKER]),
        megabytes(result.peak_bytes[SINK]),
    ]


def _crash(fleet: Fleet, stack: Stack, rate: float, count: int) -> list[str]:
    """Kill the broker under load, start it again, and wait until nothing is left of it."""
    fleet.tell(f"pace {rate:.1f}")
    time.sleep(5)  # the load before the crash
    stack.programs[BROKER].kill()
    await_true(lambda: fleet.tell()["connected"] == 0, CONNECT_SECONDS, "no device is connected")
    stack.start_broker(BROKER)
    began_at = time.monotonic()
    back_seconds = fleet.await_connected(CONNECT_SECONDS)
    await_true(lambda: fleet.tell()["oldest"] < time.monotonic() - began_at, DRAIN_SECONDS, "the backlog is gone")
    gone_seconds = time.monotonic() - began_at
    fleet.drain()
    return [str(count), f"{rate:.0f}", f"{back_seconds:.1f} s", f"{gone_seconds:.1f} s"]


def _compare(fleet: Fleet, stack: Stack) -> list[str]:
    """Compare what was captured with what S3 has. Return the numbers of faces, lost ones and doubles."""
    listed = stack.folder / "ids"
    fleet.tell(f"ids {listed}")
    captured = [line.split()[0] for line in listed.read_text().splitlines()]
    stored = Counter(key.removesuffix(".jpg")[-36:] for key in stack.keys(""))
    lost = sum(stored[one] == 0 for one in captured)
    return [str(len(captured)), str(lost), str(sum(count > 1 for count in stored.values()))]


if __name__ == "__main__":
    main()
