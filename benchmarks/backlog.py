"""After an outage of the cloud: memory of the brokers, rate of the backlog, delay of live faces.

``python -m benchmarks.backlog``. The outbox is filled with faces of 20 kB, and a network camera adds live ones.
"""

import os
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cv2
import psutil

from benchmarks.measure import PeakMemory, benchmark_parser, faces_of, megabytes, show
from demo.camera import NetworkCamera
from demo.film import clip
from demo.program import await_true
from demo.stack import CAMERA, Stack
from edge.detector.delivery.outbox import Outbox
from wire import status, topics
from wire.ids import new_id, time_of_id
from wire.mqtt.connect_options import ConnectOptions
from wire.mqtt.connection import Message
from wire.mqtt.session import Session
from wire.process import log
from wire.process.lifecycle import Stop

FACE_BYTES = 20_000
BACKLOG = 5000
LIVE_FRAMES_PER_SECOND = 5
OUTAGE_SECONDS = 15
CLIP = "WolfgangLanger_Pexels.mp4"


def main() -> None:
    """Run the outage and print the table."""
    parser = benchmark_parser("benchmarks.backlog", __doc__)
    parser.add_argument("--faces", type=int, default=BACKLOG, help="in the outbox when the cloud returns (%(default)s)")
    arguments = parser.parse_args()
    backlog, outage_seconds = (200, 3) if arguments.quick else (arguments.faces, OUTAGE_SECONDS)
    log.configure("warning", "console")
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder)) as stack:
        Path(folder).chmod(0o755)
        show("The cloud is away and comes back", ["", ""], _run(stack, backlog, outage_seconds))


def _run(stack: Stack, backlog: int, outage_seconds: int) -> list[list[str]]:
    _fill(stack, backlog)
    stack.start_s3()
    stack.make_bucket()
    stack.start_broker("local-broker")
    local = psutil.Process(stack.programs["local-broker"].pid)
    before = local.memory_info().rss
    stack.start("s3sink")
    stack.start("forwarder")
    watch = _Watch(stack)
    capture = cv2.VideoCapture(str(clip(CLIP)))
    jpegs = [cv2.imencode(".jpg", capture.read()[1])[1].tobytes() for _ in range(100)]
    with NetworkCamera(jpegs, LIVE_FRAMES_PER_SECOND) as camera:
        stack.start("detector", CAMERA_SOURCE=camera.address, FACE_INTERVAL="0")
        goal = backlog + outage_seconds * LIVE_FRAMES_PER_SECOND
        await_true(lambda: watch.stats.get("outbox", 0) >= goal, 120, "the outbox has grown")
        during, waiting = local.memory_info().rss, watch.stats["outbox"]
        stack.start_broker("cloud-broker")
        cloud = psutil.Process(stack.programs["cloud-broker"].pid)
        cloud_before = cloud.memory_info().rss
        await_true(lambda: watch.stats.get("outbox", goal) < waiting - 10, 60, "faces arrive again")
        back_at, began, left = datetime.now(UTC), time.perf_counter(), watch.stats["outbox"]
        with PeakMemory({"cloud-broker": cloud.pid}) as memory:
            await_true(lambda: watch.stats["outbox"] <= LIVE_FRAMES_PER_SECOND * 2, 300, "the backlog is sent")
        rate = (left - watch.stats["outbox"]) / (time.perf_counter() - began)
        await_true(lambda: bool(watch.delays_since(back_at)), 60, "a live face is receipted")
        stack.programs["detector"].stop()
    live = watch.delays_since(back_at)
    watch.session.close()
    return [
        ["faces in the outbox when the cloud returned", str(waiting)],
        ["  in bytes", megabytes(waiting * FACE_BYTES)],
        ["local broker's memory: before the outage, at its end", f"{megabytes(before)}, {megabytes(during)}"],
        [
            "cloud broker's memory: before, peak while the backlog is sent",
            f"{megabytes(cloud_before)}, {megabytes(memory.peak_bytes['cloud-broker'])}",
        ],
        ["faces/s of the backlog stored and receipted", f"{rate:.0f}"],
        ["live faces during that time", str(len(live))],
        ["  maximum from capture to receipt", f"{max(live):.2f} s"],
    ]


class _Watch:
    """Receives status and receipts at the local broker."""

    def __init__(self, stack: Stack) -> None:
        self.stats: dict[str, int] = {}
        self.receipts: list[tuple[datetime, float]] = []
        """Capture time, and seconds from then to the receipt."""
        self.session = Session(
            stack.local_endpoint(),
            ConnectOptions(client_id="watch", receive_maximum=1000),
            Stop(),
            on_message=self._take,
            subscriptions=[(topics.receipts(CAMERA), 1), (topics.status("detector", CAMERA), 1)],
        )
        self.session.start()

    def delays_since(self, moment: datetime) -> list[float]:
        """Return the seconds from capture to receipt of the faces captured after ``moment``."""
        return [delay for captured_at, delay in list(self.receipts) if captured_at > moment]

    def _take(self, message: Message) -> None:
        if message.topic.startswith("status/"):
            self.stats = status.decode(message.payload)
        else:
            captured_at = time_of_id((message.properties.correlation_data or b"").decode())
            self.receipts.append((captured_at, (datetime.now(UTC) - captured_at).total_seconds()))
        self.session.acknowledge(message)


def _fill(stack: Stack, count: int) -> None:
    outbox = Outbox(stack.folder / "outbox.db", 1 << 30)
    yesterday = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)
    capture = cv2.VideoCapture(str(clip(CLIP)))
    jpeg = cv2.imencode(".jpg", capture.read()[1][:120, :120])[1].tobytes()
    jpeg = jpeg[:-2] + os.urandom(max(0, FACE_BYTES - len(jpeg))).replace(b"\xff", b"\x00") + b"\xff\xd9"
    for number, one in enumerate(faces_of(count, jpeg, CAMERA)):
        captured_at = yesterday + timedelta(milliseconds=200 * number)
        outbox.store([replace(one, id=new_id(captured_at), captured_at=captured_at)])
    outbox.close()


if __name__ == "__main__":
    main()
