"""Throughput, latency and memory of the pipeline, part by part and as a whole, beside its peers.

``python -m benchmarks.pipeline``. Everything runs on this machine, over loopback, with a real Mosquitto and a real
S3 server.
"""

import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import cv2

from benchmarks.measure import PeakMemory, benchmark_parser, faces_of, megabytes, show, spread
from demo.camera import NetworkCamera
from demo.film import clip
from demo.ports import HOST
from demo.program import await_true
from demo.stack import BUCKET, CHAIN, DEVICE, OPERATOR, OPERATOR_PASSWORD, Stack
from wire import face, topics
from wire.mqtt.connect_options import ConnectOptions
from wire.mqtt.connection import Message
from wire.mqtt.endpoint import Endpoint
from wire.mqtt.session import Session
from wire.process import log
from wire.process.lifecycle import Stop

FACE_BYTES = 10_000
ROUNDS = 5
WINDOW = 64
"""Faces that are sent and not yet receipted; the detector's default."""
CLIP = "WolfgangLanger_Pexels.mp4"


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    rounds: int
    faces: int = 1000
    """Faces in each round."""
    live_seconds: int = 20
    """Seconds of the network camera."""
    film: str = CLIP


QUICK = Size(rounds=1, faces=200, live_seconds=4, film="single_face.mp4")


def main() -> None:
    """Run every part and print its table."""
    parser = benchmark_parser("benchmarks.pipeline", __doc__)
    parser.add_argument(
        "--rounds", type=int, default=ROUNDS, help="how often each throughput is measured (%(default)s)"
    )
    arguments = parser.parse_args()
    size = QUICK if arguments.quick else Size(arguments.rounds)
    log.configure("warning", "console")
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder), watched=True) as stack:
        stack.start_servers()
        forwarding(stack, size)
        writing(stack, size)
        whole_chain(stack, size)


def forwarding(stack: Stack, size: Size) -> None:
    """From a publisher at the edge to a subscriber in the cloud: Facewire's forwarder beside Mosquitto's bridge."""
    stack.start_connected("forwarder", RECEIPTS="broker")
    with PeakMemory({"forwarder": stack.programs["forwarder"].pid}) as memory:
        ours = [_forward(stack, size.faces) for _ in range(size.rounds)]
    stack.programs["forwarder"].stop()
    device = stack.folder / DEVICE
    bridge = f"""
connection to-cloud
address {HOST}:{stack.cloud_port}
bridge_cafile {device / "ca.pem"}
bridge_certfile {device / "cert.pem"}
bridge_keyfile {device / "key.pem"}
bridge_protocol_version mqttv50
remote_clientid facewire-forwarder-{DEVICE}
max_inflight_messages {WINDOW}
cleansession false
topic faces/# out 1 "" devices/{DEVICE}/
"""
    stack.programs["local-broker"].stop()
    stack.start_broker("local-broker", bridge)
    theirs = [_forward(stack, size.faces) for _ in range(size.rounds)]
    stack.programs["local-broker"].stop()
    stack.start_broker("local-broker")
    show(
        f"Forwarding {size.faces} faces of {FACE_BYTES // 1000} kB at QoS 1, {WINDOW} under way",
        ["", "faces/s: median", "memory", "acknowledges when"],
        [
            [
                "Facewire's forwarder",
                spread(ours),
                megabytes(memory.peak_bytes["forwarder"]),
                "the cloud has sent a positive PUBACK",
            ],
            ["Mosquitto's bridge (in the broker, C)", spread(theirs), "-", "its own queue has the message"],
        ],
    )


