"""The sink as a process, between a real broker and a real S3 server."""

import hashlib
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cloud.s3sink.objects import object_of
from demo.program import HOST, await_true, find_program
from demo.stack import BUCKET, Stack
from tests.builders import CAPTURED_AT, Peer, make_face, make_faces, make_jpeg
from wire import face
from wire.mqtt.connection import Message
from wire.mqtt.properties import Properties
from wire.topics import Origin

FACES = "devices/jetson-1/faces/door"
RECEIPTS = "devices/jetson-1/receipts/door"
JPEG = make_jpeg()


@pytest.fixture
def cloud(stack: Stack) -> Stack:
    """Broker, S3 and sink of the test's own."""
    stack.start_s3()
    stack.make_bucket()
    stack.start_broker("cloud-broker")
    stack.start_connected("s3sink")
    return stack


def quarantined(stack: Stack) -> list[tuple[str, str]]:
    """Key and reason of what is in quarantine."""
    return [
        (key, stack.s3().head_object(Bucket=BUCKET, Key=key)["Metadata"]["reason"])
        for key in stack.keys("faces/quarantine/")
    ]


def test_a_face_is_stored_under_its_key_with_all_its_attributes(cloud: Stack):
    """Then, and only then, its receipt is sent."""
    seen = make_face(jpeg=JPEG, latitude=41.8781, longitude=-87.6298)
    with Peer(cloud.watch_port, "devices/+/receipts/+") as device:
        device.session.publish(FACES, seen.jpeg, qos=1, properties=face.encode(seen))
        (receipt,) = device.await_messages(1)
    assert (receipt.topic, receipt.payload) == (RECEIPTS, b"")
    assert receipt.properties.correlation_data == seen.id.encode()
    key = f"faces/device=jetson-1/camera=door/date=2026-11-22/150405.123Z-{seen.id}.jpg"
    assert cloud.keys() == [key]
    stored = cloud.s3().get_object(Bucket=BUCKET, Key=key)
    assert stored["Body"].read() == JPEG
    assert stored["ContentType"] == "image/jpeg"
    assert stored["Metadata"] == dict(face.encode(seen).user_properties)


def test_a_face_that_comes_again_is_stored_once_and_signed_for_again(cloud: Stack):
    """The first object stays, whatever the second message holds."""
    seen = make_face(jpeg=JPEG)
    with Peer(cloud.watch_port, "devices/+/receipts/+") as device:
        for payload in (JPEG, JPEG, make_jpeg(seed=2)):
            device.session.publish(FACES, payload, qos=1, properties=face.encode(seen)).result(10)
            device.await_messages(len(device.messages) + 1)
    (key,) = cloud.keys()
    assert cloud.s3().get_object(Bucket=BUCKET, Key=key)["Body"].read() == JPEG
    assert len(device.messages) == 3


def test_device_and_camera_come_from_the_topic(cloud: Stack):
    """Never from what the message says: else one device could sign for another's faces, or write among them."""
    forged = make_face(jpeg=JPEG, origin=Origin("jetson-2", "vault"))
    with Peer(cloud.watch_port, "devices/+/receipts/+") as device:
        device.session.publish(FACES, JPEG, qos=1, properties=face.encode(forged))
        (receipt,) = device.await_messages(1)
    assert receipt.topic == RECEIPTS
    (key,) = cloud.keys()
    assert key.startswith("faces/device=jetson-1/camera=door/")
    assert cloud.s3().head_object(Bucket=BUCKET, Key=key)["Metadata"]["source"] == "/devices/jetson-1/cameras/door"


def test_a_plain_jpeg_of_any_client_is_stored(cloud: Stack, tmp_path: Path):
    """MQTT 3.1.1 and 5, with an id of its hash and the time of its arrival."""
    picture = tmp_path / "face.jpg"
    for number, version in enumerate(("mqttv311", "mqttv5")):
        picture.write_bytes(make_jpeg(seed=number))
        subprocess.run(
            [
                find_program("mosquitto_pub"),
                *("-h", HOST, "-p", str(cloud.watch_port), "-V", version, "-q", "1", "-t", FACES, "-f", str(picture)),
            ],
            check=True,
        )
    await_true(lambda: len(cloud.keys()) == 2, 10, "both are stored")
    digests = set()
    for key in cloud.keys():
        stored = cloud.s3().get_object(Bucket=BUCKET, Key=key)
        digests.add(hashlib.sha256(stored["Body"].read()).hexdigest())
        assert digests >= {stored["Metadata"]["sha256"]}
        assert stored["Metadata"]["id"] in key
        assert stored["ContentType"] == "image/jpeg"
        arrived = face.parse_time(stored["Metadata"]["time"])
        assert timedelta(0) <= datetime.now(UTC) - arrived < timedelta(seconds=60)
    assert digests == {hashlib.sha256(make_jpeg(seed=number)).hexdigest() for number in (0, 1)}


