"""Attacks with messages: their number, size, properties, topics and texts. Each is a stream of packets."""

import itertools
from collections.abc import Iterator

from tests import packets
from tests.thief.faces import face_parts, small_face
from tests.thief.link import Thief

_LARGE_BYTES = 160_000
_PROPERTIES = 23_000
"""User properties of 7 bytes each in a message, which is then almost as large as the largest packet."""
_TOPIC_BYTES = 65_000
_RETAIN = 1
_TOPIC_ALIAS = 0x23
_CONTENT_TYPE, _CORRELATION_DATA = 0x03, 0x09
TEXTS = (
    "\u202egpj.live",
    "\u2028{}[]'\"",
    "../../x",
    "line\u0085 2026-11-26 00:00:00 [info] forged",
    "\x1b[2J\x1b[1;31mall devices are gone\x1b[0m",
    "line\r\n2026-11-26 00:00:00 [info] forged",
)
"""Texts that would change a terminal or forge a line of a log."""


def many_properties(thief: Thief, qos: int) -> Iterator[bytes]:
    """Thousands of properties in a message, which no queue counts. At QoS 2, no PUBREL follows."""
    properties = packets.user_properties(_PROPERTIES)
    for packet_id in itertools.cycle(range(1, 65536)):
        yield packets.publish(thief.topic(), b"x", qos=qos, packet_id=packet_id, properties=properties)


def large_messages(thief: Thief, qos: int) -> Iterator[bytes]:
    """Messages of 160 KB. The broker does not count those at QoS 0 in its queues. At QoS 2, no PUBREL follows."""
    for packet_id in itertools.cycle(range(1, 65536)):
        yield packets.publish(thief.topic(), bytes(_LARGE_BYTES), qos=qos, packet_id=packet_id)


def tiny_messages(thief: Thief, qos: int) -> Iterator[bytes]:
    """Messages of one byte, a thousand at once."""
    while True:
        yield packets.publish(thief.topic(), b"x", qos=qos) * 1000


def junk(thief: Thief) -> Iterator[bytes]:
    """Messages that are no faces, each different and of another camera: each is an object in quarantine."""
    for number in thief.numbers:
        yield packets.publish(thief.topic(f"faces/c{number}"), b"junk%d" % number)


def the_same_face(thief: Thief) -> Iterator[bytes]:
    """A face that is stored already: S3 has to be asked each time."""
    many = small_face(thief) * 100
    while True:
        yield many


def statuses(thief: Thief) -> Iterator[bytes]:
    """Messages that it may send, and that nobody wants."""
    while True:
        yield packets.publish(thief.topic("status/x"), bytes(1000)) * 100


def long_topics(thief: Thief) -> Iterator[bytes]:
    """Each message is on another topic of 64 KB, which may be logged."""
    for number in thief.numbers:
        topic = thief.topic(f"faces/{number:x}" + "\u00e4" * (_TOPIC_BYTES // 2))
        yield packets.publish(topic, b"junk%d" % number, qos=number % 2)


def foreign_topics(thief: Thief) -> Iterator[bytes]:
    """Topics that it has no right to: each message is refused."""
    for number in thief.numbers:
        for topic in (f"devices/honest-1/faces/{number}", "devices/honest-1/receipts/door", f"$SYS/{number}"):
            yield packets.publish(topic, bytes(1000)) * 20


def forged_texts(thief: Thief, text: str) -> Iterator[bytes]:
    """A text in the properties, attributes and topics of some messages."""
    properties = b"".join(bytes([kind]) + packets.text(text.encode()) for kind in (_CONTENT_TYPE, _CORRELATION_DATA))
    properties += packets.user_properties(1, text.encode(), text.encode())
    for number in itertools.islice(thief.numbers, 50):
        yield packets.publish(thief.topic(), b"junk%d" % number, properties=properties)
        for change in ({"model": text}, {"id": text}, {"source": text}):
            forged, jpeg = face_parts(thief, **change)
            yield packets.publish(thief.topic(), jpeg, properties=forged)
        yield packets.publish(thief.topic(f"faces/{text}{number}"), b"junk")


def aliases(thief: Thief, last: int) -> Iterator[bytes]:
    """Topic aliases: new ones, known ones without a topic, and a last one that may not be used."""
    for alias in (*range(1, 11), last):
        properties = bytes([_TOPIC_ALIAS]) + alias.to_bytes(2)
        yield packets.publish(thief.topic(f"faces/a{alias}"), b"x", properties=properties)
        yield packets.publish("", b"x", properties=properties) * 100


def retained(thief: Thief) -> Iterator[bytes]:
    """A message that is to be retained. Another topic each time."""
    message = packets.publish(thief.topic(f"status/{next(thief.numbers)}"), bytes(100_000))
    yield bytes([message[0] | _RETAIN]) + message[1:]