def writing(stack: Stack, size: Size) -> None:
    """From the cloud's broker to S3: Facewire's sink beside plain boto3."""
    s3 = stack.s3()

    def put(key: str) -> None:
        s3.put_object(Bucket=BUCKET, Key=key, Body=os.urandom(FACE_BYTES), ContentType="image/jpeg")

    def by_hand(workers: int) -> float:
        keys = [f"peer/{time.time_ns()}-{number}" for number in range(size.faces // 2)]
        began = time.perf_counter()
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(put, keys))
        return len(keys) / (time.perf_counter() - began)

    stack.start_connected("s3sink")
    with PeakMemory({"s3sink": stack.programs["s3sink"].pid}) as memory:
        ours = [_write(stack, size.faces) for _ in range(size.rounds)]
    stack.programs["s3sink"].stop()
    show(
        f"Writing faces of {FACE_BYTES // 1000} kB to S3 (SeaweedFS)",
        ["", "writes/s: median", "memory"],
        [
            ["Facewire's sink: conditional writes, receipts", spread(ours), megabytes(memory.peak_bytes["s3sink"])],
            ["boto3 put_object, 16 threads, nothing else", spread([by_hand(16) for _ in range(size.rounds)]), "-"],
            ["boto3 put_object, one after another", spread([by_hand(1) for _ in range(size.rounds)]), "-"],
        ],
    )


def whole_chain(stack: Stack, size: Size) -> None:
    """Camera to S3: a film at full speed, and a network camera in real time."""
    for name in ("s3sink", "forwarder"):
        stack.start_connected(name)
    began = time.perf_counter()
    detector = stack.start("detector", CAMERA_SOURCE=str(clip(size.film)), FACE_INTERVAL="0")
    with PeakMemory({name: stack.programs[name].pid for name in CHAIN}) as memory:
        detector.wait(300)
    seconds = time.perf_counter() - began
    faces = len(stack.keys(f"faces/device={DEVICE}/camera=door/"))
    latencies = _live(stack, size.live_seconds)
    show(
        "The whole chain: camera, detector, broker, forwarder, broker, sink, S3",
        ["", ""],
        [
            ["a film of 640x360 at full speed: faces stored", str(faces)],
            ["  faces/s, start of the detector to its end", f"{faces / seconds:.0f}"],
            [f"a network camera, 24 frames/s for {size.live_seconds} s: faces receipted", str(len(latencies))],
            ["  capture to receipt: median", f"{statistics.median(latencies) * 1000:.0f} ms"],
            ["  capture to receipt: p99", f"{sorted(latencies)[int(len(latencies) * 0.99)] * 1000:.0f} ms"],
            *([f"peak resident memory: {name}", megabytes(memory.peak_bytes[name])] for name in CHAIN),
        ],
    )


def _live(stack: Stack, seconds: int) -> list[float]:
    """Return the seconds from capture to receipt at the edge, for each face."""
    capture = cv2.VideoCapture(str(clip(CLIP)))
    jpegs: list[bytes] = []
    while len(jpegs) < 24 * 5:
        jpegs.append(cv2.imencode(".jpg", capture.read()[1])[1].tobytes())
    latencies: list[float] = []

    def on_receipt(message: Message) -> None:
        now = datetime.now(UTC)
        captured_at = face.time_of_id((message.properties.correlation_data or b"").decode())
        latencies.append((now - captured_at).total_seconds())
        watcher.acknowledge(message)

    watcher = _session(stack.local_port, on_receipt, topics.receipts("live"))
    with NetworkCamera(jpegs, frames_per_second=24) as camera:
        stack.start("detector", CAMERA_SOURCE=camera.address, CAMERA_NAME="live", FACE_INTERVAL="0")
        await_true(lambda: len(latencies) >= 24 * (seconds - 2), 3 * seconds + 30, "faces of the live camera")
        stack.programs["detector"].stop()
    watcher.close()
    return latencies


def _forward(stack: Stack, faces: int) -> float:
    """Return faces/s from the first publication to the last arrival."""
    return _push(stack.local_port, stack.watch_port, topics.faces("bench"), topics.ALL_DEVICES_FACES, faces)


def _write(stack: Stack, faces: int) -> float:
    """Return faces/s from the first publication to the last receipt."""
    topic = topics.to_cloud(DEVICE, topics.faces("bench"))
    return _push(stack.watch_port, stack.watch_port, topic, topics.receipts_for(topic), faces)


def _push(port_in: int, port_out: int, topic: str, watched: str, faces: int) -> float:
    """Publish faces, a window of them at once, until as many messages have arrived on ``watched``; return faces/s."""
    room, arrived = threading.Semaphore(WINDOW), 0
    done = threading.Event()

    def count(message: Message) -> None:
        nonlocal arrived
        arrived += 1
        watcher.acknowledge(message)
        room.release()
        if arrived == faces:
            done.set()

    watcher = _session(port_out, count, watched)
    publisher = _session(port_in, lambda message: None)
    made = faces_of(faces, _jpeg(), "bench")
    began = time.perf_counter()
    for one in made:
        if not room.acquire(timeout=60):
            raise TimeoutError(f"{arrived} of {faces} messages arrived")
        publisher.publish(topic, one.jpeg, qos=1, properties=face.encode(one))
    if not done.wait(120):
        raise TimeoutError(f"{arrived} of {faces} messages arrived")
    seconds = time.perf_counter() - began
    publisher.close()
    watcher.close()
    return faces / seconds


def _session(port: int, on_message: Callable[[Message], None], *subscriptions: str) -> Session:
    session = Session(
        Endpoint("broker", HOST, port, username=OPERATOR, password=OPERATOR_PASSWORD),
        ConnectOptions(client_id=f"bench-{time.time_ns()}", receive_maximum=256),
        Stop(),
        on_message=on_message,
        subscriptions=[(topic, 1) for topic in subscriptions],
    )
    session.start()
    await_true(lambda: session.connected, 10, "connected")
    return session


def _jpeg() -> bytes:
    """Return a JPEG of the measured size."""
    capture = cv2.VideoCapture(str(clip(CLIP)))
    jpeg = cv2.imencode(".jpg", capture.read()[1][:200, :200])[1].tobytes()
    return jpeg + bytes(max(0, FACE_BYTES - len(jpeg)))


if __name__ == "__main__":
    main()
