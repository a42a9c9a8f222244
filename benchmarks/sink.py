"""The sink: faces per second, processor time and memory, at several round trips to S3, beside boto3.

``python -m benchmarks.sink``. Everything runs on this machine, with a real Mosquitto and TLS. The sink has its
defaults. Eight devices send faces of 10 kB, 512 of which are under way.
"""

import asyncio
import os
import statistics
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import boto3
import psutil
from botocore.config import Config
from prometheus_client import CollectorRegistry

from benchmarks.distant_s3 import delayed, stand_in
from benchmarks.measure import PeakMemory, benchmark_parser, faces_of, megabytes, processor, show, spread
from cloud.s3sink.bucket import Bucket
from cloud.s3sink.objects import Kind, S3Object
from cloud.s3sink.settings import WriteSettings
from demo.ports import HOST
from demo.program import await_true
from demo.stack import BUCKET, OPERATOR, OPERATOR_PASSWORD, Stack
from tests.builders import make_jpeg
from wire import face, topics
from wire.face import Face
from wire.mqtt.connect_options import ConnectOptions
from wire.mqtt.connection import Message
from wire.mqtt.endpoint import Endpoint
from wire.mqtt.session import Session
from wire.process import log
from wire.process.lifecycle import Stop

FACE_BYTES = 10_000
DEVICES = 8
WINDOW = 64
"""Faces of each device that are sent and not yet receipted; the detector's default."""
BARE_WRITES = 64
"""Concurrent writes of the bare client."""
ROUND_TRIPS_MS = (0, 25, 100)


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    rounds: int = 3
    seconds: float = 3.0
    """Duration of each measurement."""
    warm_up_seconds: float = 4.0
    """In which the sink finds the number of concurrent writes."""


QUICK = Size(rounds=1, seconds=0.7, warm_up_seconds=0.3)


@dataclass(frozen=True, slots=True)
class Result:
    """One measurement."""

    rate: float
    """Faces per second."""
    cpu_ms: float
    """Milliseconds of processor time for each face."""


def main() -> None:
    """Measure with both servers and print their tables."""
    parser = benchmark_parser("benchmarks.sink", __doc__)
    size = QUICK if parser.parse_args().quick else Size()
    log.configure("warning", "console")
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder), watched=True) as stack:
        stack.start_servers()
        servers: list[tuple[str, Callable[[float], AbstractContextManager[int]]]] = [
            ("SeaweedFS, which needs most of this machine's processor", _seaweed(stack)),
            ("a server that only answers", stand_in),
        ]
        for name, server in servers:
            rows = []
            for milliseconds in ROUND_TRIPS_MS:
                with server(milliseconds / 1000) as port:
                    rows += _rows(stack, port, milliseconds, size)
            show(
                f"Writing faces of {FACE_BYTES // 1000} kB to {name}; {processor()}",
                ["round trip to S3", "", "faces/s: median", "CPU a face", "peak memory"],
                rows,
            )


def _seaweed(stack: Stack) -> Callable[[float], AbstractContextManager[int]]:
    @contextmanager
    def serve(seconds: float) -> Iterator[int]:
        if not seconds:
            yield stack.s3_port
            return
        with delayed(stack.s3_port, seconds) as port:
            yield port

    return serve


def _rows(stack: Stack, port: int, milliseconds: int, size: Size) -> list[list[str]]:
    sink, memory = _sink(stack, port, size)
    results = [
        ("Facewire's sink: validates, writes, sends receipts", sink, megabytes(memory)),
        ("its client alone, 64 at once", [_bare(stack, port, size) for _ in range(size.rounds)], "-"),
        ("boto3 put_object, 16 threads", [_boto3(stack, port, 16, size) for _ in range(size.rounds)], "-"),
        ("boto3 put_object, one after the other", [_boto3(stack, port, 1, size) for _ in range(size.rounds)], "-"),
    ]
    return [
        [
            f"{milliseconds} ms" if number == 0 else "",
            name,
            spread([each.rate for each in measured]),
            f"{statistics.median(each.cpu_ms for each in measured):.2f} ms",
            memory,
        ]
        for number, (name, measured, memory) in enumerate(results)
    ]


def _sink(stack: Stack, port: int, size: Size) -> tuple[list[Result], float]:
    sink = stack.start_connected("s3sink", AWS_ENDPOINT_URL_S3=f"http://{HOST}:{port}", DEVICE_FACES_PER_HOUR="0")
    process = psutil.Process(sink.pid)
    with PeakMemory({"s3sink": sink.pid}) as memory, _Load(stack) as load:
        load.run(size.warm_up_seconds)
        results = []
        for _ in range(size.rounds):
            before, began = process.cpu_times(), time.perf_counter()
            faces = load.run(size.seconds)
            seconds, after = time.perf_counter() - began, process.cpu_times()
            cpu = after.user + after.system - before.user - before.system
            results.append(Result(faces / seconds, cpu / faces * 1000))
    sink.stop()
    return results, memory.peak_bytes["s3sink"]


