"""One broker under test: the whole chain, a node killed again and again, and the faces counted."""

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from demo.program import ROOT, Program, await_true
from demo.stack import Stack
from tests.brokers.balancer import Balancer
from tests.brokers.broker import Broker
from tests.brokers.outbox import Device

MAX_DRAIN_SECONDS = 180.0
CHECK_SECONDS = 120
_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Plan:
    """How long a run takes, and how often a node is killed."""

    seconds: float
    kill_every: float
    down_seconds: float
    rate: float
    """Faces a second."""
    settings: dict[str, str]
    """For the device."""
    examines: bool
    """Whether the broker is examined first."""


FULL = Plan(300.0, 20.0, 4.0, 10.0, {}, examines=True)
QUICK = Plan(10.0, 5.0, 1.0, 10.0, {"RESEND_AFTER": "5"}, examines=False)


@dataclass
class Result:
    """What became of the faces."""

    broker: str
    kills: int = 0
    faces: int = 0
    stored: int = 0
    lost: int = 0
    """Faces that are not in S3."""
    twice: int = 0
    waiting: int = 0
    """Faces without a receipt at the end."""
    longest_gap: float = 0.0
    """Longest time in which the outbox got no receipt, in seconds."""
    drain_seconds: float = 0.0
    """From the last face until the outbox was empty."""
    notes: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether each face is in S3 once, and its device knows that."""
        return self.faces > 0 and not (self.lost or self.twice or self.waiting or self.notes)


def examine(stack: Stack, port: int, folder: Path) -> int:
    """Run ``wire.check_broker``, keep its output, and return its exit status."""
    environ = stack.environ("s3sink", CLOUD_MQTT_PORT=str(port))
    command = [sys.executable, "-m", "wire.check_broker", "--width", "132"]
    done = subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=CHECK_SECONDS, check=False
    )
    (folder / "check.txt").write_text(done.stdout + done.stderr)
    return done.returncode


def run(name: str, make: Callable[[Stack, Path], Broker], folder: Path, plan: Plan) -> Result:
    """Run the chain against a broker and return the result."""
    result = Result(name)
    with Stack(folder) as stack:
        stack.start_s3()
        stack.make_bucket()
        stack.start_broker("local-broker")
        broker = make(stack, folder / "broker")
        try:
            broker.start()
            if plan.examines and examine(stack, broker.ports[0], folder) and broker.may_examine:
                result.notes.append(f"check_broker says that it cannot carry Facewire: see {folder / 'check.txt'}")
            with Balancer(broker.ports) as balancer:
                _run_chain(stack, broker, balancer.port, plan, result)
        finally:
            broker.end()
    return result


def _run_chain(stack: Stack, broker: Broker, port: int, plan: Plan, result: Result) -> None:
    stack.settings["CLOUD_MQTT_PORT"] = str(port)
    sinks = [_start_sink(stack, f"s3sink-{number + 1}") for number in range(broker.sinks)]
    forwarder = stack.start_connected("forwarder", 60)
    with Device(stack, plan.rate, **plan.settings) as device:
        watch = _Watch(device)
        await_true(lambda: watch.receipts() > 0, 60, "the first receipt arrives")
        began_at = time.monotonic()
        while (at := began_at + (result.kills + 1) * plan.kill_every) <= began_at + plan.seconds:
            watch.until(at)
            node = broker.kill(result.kills)
            result.kills += 1
            watch.until(time.monotonic() + plan.down_seconds)
            node.start()
        broker.await_nodes()
        watch.until(began_at + plan.seconds)
        device.show_nobody()
        ended_at = time.monotonic()
        while device.waiting and time.monotonic() < ended_at + MAX_DRAIN_SECONDS:
            watch.until(time.monotonic() + _POLL_SECONDS)
        result.drain_seconds = time.monotonic() - ended_at
        result.longest_gap, result.waiting = watch.longest_gap, device.waiting
        _count(stack, device, result)
    for program in (forwarder, *sinks):
        if not program.running:
            result.notes.append(f"{program.name} has ended: see its log")
        elif code := program.stop(30):
            result.notes.append(f"{program.name} ended with {code}")


def _start_sink(stack: Stack, name: str) -> Program:
    command = [sys.executable, "-m", "cloud.s3sink"]
    program = stack._program(name, command, stack.environ("s3sink", SINK_NAME=name))
    await_true(lambda: "connected    " in program.output(), 60, f"{name} is connected")
    return program


class _Watch:
    """Watches how many faces have got a receipt."""

    def __init__(self, device: Device) -> None:
        self.longest_gap = 0.0
        self._device = device
        self._last, self._at = 0, time.monotonic()

    def receipts(self) -> int:
        """Return how many faces have left the outbox."""
        return len(self._device.made) - self._device.waiting

    def until(self, at: float) -> None:
        """Watch until a time on the monotonic clock."""
        while True:
            now, receipts = time.monotonic(), self.receipts()
            if receipts > self._last:
                self.longest_gap = max(self.longest_gap, now - self._at)
                self._last, self._at = receipts, now
            if now >= at:
                return
            time.sleep(min(_POLL_SECONDS, at - now))


def _count(stack: Stack, device: Device, result: Result) -> None:
    keys = stack.keys()
    copies = Counter(key.removesuffix(".jpg")[-36:] for key in keys)
    made = device.made
    result.faces, result.stored = len(made), sum(face_id in copies for face_id in made)
    result.lost = result.faces - result.stored
    result.twice = sum(count > 1 for count in copies.values())
    strangers = set(copies) - set(made)
    if strangers:
        result.notes.append(f"{len(strangers)} objects are no face of the device, such as {min(strangers)}")