def test_what_is_no_face_is_in_quarantine_with_a_reason_and_nothing_is_stuck_behind_it(cloud: Stack):
    """Stored whole, counted, receipted; never retried for ever, never dropped."""
    good = make_face(jpeg=JPEG)
    wrong = make_face(jpeg=JPEG, confidence=2.0)
    with Peer(cloud.watch_port, "devices/+/receipts/+") as device:

        def publish(topic: str, payload: bytes, properties: Properties) -> None:
            device.session.publish(topic, payload, qos=1, properties=properties).result(10)

        publish(FACES, b"hello", Properties(correlation_data=b"text"))
        publish(FACES, b"", Properties(correlation_data=b"empty"))
        publish(FACES, JPEG[: len(JPEG) // 2], Properties(correlation_data=b"half"))
        publish(FACES, JPEG, face.encode(wrong))
        publish("devices/jetson-1/faces/a  b/\u00e9=", JPEG, Properties(correlation_data=b"topic"))
        publish(FACES, JPEG, face.encode(good))
        receipts = device.await_messages(5)
    assert {receipt.properties.correlation_data for receipt in receipts} == {
        *(b"text", b"empty", b"half"),
        wrong.id.encode(),
        good.id.encode(),
    }
    await_true(lambda: len(cloud.keys()) == 6, 10, "all are stored")
    reasons = sorted(reason for _, reason in quarantined(cloud))
    assert len(reasons) == 5
    for part, reason in zip(
        ("attribute confidence is '2.000'", "cut short", "payload is empty", "starts with 68656c", "topic 'devices"),
        reasons,
        strict=True,
    ):
        assert part in reason
    assert all("/device=jetson-1/" in key for key, _ in quarantined(cloud))
    assert cloud.programs["s3sink"].stop() == 0
    assert "quarantined=5" in cloud.programs["s3sink"].output()
    assert "written=1" in cloud.programs["s3sink"].output()


def test_a_receipt_gives_back_no_more_than_an_id(cloud: Stack):
    """A device could fill the broker with its own receipts: a picture gets the id that it was stored under."""
    with Peer(cloud.watch_port, "devices/+/receipts/+") as device:
        device.session.publish(FACES, JPEG, qos=1, properties=Properties(correlation_data=bytes(60_000)))
        (receipt,) = device.await_messages(1)
    (key,) = cloud.keys()
    assert (receipt.properties.correlation_data or b"").decode() == key.removesuffix(".jpg")[-36:]


def test_s3_away_is_waited_for_and_nothing_is_lost(cloud: Stack):
    """It says so once, keeps what it has unacknowledged, and recovers by itself."""
    cloud.programs["s3"].kill()
    made = make_faces(100, jpeg=JPEG)
    with Peer(cloud.watch_port, "devices/+/receipts/+") as device:
        for seen in made:
            device.session.publish(FACES, seen.jpeg, qos=1, properties=face.encode(seen)).result(10)
        await_true(lambda: "trying again" in cloud.programs["s3sink"].output(), 20, "it says so")
        assert device.messages == []
        cloud.start_s3()
        device.await_messages(100, 60)
    assert len(cloud.keys()) == 100
    log = cloud.programs["s3sink"].output()
    assert log.count("S3 does not take objects") == 1
    assert log.count("S3 takes objects again") == 1


def test_a_sink_that_is_killed_amid_its_work_loses_nothing_and_doubles_nothing(cloud: Stack):
    """What was not acknowledged comes again; what was stored already is found to be there."""
    made = make_faces(300, jpeg=JPEG)
    with Peer(cloud.watch_port, "devices/+/receipts/+") as device:
        for seen in made[:150]:
            device.session.publish(FACES, seen.jpeg, qos=1, properties=face.encode(seen))
        device.await_messages(20)
        cloud.programs["s3sink"].kill()
        for seen in made[150:]:
            device.session.publish(FACES, seen.jpeg, qos=1, properties=face.encode(seen))
        cloud.start("s3sink")
        await_true(lambda: len(cloud.keys()) == 300, 40, "all are stored")


def test_the_order_to_stop_ends_it_cleanly_amid_its_work(cloud: Stack):
    """Writes under way are finished and signed for; the rest comes again."""
    made = make_faces(1000, jpeg=JPEG)
    with Peer(cloud.watch_port, "devices/+/receipts/+") as device:
        for seen in made:
            device.session.publish(FACES, seen.jpeg, qos=1, properties=face.encode(seen))
        device.await_messages(1)
        assert cloud.programs["s3sink"].stop(5) == 0
        assert len(cloud.keys()) < 1000
        cloud.start("s3sink")
        await_true(lambda: len(cloud.keys()) == 1000, 60, "all are stored")


@pytest.mark.parametrize(
    ("settings", "status", "words"),
    [
        ({"S3_BUCKET": "nowhere-at-all"}, 69, "S3_BUCKET is 'nowhere-at-all': there is no such bucket"),
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, 77, "S3_BUCKET is 'faces': access denied"),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, 77, "S3_BUCKET is 'faces': no credentials"),
        ({"AWS_ENDPOINT_URL_S3": "not an address"}, 2, "AWS settings"),
        ({"S3_BUCKET": "UPPER", "S3_CONCURRENCY": "0"}, 2, "S3_BUCKET is 'UPPER'"),
    ],
)
def test_what_is_wrong_at_the_start_is_told_in_one_line(servers: Stack, settings, status: int, words: str):
    """With the bucket's name, what is missing, and an exit status that says which."""
    ended = subprocess.run(
        ["python", "-m", "cloud.s3sink"],
        env=servers.environ(**settings) | {"PATH": str(Path(find_program("weed")).parent)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == status
    assert "Traceback" not in ended.stderr
    lines = [line for line in ended.stderr.splitlines() if "starting" not in line]
    assert any(line.startswith(words) for line in lines)
    assert len(lines) == len([name for name in settings if name.startswith("S3")] or [1])


def test_the_key_follows_from_device_camera_and_id():
    """Pure: the same message is the same object, whenever it arrives."""
    seen = make_face(jpeg=JPEG)
    message = Message(FACES, JPEG, 1, False, face.encode(seen), None, 0)  # type: ignore[arg-type]
    late = object_of(message, "a/b", CAPTURED_AT + timedelta(days=3))
    assert late.key == f"a/b/device=jetson-1/camera=door/date=2026-11-22/150405.123Z-{seen.id}.jpg"
    assert late == object_of(message, "a/b", CAPTURED_AT)
