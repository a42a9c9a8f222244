"""Attacks with connections, handshakes, and packets that are not allowed. Most of them open connections themselves."""

import contextlib
import random
from collections.abc import Iterator

from tests import packets
from tests.thief.faces import small_face_parts
from tests.thief.link import Link, Thief

_IDLE_SOCKETS = 1100
_HALF_CONNECTS = 400
_LARGE_BYTES = 60_000
_PROPERTIES = 14_000
"""User properties of 7 bytes each in a CONNECT, which is then smaller than the largest packet."""
_PINGREQ = b"\xc0\0"
_AUTH = 0xF0
_AUTHENTICATION_METHOD = 0x15
_ESCAPE = "\x1b[2J\x1b[31m\u202e\u2028"


def open_idle_sockets(thief: Thief) -> None:
    """As many TCP connections as the broker has ever accepted. Some begin a TLS handshake."""
    while True:
        with contextlib.suppress(OSError):
            link = thief.open(tls=False)
            thief.hold(link, _IDLE_SOCKETS)
            if len(thief.held) % 2:
                link.send(b"\x16\x03\x01\x02\0\x01")
        if len(thief.held) >= _IDLE_SOCKETS:
            thief.pause(0.01)


def send_half_of_connect(thief: Thief) -> None:
    """All of a large CONNECT but its end, of which a byte follows now and then."""
    padded = packets.connect(thief.name, properties=packets.user_properties(_PROPERTIES))
    while True:
        with contextlib.suppress(OSError):
            link = thief.open()
            thief.hold(link, _HALF_CONNECTS)
            link.send(padded[: -len(thief.name) - 2 - 500])
        for held in list(thief.held)[:: max(1, len(thief.held) // 10)]:
            _trickle(thief, held)


def make_handshakes(thief: Thief) -> None:
    """TLS handshakes without a CONNECT: the broker has to sign in each."""
    while True:
        thief.open().close()


def reconnect(thief: Thief) -> None:
    """Connections that replace each other, with both client ids. Each writes some lines into the log."""
    while True:
        for forwarder in (False, True):
            with contextlib.suppress(OSError):
                thief.hold(thief.connect(forwarder=forwarder), 2)


def leave_large_wills(thief: Thief) -> None:
    """A last will with thousands of properties, published at each disconnection."""
    will = (thief.topic(), bytes(_LARGE_BYTES), packets.user_properties(_PROPERTIES))
    while True:
        _leave(thief, packets.connect(thief.name, will=will))


def leave_faces_as_wills(thief: Thief) -> None:
    """A face as the last will of each connection."""
    while True:
        properties, jpeg = small_face_parts(thief)
        _leave(thief, packets.connect(thief.name, will=(thief.topic(), jpeg, properties)))


def send_long_names(thief: Thief) -> None:
    """A client id and a user name of 64 KB each, with control characters."""
    long = (_ESCAPE + "x" * 65_535).encode()[:65_500].decode(errors="ignore")
    while True:
        for name, user in ((long, None), (thief.name, long), (f"{thief.name}{_ESCAPE}", _ESCAPE), ("", "")):
            with contextlib.suppress(OSError):
                link = thief.open()
                link.send(packets.connect(name, user=user))
                link.await_connack()
                link.close()


def send_malformed_packets(thief: Thief) -> None:
    """Valid packets with some bytes changed."""
    chance = random.Random(thief.name)
    valid = [
        packets.connect(thief.name, will=(thief.topic(), b"x", packets.user_properties(3)), user="x"),
        packets.publish(thief.topic(), b"x" * 50, properties=packets.user_properties(3)),
        packets.subscribe([thief.topic("receipts/#")]),
        bytes([_AUTH, 2, 0x18, 0]),
    ]
    while True:
        with contextlib.suppress(OSError):
            link = thief.connect()
            for _ in range(20):
                broken = bytearray(chance.choice(valid))
                for _ in range(chance.randint(1, 3)):
                    broken[chance.randrange(len(broken))] = chance.randrange(256)
                link.send(bytes(broken))
            link.close()


def send_oversized_packets(thief: Thief) -> None:
    """Packets beyond the limit that the broker announces, up to the largest one of the standard."""
    while True:
        for length in (200_000, 10_000_000, 268_435_455):
            with contextlib.suppress(OSError):
                link = thief.connect()
                link.send(bytes([packets.PUBLISH]) + packets.number(length) + packets.text(thief.topic().encode()))
                link.send(bytes(min(length, 20_000_000)))
                link.close()


def send_auth(thief: Thief) -> None:
    """Enhanced authentication, which the broker does not offer."""
    method = bytes([_AUTHENTICATION_METHOD]) + packets.text(b"SCRAM-SHA-1")
    auth = packets.packet(_AUTH, b"\x18" + packets.number(len(method)) + method)
    while True:
        with contextlib.suppress(OSError):
            link = thief.open()
            link.send(packets.connect(thief.name, properties=method) + auth * 100)
            link.close()
        with contextlib.suppress(OSError):
            link = thief.connect()
            link.send(auth * 1000)
            link.close()


def pings(thief: Thief) -> Iterator[bytes]:
    """PINGREQ, 25,000 at once."""
    while True:
        yield _PINGREQ * 25_000


def _leave(thief: Thief, connect: bytes) -> None:
    """Connect, and end the connection without a DISCONNECT."""
    with contextlib.suppress(OSError):
        link = thief.open()
        link.send(connect)
        if link.await_connack():
            thief.done["refused connections"] += 1
        link.close()


def _trickle(thief: Thief, held: Link) -> None:
    """Send one more byte on a connection, or forget it if the broker has closed it."""
    try:
        held.send(b"\0")
    except OSError:
        thief.done["closed by the broker"] += 1
        held.close()
        thief.held.remove(held)
