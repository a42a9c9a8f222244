"""A device with a valid certificate that sends what no honest client sends."""

import contextlib
from collections.abc import Callable, Iterator

import pytest

from demo.program import await_true
from demo.stack import Stack
from tests import packets
from tests.builders import make_jpeg
from tests.cloud import files_of
from tests.intrusion.attacker import (
    BROKER_MEGABYTES,
    FLOODER,
    ROGUE,
    Record,
    broker_megabytes,
    check_stored_keys,
    credentials_of,
    is_accepted,
)
from tests.packets import RawClient
from wire.mqtt.tls import TlsFiles

TWO_LETTERS = packets.user_properties(23_000)
"""161 KB: just below the largest packet."""
MAX_LOG_BYTES = 200_000
"""Of each intrusion: an eighth of what is kept of a log for a minute."""

Packets = Callable[[str], Iterator[bytes]]
"""Makes the packets of a device."""


def faces(device: str) -> str:
    """Return a topic on which a device may publish."""
    return f"devices/{device}/faces/door"


def properties_of_messages(qos: int) -> Packets:
    """A hundred messages; those at QoS 2 are never released."""
    return lambda me: (
        packets.publish(faces(me), b"x", qos=qos, packet_id=number, properties=TWO_LETTERS) for number in range(1, 101)
    )


def unsubscribe(filters: list[str]) -> bytes:
    """Return an UNSUBSCRIBE."""
    return packets.packet(0xA2, b"\0\1\0" + b"".join(packets.text(one.encode()) for one in filters))


FLOODS: dict[str, Packets] = {
    "100 messages with 23,000 user properties at QoS 0": properties_of_messages(0),
    "100 messages with 23,000 user properties at QoS 1": properties_of_messages(1),
    "100 messages with 23,000 user properties at QoS 2, never released": properties_of_messages(2),
    "2,000 messages of 100 KB at QoS 2, never released": lambda me: (
        packets.publish(faces(me), bytes(100_000), qos=2, packet_id=number) for number in range(1, 2001)
    ),
    "2,000 messages of 100 KB at QoS 0": lambda me: (
        packets.publish(faces(me), bytes(100_000), qos=0) for _ in range(2000)
    ),
    "150 topics of 64 KB": lambda me: (
        packets.publish(f"{faces(me)}/" + "\u00e4" * 32_000, b"x", packet_id=number) for number in range(1, 151)
    ),
    "12,000 filters with 61 levels": lambda me: (
        packets.subscribe([f"devices/{me}/receipts/{number}-{part}/" + "+/" * 60 for part in range(100)])
        for number in range(120)
    ),
    "10,000 filters with its own topics": lambda me: (
        packets.subscribe([f"devices/{me}/receipts/{number}-{part}" for part in range(100)]) for number in range(100)
    ),
    "5,000 times the same filter": lambda me: (packets.subscribe([f"devices/{me}/receipts/#"]) for _ in range(5000)),
    "100 SUBSCRIBEs with 23,000 user properties": lambda me: (
        packets.packet(
            packets.SUBSCRIBE, b"\0\1" + packets.number(len(TWO_LETTERS)) + TWO_LETTERS + packets.text(b"x") + b"\1"
        )
        for _ in range(100)
    ),
    "100 UNSUBSCRIBEs of 10,000 filters": lambda me: (
        unsubscribe([f"x/{part}" for part in range(10_000)]) for _ in range(100)
    ),
    "10,000 PINGREQs": lambda me: (b"\xc0\0" for _ in range(10_000)),
    "10,000 acknowledgements of unknown messages": lambda me: (b"\x40\2\0\7" for _ in range(10_000)),
    "10,000 releases of unknown messages": lambda me: (b"\x62\2\0\7" for _ in range(10_000)),
    "1,000 topic aliases": lambda me: (
        packets.publish(faces(me), b"x", packet_id=alias, properties=b"\x23" + alias.to_bytes(2))
        for alias in range(1, 1001)
    ),
    "an unknown topic alias": lambda me: iter([packets.publish("", b"x", properties=b"\x23\0\7")]),
    "AUTH": lambda me: (b"\xf0\0" for _ in range(100)),
    "a second CONNECT": lambda me: (packets.connect(me) for _ in range(100)),
    "a CONNACK": lambda me: iter([b"\x20\3\0\0\0"]),
    "a reserved packet type": lambda me: iter([b"\0\0"]),
    "a packet length of five bytes": lambda me: iter([b"\x30\xff\xff\xff\xff\xff"]),
    "a topic longer than its packet": lambda me: iter([b"\x30\4\xff\xffab"]),
    "a property longer than its packet": lambda me: iter([packets.packet(0x30, packets.text(b"a") + b"\x7f\x26\xff")]),
    "QoS 3": lambda me: iter([packets.publish(faces(me), b"x", qos=3)]),
    "a packet id of 0": lambda me: iter([packets.publish(faces(me), b"x", packet_id=0)]),
    "a topic that is no UTF-8": lambda me: iter([packets.packet(0x30, packets.text(b"\xff\xfe") + b"\0x")]),
    "a topic with a wildcard": lambda me: iter([packets.publish(f"devices/{me}/faces/#", b"x")]),
    "an empty SUBSCRIBE": lambda me: iter([packets.packet(packets.SUBSCRIBE, b"\0\1\0")]),
}


