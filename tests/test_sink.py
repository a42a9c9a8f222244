"""The sink as a process, with a real broker and a real S3 server."""

import hashlib
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties as PahoProperties

from cloud.s3sink import replica
from cloud.s3sink.objects import PROPERTIES_BYTES, make_object
from demo.ports import HOST, free_port
from demo.program import await_true, find_program
from demo.stack import BUCKET, Stack
from tests.builders import CAPTURED_AT, Peer, make_face, make_faces, make_jpeg
from tests.chaos.proxy import Mode, TcpProxy
from tests.scrape import scrape
from wire import face, probe
from wire.mqtt.connection import SUCCESS, Message
from wire.mqtt.properties import Properties
from wire.timestamps import parse_time
from wire.topics import Origin

FACES = "devices/jetson-1/faces/door"
RECEIPTS = "devices/jetson-1/receipts/door"
JPEG = make_jpeg()


@pytest.fixture
def cloud(stack: Stack) -> Stack:
    """A broker, an S3 server and a sink for one test."""
    stack.start_s3()
    stack.make_bucket()
    stack.start_broker("cloud-broker")
    stack.start_connected("s3sink")
    return stack


@pytest.fixture
def cloud_without_group(stack: Stack) -> Stack:
    """The same, with a sink that is the only one."""
    stack.start_s3()
    stack.make_bucket()
    stack.start_broker("cloud-broker")
    stack.settings["SINK_GROUP"] = ""
    stack.start_connected("s3sink")
    return stack


def quarantined(stack: Stack) -> list[tuple[str, str]]:
    """Key and reason of every object in quarantine."""
    return [
        (key, stack.s3().head_object(Bucket=BUCKET, Key=key)["Metadata"]["reason"])
        for key in stack.keys("faces/quarantine/")
    ]


def test_a_face_is_stored_under_its_key_with_all_its_attributes(cloud: Stack):
    """Its receipt is sent after it is stored."""
    seen = make_face(jpeg=JPEG, latitude=41.8781, longitude=-87.6298, quality=0.415)
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


def test_a_repeated_face_is_stored_once_and_gets_another_receipt(cloud: Stack):
    """The object exists, which the sink confirms by listing it."""
    seen = make_face(jpeg=JPEG)
    with Peer(cloud.watch_port, "devices/+/receipts/+") as device:
        for count in (1, 2, 3):
            device.session.publish(FACES, JPEG, qos=1, properties=face.encode(seen)).result(10)
            device.await_messages(count)
    (key,) = cloud.keys()
    assert cloud.s3().get_object(Bucket=BUCKET, Key=key)["Body"].read() == JPEG
    assert cloud.programs["s3sink"].stop() == 0
    assert "already_there=2" in cloud.programs["s3sink"].output()


def test_device_and_camera_come_from_the_topic(cloud: Stack):
    """Not from the attributes: otherwise a device could write or acknowledge faces of another."""
    forged = make_face(jpeg=JPEG, origin=Origin("jetson-2", "vault"))
    with Peer(cloud.watch_port, "devices/+/receipts/+") as device:
        device.session.publish(FACES, JPEG, qos=1, properties=face.encode(forged))
        (receipt,) = device.await_messages(1)
    assert receipt.topic == RECEIPTS
    (key,) = cloud.keys()
    assert key.startswith("faces/device=jetson-1/camera=door/")
    assert cloud.s3().head_object(Bucket=BUCKET, Key=key)["Metadata"]["source"] == "/devices/jetson-1/cameras/door"


def test_a_plain_jpeg_of_any_mqtt_client_is_stored(cloud: Stack, tmp_path: Path):
    """With MQTT 3.1.1 and 5. Its id is made of its hash and its time of arrival."""
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
        arrived = parse_time(stored["Metadata"]["time"])
        assert timedelta(0) <= datetime.now(UTC) - arrived < timedelta(seconds=60)
    assert digests == {hashlib.sha256(make_jpeg(seed=number)).hexdigest() for number in (0, 1)}


