"""Thin links: how much of the link carries pictures for the first time, and how often a face is uploaded.

``python -m benchmarks.thin_link``. The outbox has a backlog, and the link to the cloud has a limited rate in each
direction and a round trip of 100 ms. First nobody has subscribed in the cloud for a minute; then the sink starts.
"""

import os
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cv2
import numpy as np

from benchmarks.measure import benchmark_parser, faces_of, show
from demo.ports import HOST
from demo.program import await_true
from demo.stack import CAMERA, Stack
from edge.detector.delivery.outbox import Outbox
from tests.chaos.proxy import Mode, TcpProxy
from wire import probe, topics
from wire.ids import new_id
from wire.mqtt.connect_options import ConnectOptions
from wire.mqtt.connection import Message
from wire.mqtt.endpoint import Endpoint
from wire.mqtt.session import Session
from wire.process import log
from wire.process.lifecycle import Stop

LINKS = {
    "32 kbit/s": 4_000,
    "64 kbit/s": 8_000,
    "128 kbit/s": 16_000,
    "400 kbit/s": 50_000,
    "2 Mbit/s": 250_000,
    "10 Mbit/s": 1_250_000,
}
"""Bytes per second of each link."""
SIZES = {"20 kB": 20_000, "110 kB": 110_000}
QUICK_LINKS = ("2 Mbit/s",)
ROUND_TRIP_SECONDS = 0.1
SIDE_BY_SIDE_BYTES_PER_SECOND = 100_000
"""Links below this rate are measured side by side, as they leave the processor idle."""
_SIDE_BY_SIDE = 4


@dataclass(frozen=True, slots=True)
class Result:
    """What was measured on one link."""

    faces: int
    share: float
    """Share of the link that carried pictures for the first time."""
    uploads: float
    """Mean number of uploads of a face."""
    unheard: float
    """Share of the link that was used while nobody had subscribed."""


def main() -> None:
    """Measure every link and print the table."""
    parser = benchmark_parser("benchmarks.thin_link", __doc__)
    parser.add_argument("--only", action="append", choices=LINKS, help="measure only this link; may be repeated")
    arguments = parser.parse_args()
    log.configure("error", "console")
    names = arguments.only or (QUICK_LINKS if arguments.quick else tuple(LINKS))
    seconds, silence = (3.0, 3.0) if arguments.quick else (60.0, 60.0)
    cells = [(name, size) for name in names for size in SIZES]
    thin = [cell for cell in cells if LINKS[cell[0]] < SIDE_BY_SIDE_BYTES_PER_SECOND]

    def run(cell: tuple[str, str]) -> Result:
        return _measure(LINKS[cell[0]], SIZES[cell[1]], seconds, silence)

    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        results = dict(zip(thin, pool.map(run, thin), strict=True))
    results |= {cell: run(cell) for cell in cells if cell not in results}
    show(
        f"Thin links, with a round trip of {1000 * ROUND_TRIP_SECONDS:g} ms",
        ["link", "faces of", "faces", "pictures for the first time", "uploads a face", "nobody subscribed"],
        [_row(cell, results[cell]) for cell in cells],
    )


def _row(cell: tuple[str, str], result: Result) -> Sequence[str]:
    share, unheard = f"{100 * result.share:.1f} % of the link", f"{100 * result.unheard:.2f} % of the link"
    return [*cell, str(result.faces), share, f"{result.uploads:.2f}", unheard]


def _measure(rate: float, size: int, seconds: float, silence: float) -> Result:
    """Measure one link.

    Args:
        rate: of the link, in bytes per second.
        size: of a face, in bytes.
        seconds: how long the link is busy, roughly.
        silence: seconds without a subscriber.
    """
    count = max(6, round(rate * seconds / size))
    with ExitStack() as exits:
        folder = Path(exits.enter_context(tempfile.TemporaryDirectory()))
        folder.chmod(0o755)
        stack = exits.enter_context(Stack(folder, watched=True))
        _fill(stack, count, size)
        stack.start_servers()
        link = exits.enter_context(TcpProxy(stack.cloud_port))
        link.latency_seconds, link.mode = ROUND_TRIP_SECONDS / 2, Mode.DELAY
        link.bytes_per_second = rate
        stack.start_connected("forwarder", 60, CLOUD_MQTT_PORT=str(link.port))
        before, began = link.bytes_up, time.monotonic()
        cv2.imwrite(str(folder / "black.png"), np.zeros((64, 64, 3), np.uint8))
        detector = stack.start("detector", CAMERA_SOURCE=str(folder / "black.png"))
        time.sleep(silence)
        unheard = (link.bytes_up - before) / rate / (time.monotonic() - began)
        link.mode = Mode.STALL  # until both subscribers are connected: every face is to reach both
        watch = _Watch(stack)
        exits.callback(watch.session.close)
        await_true(lambda: watch.session.connected, 20, "the watcher is connected")
        stack.start_connected("s3sink", 60)
        link.mode = Mode.DELAY
        await_true(lambda: len(watch.uploads) > 0, 120, "the first face has arrived")
        limit = 60 + 3 * count * size / rate
        await_true(lambda: detector.running is False, limit, "every face is receipted")
        took = watch.last_at - watch.first_at
        return Result(count, (count - 1) * size / rate / took, sum(watch.uploads.values()) / count, unheard)


class _Watch:
    """Counts the uploads of each face."""

    def __init__(self, stack: Stack) -> None:
        self.uploads: Counter[bytes] = Counter()
        self.first_at = 0.0
        """When the first face had arrived; the link is busy from here to :attr:`last_at`."""
        self.last_at = 0.0
        self.session = Session(
            Endpoint("cloud broker", HOST, stack.watch_port),
            ConnectOptions(client_id="watch", receive_maximum=1000),
            Stop(),
            on_message=self._take,
            subscriptions=[(topics.ALL_DEVICES_FACES, 1)],
        )
        self.session.start()

    def _take(self, message: Message) -> None:
        self.session.acknowledge(message)
        if probe.is_probe(message.properties, message.payload):
            return
        number = message.properties.correlation_data or b""
        self.first_at = self.first_at or time.monotonic()
        if number not in self.uploads:
            self.last_at = time.monotonic()
        self.uploads[number] += 1


def _fill(stack: Stack, count: int, size: int) -> None:
    outbox = Outbox(stack.folder / "outbox.db", 1 << 30)
    yesterday = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)
    jpeg = cv2.imencode(".jpg", np.zeros((64, 64, 3), np.uint8))[1].tobytes()
    jpeg = jpeg[:-2] + os.urandom(size - len(jpeg)).replace(b"\xff", b"\x00") + b"\xff\xd9"
    for number, one in enumerate(faces_of(count, jpeg, CAMERA)):
        captured_at = yesterday + timedelta(milliseconds=200 * number)
        outbox.store([replace(one, id=new_id(captured_at), captured_at=captured_at)])
    outbox.close()


if __name__ == "__main__":
    main()
