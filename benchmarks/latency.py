"""Latency by stage: how long after its capture a face reaches each point on its way to S3 and back.

``python -m benchmarks.latency``. A network camera gives pictures of 640 x 360 at 1, 5, 24 and 50 frames/s, and every
detection is sent. Everything runs on this machine. The cloud's broker is reached with and without TLS, directly or over
a link with a round trip of 100 ms.

A second table has the time from the first frame that shows a face to the receipt of its first picture, which includes
the wait for a better one (``FACE_FIRST_WAIT``). ``--only first`` measures only this.

The detector's own stages are estimated from its histograms, as an operator would do it. The other times are those at
which observers receive the messages at the two brokers.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.measure import benchmark_parser, processor, show
from demo.camera import NetworkCamera
from demo.film import clip
from demo.ports import HOST, free_port
from demo.program import await_true
from demo.stack import CAMERA, DEVICE, Stack
from tests.chaos.proxy import Mode, TcpProxy
from tests.scrape import scrape
from wire import topics
from wire.errors import BadMessage
from wire.ids import time_of_id
from wire.mqtt.connect_options import ConnectOptions
from wire.mqtt.connection import Message
from wire.mqtt.endpoint import Endpoint
from wire.mqtt.session import Session
from wire.process import log
from wire.process.lifecycle import Stop

CLIP = "WolfgangLanger_Pexels.mp4"
RATES = (1, 5, 24, 50)
"""Frames per second; almost every frame has one face."""
FACES = 480
MAX_SECONDS = 30
"""Each measurement ends after this many faces or seconds, whichever comes first."""
WARM_UP_FACES = 3
"""The first faces, which are not counted."""
FIRST_WAITS = ("0", "0.3")
"""Values of FACE_FIRST_WAIT that are compared."""
APPEARANCES = 12
"""Times that somebody comes into view, for each of them."""
APPEARANCE_RATE = 24
SHOWN_FRAMES, EMPTY_FRAMES = 24, 60
"""A face is in view for one second, and gone for 2.5 s: longer than a track lives without it."""
LINK_SECONDS = 0.1
"""Round trip of the long link to the cloud."""
QUANTILES = (0.5, 0.9, 0.99)
BY_DETECTOR = {"detected": "searched", "stored": "committed to the outbox", "published": "published"}
"""What is printed for each stage of the detector's histogram."""
AT_LOCAL, AT_CLOUD, RECEIPT_AT_CLOUD, RECEIPT_AT_LOCAL = (
    "at the local broker",
    "at the cloud's broker",
    "written to S3, its receipt at the cloud's broker",
    "its receipt at the edge",
)
"""What the observers see, in order."""


@dataclass(frozen=True, slots=True)
class Route:
    """How the forwarder reaches the cloud's broker."""

    has_tls: bool
    round_trip: float
    """Seconds that the link adds."""

    def __str__(self) -> str:
        return f"{'TLS' if self.has_tls else 'no TLS'}, round trip of {1000 * self.round_trip:g} ms"


ROUTES = [Route(has_tls, round_trip) for round_trip in (0.0, LINK_SECONDS) for has_tls in (True, False)]


def main() -> None:
    """Measure every route at every rate, and print a table for each route."""
    parser = benchmark_parser("benchmarks.latency", __doc__)
    parser.add_argument("--rate", type=int, action="append", help="only these frames per second; may be repeated")
    parser.add_argument("--only", choices=("stages", "first"), help="only one of the tables")
    arguments = parser.parse_args()
    rates, faces, appearances = arguments.rate or RATES, FACES, APPEARANCES
    if arguments.quick:
        rates, faces, appearances = (24,), 48, 1
    log.configure("warning", "console")
    jpegs = _pictures()
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder), watched=True) as stack:
        stack.start_servers()
        stack.start_connected("s3sink")
        if arguments.only != "stages":
            _print_first({wait: _measure_first(stack, jpegs, wait, appearances) for wait in FIRST_WAITS})
        for route in ROUTES if arguments.only != "first" else ():
            measured = {rate: _measure(stack, route, jpegs, rate, min(faces, rate * MAX_SECONDS)) for rate in rates}
            _print(route, measured)