def test_an_invalid_message_goes_to_quarantine_and_does_not_block_others(cloud: Stack):
    """It is stored completely with the reason, counted, and gets a receipt."""
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
        ("attribute confidence is '2.000'", "truncated", "payload is empty", "starts with 68656c", "topic 'devices"),
        reasons,
        strict=True,
    ):
        assert part in reason
    assert all("/device=jetson-1/" in key for key, _ in quarantined(cloud))
    assert cloud.programs["s3sink"].stop() == 0
    assert "quarantined=5" in cloud.programs["s3sink"].output()
    assert "written=1" in cloud.programs["s3sink"].output()


def test_implausible_faces_go_to_quarantine_and_those_of_an_unset_clock_do_not(cloud: Stack):
    """Nothing is dropped, and each gets a receipt."""
    now, unset = datetime.now(UTC), datetime(1970, 1, 1, 0, 1, tzinfo=UTC)
    now = now.replace(microsecond=now.microsecond // 1000 * 1000)
    at = JPEG.index(b"\xff\xc0") + 5
    bomb = JPEG[:at] + b"\xff\xff\xff\xff" + JPEG[at + 4 :]
    digest = face.digest_of(JPEG)
    plausible = [
        make_face(jpeg=JPEG, sha256=digest, captured_at=unset, clock=face.UNKNOWN),  # at QoS 0
        make_face(jpeg=JPEG, captured_at=unset),  # of version 0.1
        make_face(jpeg=JPEG, sha256=digest, captured_at=now + timedelta(hours=23)),
    ]
    implausible = [
        make_face(jpeg=JPEG, sha256=digest, captured_at=unset),
        make_face(jpeg=JPEG, sha256=digest, captured_at=now + timedelta(hours=25)),
        make_face(jpeg=bomb, sha256=face.digest_of(bomb)),
    ]
    with Peer(cloud.watch_port, "devices/+/receipts/+") as device:
        for seen in (*plausible, *implausible):
            device.session.publish(FACES, seen.jpeg, qos=1, properties=face.encode(seen))
        device.session.publish(FACES, bomb, qos=1, properties=Properties(correlation_data=b"picture"))
        receipts = device.await_messages(7)
    ids = {receipt.properties.correlation_data for receipt in receipts}
    assert ids == {b"picture", *(seen.id.encode() for seen in (*plausible, *implausible))}
    assert {key[-40:-4] for key in cloud.keys() if "/quarantine/" not in key} == {seen.id for seen in plausible}
    reasons = sorted(reason[:24] for _, reason in quarantined(cloud))
    assert reasons == [
        *["the JPEG claims 65535 x "] * 2,
        "time is 1970-01-01T00:01",
        f"time is {now + timedelta(hours=25):%Y-%m-%dT%H:%M}",
    ]


def test_a_message_with_too_many_properties_goes_to_quarantine_with_all_of_them(cloud: Stack):
    """They are in front of the payload. Its sender gets a receipt."""
    many = tuple((f"{number:05}", "x") for number in range(10_000))
    with Peer(cloud.watch_port, "devices/+/receipts/+") as device:
        properties = Properties(correlation_data=b"many", user_properties=many)
        device.session.publish(FACES, JPEG, qos=1, properties=properties)
        (receipt,) = device.await_messages(1)
    assert receipt.properties.correlation_data == b"many"
    ((key, reason),) = quarantined(cloud)
    assert "more than 64 user properties" in reason
    stored = cloud.s3().get_object(Bucket=BUCKET, Key=key)
    body, length = stored["Body"].read(), int(stored["Metadata"][PROPERTIES_BYTES])
    theirs: Any = PahoProperties(PacketTypes.PUBLISH)
    theirs.unpack(body[:length])
    assert (theirs.CorrelationData, tuple(theirs.UserProperty)) == (b"many", many)
    assert body[length:] == JPEG


def test_a_probe_of_a_forwarder_is_acknowledged_and_not_stored(cloud: Stack):
    """It only asks whether anybody has subscribed."""
    seen = make_face(jpeg=JPEG)
    with Peer(cloud.watch_port, "devices/+/receipts/+") as device:
        device.session.publish(FACES, b"", qos=1, properties=probe.PROPERTIES).result(10)
        device.session.publish(FACES, JPEG, qos=1, properties=face.encode(seen))
        device.await_messages(1)
    (key,) = cloud.keys()
    assert seen.id in key


def test_long_correlation_data_is_replaced_by_the_id_in_the_receipt(cloud: Stack):
    """Otherwise a device could fill the broker's memory with its own receipts."""
    with Peer(cloud.watch_port, "devices/+/receipts/+") as device:
        device.session.publish(FACES, JPEG, qos=1, properties=Properties(correlation_data=bytes(8_000)))
        (receipt,) = device.await_messages(1)
    (key,) = cloud.keys()
    assert (receipt.properties.correlation_data or b"").decode() == key.removesuffix(".jpg")[-36:]


def test_nothing_is_lost_while_s3_is_down(cloud: Stack):
    """The sink logs the failure once, keeps the messages unacknowledged, and recovers by itself."""
    cloud.programs["s3"].kill()
    made = make_faces(100, jpeg=JPEG)
    with Peer(cloud.watch_port, "devices/+/receipts/+") as device:
        for seen in made:
            device.session.publish(FACES, seen.jpeg, qos=1, properties=face.encode(seen)).result(10)
        await_true(lambda: "retrying" in cloud.programs["s3sink"].output(), 20, "the failure is logged")
        assert device.messages == []
        cloud.start_s3()
        device.await_messages(100, 60)
    assert len(cloud.keys()) == 100
    log = cloud.programs["s3sink"].output()
    assert log.count("S3 does not accept objects") == 1
    assert log.count("S3 accepts objects again") == 1


def test_a_killed_sink_loses_nothing_and_stores_nothing_twice(cloud_without_group: Stack):
    """Unacknowledged messages are delivered again; objects that exist already are not written again."""
    cloud = cloud_without_group
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


@pytest.mark.parametrize(
    "seconds",
    [
        pytest.param(0.0, id="at once"),
        pytest.param(replica.MEMBER_SECONDS + 2.0, id="later", marks=pytest.mark.slow),
    ],
)
def test_a_sink_without_a_group_that_was_killed_gets_the_pictures_that_were_sent_meanwhile(
    cloud_without_group: Stack, seconds: float
):
    """The broker keeps its session for a day."""
    cloud = cloud_without_group
    cloud.programs["s3sink"].kill()
    with Peer(cloud.watch_port) as device:
        assert device.session.publish(FACES, JPEG, qos=1).result(10) == SUCCESS
    time.sleep(seconds)  # longer than the broker would keep the session of a member of a group
    cloud.start_connected("s3sink")
    await_true(lambda: len(cloud.keys()) == 1, 30, "the picture is stored")
    assert "facewire-s3sink " in cloud.programs["cloud-broker"].output()


@pytest.mark.slow
def test_a_sink_without_a_group_that_is_stopped_under_load_exits_cleanly(cloud_without_group: Stack):
    """It finishes its current writes and sends their receipts. The other messages are delivered again."""
    cloud = cloud_without_group
    made = make_faces(1000, jpeg=JPEG)
    with Peer(cloud.watch_port, "devices/+/receipts/+") as device:
        for seen in made:
            device.session.publish(FACES, seen.jpeg, qos=1, properties=face.encode(seen))
        device.await_messages(1)
        assert cloud.programs["s3sink"].stop(5) == 0
        cloud.start("s3sink")
        await_true(lambda: len(cloud.keys()) == 1000, 60, "all are stored")


@pytest.mark.parametrize(
    ("settings", "status", "message"),
    [
        ({"S3_BUCKET": "nowhere-at-all"}, 69, "S3_BUCKET is 'nowhere-at-all': there is no such bucket"),
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, 77, "S3_BUCKET is 'faces': access denied"),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, 77, "S3_BUCKET is 'faces': no credentials"),
        ({"AWS_ENDPOINT_URL_S3": "not an address"}, 2, "AWS settings"),
        ({"S3_BUCKET": "UPPER", "S3_CONCURRENCY": "0"}, 2, "S3_BUCKET is 'UPPER'"),
    ],
)
def test_a_configuration_error_is_reported_in_one_line(servers: Stack, settings, status: int, message: str):
    """With the setting, its value, what was expected, and a specific exit status."""
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
    assert any(line.startswith(message) for line in lines)
    assert len(lines) == len([name for name in settings if name.startswith("S3")] or [1])


