"""What strangers may send: neither process dies or stalls, and every message is accounted for."""

import random
import re
import threading
from collections import Counter
from concurrent.futures import Future

import pytest

from demo.ports import free_port
from demo.program import await_true
from demo.stack import DEVICE, Stack
from tests.builders import Peer, make_face, make_jpeg
from tests.scrape import scrape
from wire import face
from wire.errors import Refused
from wire.mqtt.properties import Properties

COUNTERS = (
    "facewire_objects_written_total",
    "facewire_objects_already_there_total",
    "facewire_objects_quarantined_total",
    "facewire_objects_refused_total",
    "facewire_messages_dropped_total",
    "facewire_messages_turned_away_total",
)
"""What becomes of a message in the sink: each one is counted once."""
UNDER_WAY = 128
JPEG = make_jpeg(24, 24)
STRANGE = (
    *(
        "",
        " ",
        "  x  ",
        "..",
        "../../etc/passwd",
        "/",
        "a/b",
        "device=jetson-2",
        "%2e%2e",
        "\ufeff",
        "\u00fc\u4e16\U0001f600",
    ),
    *("x" * 300, "x" * 5000, "-1", "1e999", "nan", "null", "{}", "<script>", "'; DROP TABLE faces", "0x10", "\u0660"),
    *("2026-11-22T15:04:05.123Z", "2026-11-22", "9999-12-31T23:59:59.999Z", "00000000-0000-7000-8000-000000000000"),
    *("ffffffff-ffff-7fff-bfff-ffffffffffff", "01938C3E-0000-7ABC-8DEF-0123456789AB", "1,2,3", "1,2,3,4", "0x0", "1x1"),
)
KEY = re.compile(
    r"faces/(quarantine/device=([A-Za-z0-9][A-Za-z0-9_-]{0,63}|_)/date=\d{4}-\d\d-\d\d/[0-9a-f]{64}"
    r"|device=[A-Za-z0-9][A-Za-z0-9_-]{0,63}/camera=[A-Za-z0-9][A-Za-z0-9_-]{0,63}/date=\d{4}-\d\d-\d\d"
    r"/\d{6}\.\d{3}Z-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\.jpg)"
)


def fuzzed(chance: random.Random) -> tuple[str, bytes, Properties]:
    """A camera's name, a payload and properties: a face of which anything may have been changed."""
    seen = make_face(jpeg=JPEG)
    attributes = list(face.encode(seen).user_properties)
    for _ in range(chance.choice((0, 0, 1, 1, 2, 5))):
        position = chance.randrange(len(attributes) + 1)
        change = chance.choice(("drop", "double", "value", "name", "add", "shuffle"))
        if change == "add" or position == len(attributes):
            attributes.insert(position, (_text(chance), _text(chance)))
        elif change == "drop":
            del attributes[position]
        elif change == "double":
            attributes.append(attributes[position])
        elif change == "value":
            attributes[position] = (attributes[position][0], _text(chance))
        elif change == "name":
            attributes[position] = (_text(chance), attributes[position][1])
        else:
            chance.shuffle(attributes)
        if not attributes:
            break
    payload = chance.choice(
        (
            lambda: JPEG,
            lambda: JPEG,
            lambda: JPEG[: chance.randrange(len(JPEG))],
            lambda: chance.randbytes(chance.randrange(400)),
            lambda: b"\xff\xd8\xff" + chance.randbytes(chance.randrange(400)),
            lambda: _flipped(chance),
            lambda: b"",
        )
    )()
    camera = chance.choice(("door", "door", "door", "..", "a=b", "a b", "a/b", "x" * 200, "\u00fc", "quarantine"))
    properties = Properties(
        content_type=chance.choice(("image/jpeg", None, _text(chance))),
        correlation_data=chance.choice((seen.id.encode(), None, b"", b"\x00\xff/../", chance.randbytes(40))),
        user_properties=tuple(attributes),
        response_topic=chance.choice((None, None, "devices/jetson-2/receipts/door", "faces/door")),
        payload_format=chance.choice((None, 0)),
        message_expiry_seconds=chance.choice((None, 100, 2**32 - 1)),
    )
    return camera, payload, properties


def _text(chance: random.Random) -> str:
    return chance.choice(STRANGE) if chance.random() < 0.8 else "".join(map(chr, chance.choices(range(32, 127), k=8)))


def _flipped(chance: random.Random) -> bytes:
    damaged = bytearray(JPEG)
    for _ in range(chance.randrange(1, 6)):
        damaged[chance.randrange(len(damaged))] = chance.randrange(256)
    return bytes(damaged)


@pytest.mark.parametrize("count", [1000, pytest.param(10_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("entrance", ["edge", "cloud"])
def test_every_message_is_stored_quarantined_or_refused_and_counted(stack: Stack, entrance: str, count: int):
    """From a client at the edge, through the forwarder; or from one at the cloud's broker."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance, metrics_port = random.Random(seed), free_port()
    stack.start_servers()
    stack.start_connected("s3sink", METRICS_PORT=str(metrics_port))
    stack.start_connected("forwarder")
    port, prefix = (
        (stack.local_port, "faces/") if entrance == "edge" else (stack.watch_port, f"devices/{DEVICE}/faces/")
    )
    room = threading.Semaphore(UNDER_WAY)
    answers: Counter[str] = Counter()

    def answered(answer: "Future[int]") -> None:
        error = answer.exception()
        answers["accepted" if error is None else "refused" if isinstance(error, Refused) else repr(error)] += 1
        room.release()

    def counted() -> dict[str, int]:
        return {name: int(value) for name, value in scrape(metrics_port).items() if name in COUNTERS}

    with Peer(port) as stranger, Peer(stack.watch_port, "devices/+/receipts/#") as receipts:
        for _ in range(count):
            room.acquire()
            camera, payload, properties = fuzzed(chance)
            if chance.random() < 0.01:
                payload += bytes(300_000)
            stranger.session.publish(prefix + camera, payload, qos=1, properties=properties).add_done_callback(answered)
        await_true(lambda: answers.total() == count, 60, "each has been answered")
        honest = make_face(jpeg=JPEG)
        stranger.session.publish(f"{prefix}door", JPEG, qos=1, properties=face.encode(honest)).result(60)
        await_true(
            lambda: any(message.properties.correlation_data == honest.id.encode() for message in receipts.messages),
            60,
            "a valid face after them is receipted",
        )
    assert set(answers) == {"accepted", "refused"}
    assert {message.topic for message in receipts.messages} <= {
        f"devices/{DEVICE}/receipts/{camera}" for camera in ("door", "quarantine")
    }
    # Writes finish out of order: others may still be under way when the last one has its receipt.
    expected = answers["accepted"] + 1
    await_true(lambda: sum(counted().values()) >= expected, 60, f"the sink counts {expected} messages")
    counts = counted()
    assert sum(counts.values()) == expected, counts
    assert counts["facewire_messages_turned_away_total"] == 0  # no other device is active
    assert counts["facewire_objects_quarantined_total"] > 0
    assert counts["facewire_objects_written_total"] > 0
    for name in ("s3sink", "forwarder"):
        assert stack.programs[name].stop() == 0
    for key in stack.keys():
        assert KEY.fullmatch(key), key