class _Load:
    """Several devices that send faces as fast as receipts arrive."""

    def __init__(self, stack: Stack) -> None:
        self._receipted = 0
        self._room = threading.Semaphore(DEVICES * WINDOW)
        jpeg = make_jpeg()
        self._jpeg = jpeg[:-2] + bytes(FACE_BYTES - len(jpeg)) + jpeg[-2:]
        self._watcher = _session(stack, self._count, topics.ALL_DEVICES_RECEIPTS)
        self._publisher = _session(stack, lambda message: None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for _ in range(DEVICES * WINDOW):
            self._room.acquire(timeout=60)  # what is under way
        self._publisher.close()
        self._watcher.close()

    def run(self, seconds: float) -> int:
        """Send for some time, and return the number of receipts meanwhile."""
        began, before = time.perf_counter(), self._receipted
        number = 0
        made: Iterator[Face] = iter(())
        while time.perf_counter() - began < seconds:
            if not self._room.acquire(timeout=60):
                raise TimeoutError("no receipts")
            if number % 200 == 0:
                made = iter(faces_of(200, self._jpeg, "door"))
            one = next(made)
            number += 1
            topic = f"devices/bench-{number % DEVICES}/faces/door"
            self._publisher.publish(topic, one.jpeg, qos=1, properties=face.encode(one))
        return self._receipted - before

    def _count(self, message: Message) -> None:
        self._receipted += 1
        self._watcher.acknowledge(message)
        self._room.release()


def _session(stack: Stack, on_message: Callable[[Message], None], *subscriptions: str) -> Session:
    session = Session(
        Endpoint("broker", HOST, stack.watch_port, username=OPERATOR, password=OPERATOR_PASSWORD),
        ConnectOptions(client_id=f"bench-{time.time_ns()}", receive_maximum=256),
        Stop(),
        on_message=on_message,
        subscriptions=[(topic, 1) for topic in subscriptions],
    )
    session.start()
    await_true(lambda: session.connected, 10, "connected")
    return session


_BODY = os.urandom(FACE_BYTES)
_OBJECT = S3Object(
    key="",
    body=_BODY,
    content_type="image/jpeg",
    metadata=dict(face.encode(faces_of(1, _BODY, "door")[0]).user_properties),
    receipt_topic=None,
    receipt_id=None,
    kind=Kind.FACE,
    sha256=face.digest_of(_BODY),
)


def _object() -> S3Object:
    return replace(_OBJECT, key=f"peer/{uuid.uuid4()}.jpg")


def _bare(stack: Stack, port: int, size: Size) -> Result:
    """Write with the sink's client alone."""
    os.environ.update(stack.aws(), AWS_ENDPOINT_URL_S3=f"http://{HOST}:{port}")
    bucket = Bucket(WriteSettings(s3_bucket=BUCKET), CollectorRegistry())
    bucket.write_without_boto3()
    writer = bucket.writer
    written = 0

    async def write(until: float) -> None:
        nonlocal written
        while time.perf_counter() < until:
            answer = await writer.put(_object(), conditional=True, sha256=True)
            if answer.status != 200:
                raise RuntimeError(answer.reason)
            written += 1

    async def write_all() -> None:
        until = time.perf_counter() + size.seconds
        await asyncio.gather(*(write(until) for _ in range(BARE_WRITES)))
        await bucket.close()

    return _measured(lambda: asyncio.run(write_all()), lambda: written)


def _boto3(stack: Stack, port: int, threads: int, size: Size) -> Result:
    """Write with boto3 alone."""
    s3 = boto3.client(
        "s3",
        endpoint_url=f"http://{HOST}:{port}",
        region_name="us-east-1",
        aws_access_key_id=stack.aws()["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=stack.secret_key,
        config=Config(max_pool_connections=threads),
    )
    counts = [0] * threads

    def write(thread: int) -> None:
        until = time.perf_counter() + size.seconds
        while time.perf_counter() < until:
            one = _object()
            s3.put_object(
                Bucket=BUCKET,
                Key=one.key,
                Body=one.body,
                ContentType=one.content_type,
                Metadata=one.metadata,
                IfNoneMatch="*",
            )
            counts[thread] += 1

    def write_all() -> None:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(write, range(threads)))

    return _measured(write_all, lambda: sum(counts))


def _measured(work: Callable[[], None], count: Callable[[], int]) -> Result:
    cpu, began = time.process_time(), time.perf_counter()
    work()
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    return Result(count() / seconds, cpu / count() * 1000)


if __name__ == "__main__":
    main()