def test_the_key_depends_only_on_device_camera_and_id():
    """The same message results in the same object, whenever it arrives."""
    seen = make_face(jpeg=JPEG)
    message = Message(FACES, JPEG, 1, False, face.encode(seen), None, 0)  # type: ignore[arg-type]
    late = make_object(message, "a/b", CAPTURED_AT + timedelta(days=3))
    assert late.key == f"a/b/device=jetson-1/camera=door/date=2026-11-22/150405.123Z-{seen.id}.jpg"
    assert late == make_object(message, "a/b", CAPTURED_AT)


@pytest.mark.slow
def test_a_picture_that_is_delivered_again_while_s3_is_down_is_one_object(stack: Stack):
    """Its key contains the time of its first arrival, and copies take no memory. Two equal pictures remain two."""
    stack.start_servers()
    with TcpProxy(stack.watch_port) as proxy:
        metrics_port = free_port()
        sink = stack.start_connected(
            "s3sink", CLOUD_MQTT_PORT=str(proxy.port), CLOUD_MQTT_TLS="false", METRICS_PORT=str(metrics_port)
        )
        await_true(lambda: "store checked" in sink.output(), 20, "the store is checked")
        stack.programs["s3"].kill()

        def await_value(name: str, value: int, what: str) -> None:
            await_true(lambda: int(scrape(metrics_port)[name]) == value, 30, what)

        with Peer(stack.watch_port, "devices/+/receipts/+") as device:
            for count, payload in enumerate((JPEG, JPEG, make_jpeg(seed=2)), 1):
                device.session.publish(FACES, payload, qos=1).result(10)
                await_value("facewire_writes_underway", count, "the sink holds it")
            for count in (4, 5):
                proxy.mode = Mode.CUT
                await_value("facewire_link_up{broker=cloud}", 0, "the connection has ended")
                proxy.mode = Mode.PASS
                await_value("facewire_link_up{broker=cloud}", 1, "it is back")
                device.session.publish(FACES, make_jpeg(seed=count), qos=1).result(10)
                await_value("facewire_writes_underway", count, "the sink holds each message once")
            stack.start_s3()
            device.await_messages(5, 60)
        await_value("facewire_writes_underway", 0, "all are acknowledged")
        assert len(stack.keys()) == 5
        assert sink.stop() == 0