def _print(route: Route, measured: Mapping[int, Mapping[str, Sequence[float]]]) -> None:
    """Print a table: a line for each stage, a column for each rate."""
    stages = next(iter(measured.values()))
    rows = [
        [stage, *(" / ".join(f"{1000 * seconds:.1f}" for seconds in found[stage]) for found in measured.values())]
        for stage in stages
    ]
    quantiles = " / ".join(f"p{100 * quantile:g}" for quantile in QUANTILES)
    show(
        f"Milliseconds since the capture: {quantiles}. {route}; {processor()}",
        ["", *(f"{rate} faces/s" for rate in measured)],
        rows,
    )


def _measure(stack: Stack, route: Route, jpegs: Sequence[bytes], rate: float, faces: int) -> dict[str, list[float]]:
    """Return, for each stage, the quantiles of the seconds since the capture."""
    with ExitStack() as exits:
        port = stack.cloud_port if route.has_tls else stack.watch_port
        link = exits.enter_context(TcpProxy(port))
        if route.round_trip:
            port, link.latency_seconds, link.mode = link.port, route.round_trip / 2, Mode.DELAY
        tls = {} if route.has_tls else stack.without_tls()
        stack.start_connected("forwarder", 20, **{**tls, "CLOUD_MQTT_PORT": str(port)})
        exits.callback(stack.programs["forwarder"].stop)
        observer = Observer(stack)
        exits.callback(observer.close)
        camera = exits.enter_context(NetworkCamera(jpegs, rate))
        metrics_port = free_port()
        detector = stack.start(
            "detector", CAMERA_SOURCE=camera.address, FACE_INTERVAL="0", METRICS_PORT=str(metrics_port)
        )
        exits.callback(detector.stop)
        patience = 60 + 3 * faces / rate
        await_true(lambda: len(observer.ages[RECEIPT_AT_LOCAL]) >= faces + WARM_UP_FACES, patience, "receipts")
        samples = scrape(metrics_port)
    found = {name: _quantiles_of_histogram(samples, stage) for stage, name in BY_DETECTOR.items()}
    for name, ages in observer.ages.items():
        found[name] = [_quantile(sorted(ages[WARM_UP_FACES:]), quantile) for quantile in QUANTILES]
    return found


def _print_first(measured: Mapping[str, Sequence[float]]) -> None:
    columns = ["", *(f"FACE_FIRST_WAIT={wait}" for wait in measured)]
    found = [sorted(seconds) for seconds in measured.values()]
    rows = [
        ["median", *(f"{1000 * _quantile(seconds, 0.5):.0f}" for seconds in found)],
        ["longest", *(f"{1000 * seconds[-1]:.0f}" for seconds in found)],
    ]
    show(
        f"Milliseconds from the first frame with a face to the first receipt. {ROUTES[0]}; {processor()}", columns, rows
    )


def _measure_first(stack: Stack, jpegs: Sequence[bytes], wait: str, appearances: int) -> list[float]:
    """Return the seconds from each appearance of a face to the receipt of its first picture, with TLS."""
    shown: list[datetime] = []
    with ExitStack() as exits:
        stack.start_connected("forwarder", 20)
        exits.callback(stack.programs["forwarder"].stop)
        observer = Observer(stack)
        exits.callback(observer.close)
        camera = exits.enter_context(NetworkCamera(_Appearances(jpegs, shown), APPEARANCE_RATE))
        detector = stack.start("detector", CAMERA_SOURCE=camera.address, FACE_FIRST_WAIT=wait)
        exits.callback(detector.stop)
        await_true(lambda: len(shown) > appearances + 1, 60 + 4 * appearances, "appearances")
    receipts = observer.arrivals[RECEIPT_AT_LOCAL]
    found = []
    for begin, end in list(pairwise(shown))[1:]:  # the first one may be over before the detector is connected
        after = [moment for moment in receipts if begin < moment < end]
        if after:
            found.append((after[0] - begin).total_seconds())
    if not found:
        raise RuntimeError("no receipt of any first picture")
    return found


