"""Attacks with subscriptions. Each is a stream of packets for one connection."""

from collections.abc import Iterator

from tests import packets
from tests.thief.faces import small_faces
from tests.thief.link import Thief

_LEVELS = 60
_FILTERS = 1000
_UNSUBSCRIBE = 0xA2


def deep_filters(thief: Thief) -> Iterator[bytes]:
    """Filters below its own receipts: each level of each one is a node in the broker's memory."""
    while True:
        number = next(thief.numbers)
        filters = [f"devices/{thief.name}/receipts/{number}.{i}{'/+' * _LEVELS}" for i in range(_FILTERS)]
        yield packets.subscribe(filters, 1 + number % 65535)


def allowed_filter(thief: Thief) -> Iterator[bytes]:
    """The filter that is allowed, as often as possible."""
    while True:
        yield packets.subscribe([thief.topic("receipts/#")] * 100) * 50


def unsubscribes(thief: Thief) -> Iterator[bytes]:
    """Its own filter, and hundreds of others."""
    own, other = packets.text(thief.topic("receipts/#").encode()), packets.text(b"+/" * 30 + b"+")
    while True:
        yield packets.packet(_UNSUBSCRIBE, b"\0\1\0" + own + other * 500) * 20


def faces_and_receipts(thief: Thief) -> Iterator[bytes]:
    """Small faces whose receipts it asks for. It acknowledges none of them."""
    yield packets.subscribe([thief.topic("receipts/#")])
    yield from small_faces(thief)


def be_absent(thief: Thief) -> None:
    """Receipts are queued for its session that never expires, while its other session sends faces."""
    absent = thief.connect(stays=True)
    absent.send(packets.subscribe([thief.topic("receipts/#")]))
    absent.close()
    thief.connect(forwarder=True).send_all(small_faces(thief))
