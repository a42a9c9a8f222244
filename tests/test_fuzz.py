"""Fuzz test: on arbitrary messages, forwarder and sink neither crash nor stall, and every message is counted."""

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

REFUSED = "facewire_messages_refused_total{direction=up}"
"""Messages of the forwarder that the cloud's broker refuses, for example with too large properties."""
COUNTERS = (
    "facewire_objects_written_total",
    "facewire_objects_already_there_total",
    "facewire_objects_quarantined_total",
    "facewire_objects_refused_total",
    "facewire_messages_dropped_total",
    "facewire_messages_turned_away_total",
    "facewire_messages_handed_back_total",
)
"""Counters for the possible results of a message in the sink. Each message increments exactly one of them."""
MAX_IN_FLIGHT = 128
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
    *("x" * 300, "x" * 3000, "-1", "1e999", "nan", "null", "{}", "<script>", "'; DROP TABLE faces", "0x10", "\u0660"),
    *("2026-11-22T15:04:05.123Z", "2026-11-22", "9999-12-31T23:59:59.999Z", "00000000-0000-7000-8000-000000000000"),
    *("ffffffff-ffff-7fff-bfff-ffffffffffff", "01938C3E-0000-7ABC-8DEF-0123456789AB", "1,2,3", "1,2,3,4", "0x0", "1x1"),
)
"""Two of the longest in one message are below the limit of the cloud's broker. It shuts a device out that exceeds the
limit 20 times in 10 s, and what is then sent again would be counted twice."""
KEY = re.compile(
    r"faces/(quarantine/device=([A-Za-z0-9][A-Za-z0-9_-]{0,63}|_)/date=\d{4}-\d\d-\d\d/[0-9a-f]{64}"
    r"|device=[A-Za-z0-9][A-Za-z0-9_-]{0,63}/camera=[A-Za-z0-9][A-Za-z0-9_-]{0,63}/date=\d{4}-\d\d-\d\d"
    r"/\d{6}\.\d{3}Z-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\.jpg)"
)


def make_fuzzed_message(rng: random.Random) -> tuple[str, bytes, Properties]:
    """Camera name, payload and properties of a face with random changes."""
    original = make_face(jpeg=JPEG)
    attributes = list(face.encode(original).user_properties)
    for _ in range(rng.choice((0, 0, 1, 1, 2, 5))):
        position = rng.randrange(len(attributes) + 1)
        change = rng.choice(("drop", "double", "value", "name", "add", "shuffle"))
        if change == "add" or position == len(attributes):
            attributes.insert(position, (_text(rng), _text(rng)))
        elif change == "drop":
            del attributes[position]
        elif change == "double":
            attributes.append(attributes[position])
        elif change == "value":
            attributes[position] = (attributes[position][0], _text(rng))
        elif change == "name":
            attributes[position] = (_text(rng), attributes[position][1])
        else:
            rng.shuffle(attributes)
        if not attributes:
            break
    payload = rng.choice(
        (
            lambda: JPEG,
            lambda: JPEG,
            lambda: JPEG[: rng.randrange(len(JPEG))],
            lambda: rng.randbytes(rng.randrange(400)),
            lambda: b"\xff\xd8\xff" + rng.randbytes(rng.randrange(400)),
            lambda: _corrupted_jpeg(rng),
            lambda: b"",
        )
    )()
    camera = rng.choice(("door", "door", "door", "..", "a=b", "a b", "a/b", "x" * 200, "\u00fc", "quarantine"))
    properties = Properties(
        content_type=rng.choice(("image/jpeg", None, _text(rng))),
        correlation_data=rng.choice((original.id.encode(), None, b"", b"\x00\xff/../", rng.randbytes(40))),
        user_properties=tuple(attributes),
        response_topic=rng.choice((None, None, "devices/jetson-2/receipts/door", "faces/door")),
        payload_format=rng.choice((None, 0)),
        message_expiry_seconds=rng.choice((None, 100, 2**32 - 1)),
    )
    return camera, payload, properties


def _text(rng: random.Random) -> str:
    return rng.choice(STRANGE) if rng.random() < 0.8 else "".join(map(chr, rng.choices(range(32, 127), k=8)))


def _corrupted_jpeg(rng: random.Random) -> bytes:
    corrupted = bytearray(JPEG)
    for _ in range(rng.randrange(1, 6)):
        corrupted[rng.randrange(len(corrupted))] = rng.randrange(256)
    return bytes(corrupted)


@pytest.mark.parametrize("count", [1000, pytest.param(10_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("entrance", [pytest.param("edge", marks=pytest.mark.slow), "cloud"])
def test_every_message_is_stored_quarantined_or_refused_and_counted(stack: Stack, entrance: str, count: int):
    """For messages from a local client through the forwarder, and from a client of the cloud broker."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng, metrics_port, forwarder_port = random.Random(seed), free_port(), free_port()
    stack.start_servers()
    stack.start_connected("s3sink", METRICS_PORT=str(metrics_port))
    stack.start_connected("forwarder", METRICS_PORT=str(forwarder_port))
    port, prefix = (
        (stack.local_port, "faces/") if entrance == "edge" else (stack.watch_port, f"devices/{DEVICE}/faces/")
    )
    free_slots = threading.Semaphore(MAX_IN_FLIGHT)
    answers: Counter[str] = Counter()

    def on_answer(answer: "Future[int]") -> None:
        error = answer.exception()
        answers["accepted" if error is None else "refused" if isinstance(error, Refused) else repr(error)] += 1
        free_slots.release()

    def read_counters() -> dict[str, int]:
        counters = {name: int(value) for name, value in scrape(metrics_port).items() if name in COUNTERS}
        return counters | {REFUSED: int(scrape(forwarder_port)[REFUSED])}

    with Peer(port) as client, Peer(stack.watch_port, "devices/+/receipts/#") as receipts:
        for number in range(count):
            if number % 500 == 499:  # otherwise the sink turns messages away
                await_true(lambda: answers["accepted"] - sum(read_counters().values()) < 500, 60, "the sink keeps up")
            free_slots.acquire()
            camera, payload, properties = make_fuzzed_message(rng)
            if rng.random() < 0.01:
                payload += bytes(300_000)
            client.session.publish(prefix + camera, payload, qos=1, properties=properties).add_done_callback(on_answer)
        await_true(lambda: answers.total() == count, 60, "every message is acknowledged")
        valid = make_face(jpeg=JPEG)
        client.session.publish(f"{prefix}door", JPEG, qos=1, properties=face.encode(valid)).result(60)
        await_true(
            lambda: any(message.properties.correlation_data == valid.id.encode() for message in receipts.messages),
            60,
            "a valid face after them is receipted",
        )
    assert set(answers) == {"accepted", "refused"}
    assert {message.topic for message in receipts.messages} <= {
        f"devices/{DEVICE}/receipts/{camera}" for camera in ("door", "quarantine")
    }
    # Writes finish out of order, so others may still be in progress when the last face has its receipt.
    expected = answers["accepted"] + 1
    await_true(lambda: sum(read_counters().values()) >= expected, 60, f"sink and forwarder count {expected} messages")
    counts = read_counters()
    assert sum(counts.values()) == expected, counts
    assert counts["facewire_messages_turned_away_total"] == 0
    assert counts["facewire_objects_quarantined_total"] > 0
    assert counts["facewire_objects_written_total"] > 0
    for name in ("s3sink", "forwarder"):
        assert stack.programs[name].stop() == 0
    for key in stack.keys():
        assert KEY.fullmatch(key), key