@pytest.fixture(scope="module")
def devices(cloud: Stack) -> dict[str, TlsFiles]:
    """A device for each flood: the broker shuts it out for a while."""
    names = [f"{FLOODER}-{number}" for number in range(len(FLOODS))]
    folder = cloud.folder / "flooders"
    folder.mkdir()
    files = {name: files_of(cloud.authority.enroll(name), folder) for name in names}
    await_true(lambda: is_accepted(cloud, files[names[-1]]), 10, "their certificates are in force")
    return files


@pytest.mark.parametrize("flood", FLOODS)
def test_packets_fill_nothing(cloud: Stack, devices: dict[str, TlsFiles], record: Record, flood: str):
    """Neither the broker's memory nor its log, and nothing is stored for another device."""
    log = cloud.folder / "cloud-broker.log"
    logged = log.stat().st_size
    peak, sent = 0.0, 0
    me = f"{FLOODER}-{list(FLOODS).index(flood)}"
    with RawClient(cloud.cloud_port, devices[me]) as rogue:
        assert rogue.connect(me) == 0
        rogue.socket.settimeout(2)
        with contextlib.suppress(OSError):
            for packet in FLOODS[flood](me):
                rogue.send(packet)
                sent += 1
                if sent % 50 == 0:
                    peak = max(peak, broker_megabytes(cloud))
        peak = max(peak, broker_megabytes(cloud))
        ended = "" if rogue.is_open else "; disconnected"
    assert peak < BROKER_MEGABYTES
    assert log.stat().st_size - logged < MAX_LOG_BYTES
    check_stored_keys(cloud)
    record(flood, f"{sent} sent, broker {peak:.0f} MB at most{ended}")


@pytest.mark.parametrize(
    "name",
    [
        "properties of a CONNECT",
        "properties of a last will",
        "client id of 64 KB",
        "user name of 64 KB",
        "keepalive of 0",
    ],
)
def test_large_connects_fill_nothing(cloud: Stack, record: Record, name: str):
    """Twenty times, each on a new connection that is left open."""
    connect = {
        "properties of a CONNECT": packets.connect(ROGUE, properties=TWO_LETTERS),
        "properties of a last will": packets.connect(ROGUE, will=(faces(ROGUE), make_jpeg(), TWO_LETTERS)),
        "client id of 64 KB": packets.connect("x" * 65_535),
        "user name of 64 KB": packets.connect(ROGUE, user="x" * 65_535),
        "keepalive of 0": packets.connect(ROGUE, keepalive=0),
    }[name]
    log = cloud.folder / "cloud-broker.log"
    logged = log.stat().st_size
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            rogue = stack.enter_context(RawClient(cloud.cloud_port, credentials_of(cloud, ROGUE)))
            with contextlib.suppress(OSError):
                rogue.send(connect)
                rogue.receive()
        megabytes = broker_megabytes(cloud)
    assert megabytes < BROKER_MEGABYTES
    assert log.stat().st_size - logged < MAX_LOG_BYTES
    check_stored_keys(cloud)
    record(f"{name}, 20 times", f"broker {megabytes:.0f} MB")
