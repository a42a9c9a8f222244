"""The forwarder beside Mosquitto's bridge: throughput, processor time and memory over links of many kinds.

``python -m benchmarks.forwarder``. A publisher sends faces to the local broker; they are forwarded over TLS to the
cloud's broker, where a subscriber receives them. Publisher, subscriber and the link are processes of their own. Both
run with the same brokers. The bridge is a part of the local broker: its processor time is that of the whole broker.
"""

import os
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.measure import benchmark_parser, megabytes, processor, show, spread
from benchmarks.transport.link import Link, LinkKind
from benchmarks.transport.traffic import Account, Ends, Traffic
from demo.ports import HOST
from demo.stack import DEVICE, OPERATOR, OPERATOR_PASSWORD, Stack
from wire import topics
from wire.process import log

FACE_BYTES = 10_000
ROUNDS = 3
WINDOW = 2500
"""Faces that have been sent and have not arrived: 25 MB, which the queue of the local broker can hold."""
LINKS = {
    "loopback": LinkKind(),
    "20 ms": LinkKind(0.02),
    "100 ms": LinkKind(0.1),
    "300 ms": LinkKind(0.3),
    "10 Mbit/s, 100 ms": LinkKind(0.1, 10e6 / 8),
    "50 Mbit/s, 100 ms": LinkKind(0.1, 50e6 / 8),
    "100 Mbit/s, 100 ms": LinkKind(0.1, 100e6 / 8),
}
"""Round trips and rates between the device and the cloud."""
QUICK_LINKS = ("loopback", "100 Mbit/s, 100 ms")
SECONDS = 4.0
"""How long a round over a link with a rate takes, roughly."""
FAST_FACES = 6000
"""Faces of a round over a link without a rate."""
NO_LIMITS = {
    "messages_per_second": 1_000_000,
    "message_burst": 1_000_000,
    "bytes_per_second": 2_000_000_000,
    "byte_burst": 2_000_000_000,
}
"""Options of the guard, which limits a device in the cloud."""


@dataclass(frozen=True, slots=True)
class Result:
    """What was measured over one link."""

    rates: list[float]
    """Faces per second of each round."""
    processor_ms: list[float]
    """Milliseconds of processor time per face in each round."""
    peak_bytes: int


def main() -> None:
    """Measure every link and print the table."""
    parser = benchmark_parser("benchmarks.forwarder", __doc__)
    parser.add_argument("--only", action="append", choices=LINKS, help="measure only this link; may be repeated")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="how often each link is measured (%(default)s)")
    arguments = parser.parse_args()
    log.configure("error", "console")
    names = arguments.only or (QUICK_LINKS if arguments.quick else tuple(LINKS))
    rows = []
    for name in names:
        kind = LINKS[name]
        faces = _faces_of_a_round(kind)
        if arguments.quick:
            faces //= 10
        rounds = 1 if arguments.quick else arguments.rounds
        ours, theirs = (_measure(contender, kind, faces, rounds) for contender in (_forwarder, _bridge))
        ratio = statistics.median(ours.rates) / statistics.median(theirs.rates)
        rows += [_row(name, "forwarder", ours, f"{ratio:.2f}"), _row("", "bridge", theirs, "")]
    show(
        f"Forwarding faces of {FACE_BYTES // 1000} kB at QoS 1 over TLS ({processor()})",
        ["link to the cloud", "", "faces/s: median", "of the bridge's", "processor ms/face", "peak memory"],
        rows,
    )


def _row(link: str, name: str, result: Result, ratio: str) -> list[str]:
    cost = f"{statistics.median(result.processor_ms):.3f}"
    return [link, name, spread(result.rates), ratio, cost, megabytes(result.peak_bytes)]


def _faces_of_a_round(kind: LinkKind) -> int:
    return FAST_FACES if kind.bytes_per_second is None else int(kind.bytes_per_second * SECONDS / FACE_BYTES)


def _measure(
    contender: Callable[[Stack, int], tuple[psutil.Process, str]], kind: LinkKind, faces: int, rounds: int
) -> Result:
    """Measure one way of forwarding over one link."""
    with ExitStack() as exits:
        stack = exits.enter_context(_brokers())
        port = stack.cloud_port
        if kind != LinkKind():
            port = exits.enter_context(Link(kind, port)).port
        process, topic = contender(stack, port)
        traffic = Traffic(
            source=Account(stack.local_port, OPERATOR, OPERATOR_PASSWORD),
            target=Account(stack.watch_port),
            topic=topic,
            watched=topics.ALL_DEVICES_FACES,
            jpeg=os.urandom(FACE_BYTES),
            window=WINDOW,
        )
        ends = Ends(traffic)
        exits.callback(ends.close)
        ends.carry(max(50, faces // 4))  # a warm-up: connections and windows grow
        rates, processor_ms = [], []
        for _ in range(rounds):
            before = _processor_seconds(process)
            rates.append(ends.carry(faces))
            processor_ms.append(1000 * (_processor_seconds(process) - before) / faces)
        return Result(rates, processor_ms, _peak_bytes(process))


@contextmanager
def _brokers() -> Iterator[Stack]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        with Stack(Path(folder), watched=True, limits=NO_LIMITS) as stack:
            stack.start_broker("cloud-broker")
            yield stack


def _forwarder(stack: Stack, port: int) -> tuple[psutil.Process, str]:
    stack.start_broker("local-broker")
    program = stack.start_connected("forwarder", CLOUD_MQTT_PORT=str(port))
    return psutil.Process(program.pid), topics.faces("bench")


def _bridge(stack: Stack, port: int) -> tuple[psutil.Process, str]:
    stack.authority  # noqa: B018 (makes the device's certificate)
    device = stack.folder / DEVICE
    program = stack.start_broker(
        "local-broker",
        f"""
connection to-cloud
address {HOST}:{port}
bridge_cafile {device / "ca.pem"}
bridge_certfile {device / "cert.pem"}
bridge_keyfile {device / "key.pem"}
bridge_protocol_version mqttv50
remote_clientid facewire-forwarder-{DEVICE}
cleansession false
topic faces/# out 1 "" devices/{DEVICE}/
""",
    )
    return psutil.Process(program.pid), topics.faces("bench")


def _processor_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _peak_bytes(process: psutil.Process) -> int:
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    main()