class _Appearances(Sequence[bytes]):
    """Pictures without end: a face comes into view again and again."""

    def __init__(self, jpegs: Sequence[bytes], shown: list[datetime]) -> None:
        """Set up the pictures; the time of the first one of each appearance is added to ``shown``."""
        self._jpegs, self._shown = jpegs, shown
        image = np.full((360, 640, 3), 128, np.uint8)
        self._empty = cv2.imencode(".jpg", image)[1].tobytes()

    def __iter__(self) -> Iterator[bytes]:
        while True:
            self._shown.append(datetime.now(UTC))
            yield from self._jpegs[:SHOWN_FRAMES]
            yield from [self._empty] * EMPTY_FRAMES

    def __len__(self) -> int:
        return SHOWN_FRAMES + EMPTY_FRAMES

    def __getitem__(self, place: Any) -> Any:
        return self._jpegs[place] if place < SHOWN_FRAMES else self._empty


class Observer:
    """Receives faces and receipts at both brokers, and notes how long ago each face was captured."""

    def __init__(self, stack: Stack) -> None:
        self.ages: dict[str, list[float]] = {
            name: [] for name in (AT_LOCAL, AT_CLOUD, RECEIPT_AT_CLOUD, RECEIPT_AT_LOCAL)
        }
        """Seconds since the capture, in the order of arrival."""
        self.arrivals: dict[str, list[datetime]] = {name: [] for name in self.ages}
        """When they have arrived, UTC."""
        cloud = Endpoint("cloud's broker", HOST, stack.watch_port)
        faces, receipts = topics.faces(CAMERA), topics.receipts(CAMERA)
        self._sessions = [
            self._watch(stack.local_endpoint(), {faces: AT_LOCAL, receipts: RECEIPT_AT_LOCAL}),
            self._watch(
                cloud,
                {topics.to_cloud(DEVICE, faces): AT_CLOUD, topics.to_cloud(DEVICE, receipts): RECEIPT_AT_CLOUD},
            ),
        ]

    def close(self) -> None:
        """Disconnect."""
        for session in self._sessions:
            session.close()

    def _watch(self, endpoint: Endpoint, names: Mapping[str, str]) -> Session:
        def note(message: Message) -> None:
            now = datetime.now(UTC)
            session.acknowledge(message)
            face_id = (message.properties.correlation_data or b"").decode()
            try:
                captured_at = time_of_id(face_id)
            except BadMessage:
                return  # the forwarder's probe
            self.ages[names[message.topic]].append((now - captured_at).total_seconds())
            self.arrivals[names[message.topic]].append(now)

        session = Session(
            endpoint,
            ConnectOptions(client_id="observer", receive_maximum=1000),
            Stop(),
            on_message=note,
            subscriptions=[(topic, 1) for topic in names],
        )
        session.start()
        await_true(lambda: session.connected, 10, f"the observer is connected to the {endpoint.name}")
        return session


def _quantiles_of_histogram(samples: Mapping[str, float], stage: str) -> list[float]:
    """Return the quantiles of a stage, interpolated in the buckets as Prometheus's ``histogram_quantile`` does."""
    buckets = sorted(
        (float(name.partition("{le=")[2].partition("}")[0]), count)
        for name, count in samples.items()
        if name.startswith("facewire_face_age_seconds_bucket") and f"{{stage={stage}}}" in name
    )
    total = buckets[-1][1]
    found = []
    for quantile in QUANTILES:
        rank = quantile * total
        for (low, before), (high, count) in pairwise([(0.0, 0.0), *buckets]):
            if count >= rank:
                found.append(low + (high - low) * (rank - before) / max(1.0, count - before))
                break
    return found


def _quantile(ordered: Sequence[float], quantile: float) -> float:
    return ordered[min(len(ordered) - 1, int(quantile * len(ordered)))]


def _pictures() -> list[bytes]:
    """Return five seconds of the film as JPEGs."""
    capture = cv2.VideoCapture(str(clip(CLIP)))
    return [cv2.imencode(".jpg", capture.read()[1])[1].tobytes() for _ in range(120)]


if __name__ == "__main__":
    main()
