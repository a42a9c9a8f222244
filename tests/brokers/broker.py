"""What the brokers under test have in common: nodes, which can be started, killed and awaited."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from demo.program import Program, await_true, listens
from demo.stack import Stack
from tests.brokers.artemis import Artemis, Way, is_spare
from tests.brokers.hivemq import HiveMq
from tests.brokers.mosquitto import Guarded, Mosquitto
from tests.brokers.stores import make_stores

START_SECONDS = 90
"""How long a node in Java may take to start on a busy machine."""


@dataclass
class Broker:
    """A broker of one or more nodes."""

    ports: Sequence[int]
    """One of each node."""
    nodes: Sequence[Program]
    has_spare: bool = False
    """Whether only one of the nodes listens, and another one is ready to take over."""
    sinks: int = 2
    """How many sinks share the work."""
    may_examine: bool = True
    """Whether it permits what ``wire.check_broker`` does."""

    def start(self) -> None:
        """Start all nodes, and wait until clients can connect."""
        for node in self.nodes:
            node.start()
        await_true(self._is_ready, START_SECONDS, "the broker listens")

    def kill(self, number: int) -> Program:
        """Kill a node as a power cut would, when all are up, and return it. ``number`` counts the kills."""
        self.await_nodes()
        up = [node for node, port in zip(self.nodes, self.ports, strict=True) if listens(port)]
        node = up[number % len(up)]
        node.kill()
        return node

    def await_nodes(self) -> None:
        """Wait until all nodes that should listen do."""
        await_true(self._is_ready, START_SECONDS, "the broker listens again")

    def end(self) -> None:
        """Kill all nodes."""
        for node in self.nodes:
            node.kill()

    def _is_ready(self) -> bool:
        ended = [node.name for node in self.nodes if not node.running]
        if ended:
            raise RuntimeError(f"{ended[0]} has ended: see its log")
        up = [listens(port) for port in self.ports]
        if not self.has_spare:
            return all(up)
        return any(up) and all(is_up or is_spare(node.output()) for node, is_up in zip(self.nodes, up, strict=True))


def _artemis(way: Way) -> Callable[[Stack, Path], Broker]:
    def make(stack: Stack, folder: Path) -> Broker:
        made = Artemis(folder, make_stores(stack.authority, folder), way)
        return Broker(made.ports, made.programs, has_spare=way is Way.PAIR)

    return make


def _hivemq(*, on_disk: bool) -> Callable[[Stack, Path], Broker]:
    def make(stack: Stack, folder: Path) -> Broker:
        made = HiveMq(folder, make_stores(stack.authority, folder), on_disk=on_disk)
        return Broker(made.ports, made.programs)

    return make


def _mosquitto(stack: Stack, folder: Path) -> Broker:
    made = Mosquitto(folder, stack.authority.broker)
    return Broker(made.ports, made.programs)


def _guarded(stack: Stack, folder: Path) -> Broker:
    made = Guarded(stack)
    return Broker(made.ports, made.programs, may_examine=False)


BROKERS: dict[str, Callable[[Stack, Path], Broker]] = {
    "artemis": _artemis(Way.CLUSTER),
    "artemis-pair": _artemis(Way.PAIR),
    "hivemq": _hivemq(on_disk=False),
    "hivemq-disk": _hivemq(on_disk=True),
    "mosquitto": _mosquitto,
    "mosquitto-guard": _guarded,
}
"""How to make each broker."""
QUICK = ("artemis", "hivemq", "mosquitto")
DEFAULT = tuple(name for name in BROKERS if name != "hivemq-disk")
"""Those that pass. HiveMQ with sessions on disk may deliver nothing more after it was killed: see docs/brokers.md."""
