"""Messages that a broker has acknowledged and that survive a power cut, by Mosquitto's persistence settings.

``python -m benchmarks.broker_durability``. Faces of 10 kB are published at QoS 1 while their subscriber is
disconnected. Then the broker is killed with SIGKILL and started again, and the subscriber reconnects. Facewire's outbox
is measured in the same way: a process that stores faces is killed.
"""

import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from benchmarks.measure import benchmark_parser, show
from demo.ports import HOST, free_port
from demo.program import ROOT, Program, await_true, find_program, listens
from edge.detector.delivery.outbox import Outbox
from wire.mqtt.connect_options import ConnectOptions
from wire.mqtt.connection import Message
from wire.mqtt.endpoint import Endpoint
from wire.mqtt.session import Session
from wire.process import log
from wire.process.lifecycle import Stop

FACES = 1000
FACE_BYTES = 10_000
WINDOW = 20
SUBSCRIPTION = "faces/#"
END = "faces/end"
PERSISTENCE = {
    "Mosquitto, persistence false": "persistence false",
    "Mosquitto, persistence true, saved every 30 minutes (its default)": "persistence true",
    "Mosquitto, saved after each change": "persistence true\nautosave_on_changes true\nautosave_interval 1",
}


def main() -> None:
    """Measure each way and print the table."""
    count = 50 if benchmark_parser("benchmarks.broker_durability", __doc__).parse_args().quick else FACES
    log.configure("error", "console")
    rows = []
    for name, persistence in PERSISTENCE.items():
        with tempfile.TemporaryDirectory() as folder:
            rate, survived = _broker(Path(folder), persistence, count)
        rows.append([name, f"{rate:.0f}", f"{survived} of {count}"])
    with tempfile.TemporaryDirectory(dir=ROOT) as folder:
        rate, survived = _outbox(Path(folder), count)
    rows.append(["Facewire's outbox (SQLite, WAL, synchronous=FULL)", f"{rate:.0f}", f"{survived} of {count}"])
    show(f"Faces of {FACE_BYTES // 1000} kB that were acknowledged, then kill -9", ["", "faces/s", "still there"], rows)


class _Client:
    """A client that counts what arrives."""

    def __init__(self, port: int, client_id: str, *subscriptions: str) -> None:
        self.count = 0
        self.ended = threading.Event()
        self.session = Session(
            Endpoint("broker", HOST, port),
            ConnectOptions(client_id=client_id, receive_maximum=1000, session_expiry_seconds=3600),
            Stop(),
            on_message=self._take,
            subscriptions=[(topic, 1) for topic in subscriptions],
        )
        self.session.start()
        await_true(lambda: self.session.connected, 30, f"{client_id} is connected")

    def _take(self, message: Message) -> None:
        if message.topic == END:
            self.ended.set()
        else:
            self.count += 1
        self.session.acknowledge(message)


def _broker(folder: Path, persistence: str, count: int) -> tuple[float, int]:
    """Return acknowledged faces per second, and how many were there after the restart."""
    port = free_port()
    config = folder / "mosquitto.conf"
    user = "user root\n" if os.geteuid() == 0 else ""
    config.write_text(
        f"listener {port} {HOST}\nallow_anonymous true\nmax_queued_messages 0\npersistence_location {folder}/\n"
        f"{user}{persistence}\n"
    )
    broker = Program("broker", [find_program("mosquitto"), "-c", str(config)], os.environ, folder / "log")

    def start() -> None:
        broker.start()
        await_true(lambda: listens(port), 10, "the broker listens")

    start()
    _Client(port, "subscriber", SUBSCRIPTION).session.close()
    publisher, room = _Client(port, "publisher"), threading.Semaphore(WINDOW)
    began = time.perf_counter()
    for _ in range(count):
        room.acquire()
        answer = publisher.session.publish("faces/door", os.urandom(FACE_BYTES), qos=1)
        answer.add_done_callback(lambda _: room.release())
    for _ in range(WINDOW):
        room.acquire()
    rate = count / (time.perf_counter() - began)
    broker.kill()
    publisher.session.close()
    start()
    subscriber = _Client(port, "subscriber", SUBSCRIPTION)
    last = _Client(port, "publisher")
    last.session.publish(END, b"", qos=1).result(30)  # the broker delivers what it had queued before this one
    subscriber.ended.wait(60)
    for client in (subscriber, last):
        client.session.close()
    broker.kill()
    return rate, subscriber.count


_STORE = """
import os, sys, time
from pathlib import Path
from benchmarks.measure import faces_of
from edge.detector.delivery.outbox import Outbox
path, count, size = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
outbox, faces = Outbox(path, 1 << 30), faces_of(count, os.urandom(size), "door")
began = time.perf_counter()
for face in faces:
    outbox.store([face])
print(time.perf_counter() - began, flush=True)
time.sleep(600)
"""


def _outbox(folder: Path, count: int) -> tuple[float, int]:
    """Return committed faces per second, and how many were there after the process was killed."""
    path = folder / "outbox.db"
    command = [sys.executable, "-c", _STORE, str(path), str(count), str(FACE_BYTES)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as storing:
        assert storing.stdout is not None
        seconds = float(storing.stdout.readline())
        storing.kill()
    return count / seconds, Outbox(path, 1 << 30).count


if __name__ == "__main__":
    main()