def test_a_device_beyond_its_budget_is_turned_away_and_others_are_served(stack: Stack):
    """It gets no receipt, so its outbox sends the faces again. What has no outbox is counted as lost."""
    stack.start_s3()
    stack.make_bucket()
    stack.start_broker("cloud-broker")
    port = free_port()
    stack.start_connected("s3sink", DEVICE_FACES_PER_HOUR="8", METRICS_PORT=str(port))
    made = make_faces(6, jpeg=JPEG)
    with Peer(stack.watch_port, "devices/+/receipts/+") as device:
        for seen in made:
            device.session.publish(FACES, JPEG, qos=1, properties=face.encode(seen)).result(10)
        device.session.publish(FACES, JPEG, qos=1).result(10)
        other = make_face(jpeg=JPEG)
        device.session.publish("devices/other/faces/door", JPEG, qos=1, properties=face.encode(other)).result(10)
        receipts = device.await_messages(3)
        await_true(lambda: scrape(port)["facewire_messages_over_budget_total"] == 5, 10, "five are turned away")
    assert {receipt.properties.correlation_data for receipt in receipts} == {
        seen.id.encode() for seen in (*made[:2], other)
    }
    assert scrape(port)["facewire_messages_over_budget_lost_total"] == 1
    assert len(stack.keys()) == 3
