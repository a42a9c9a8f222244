"""End-to-end tests of the whole chain, from real video to objects in a real S3 server."""

import contextlib
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path

import cv2
import pytest

from demo.camera import NetworkCamera
from demo.film import clip
from demo.ports import HOST, free_port
from demo.program import ROOT, await_true, find_program
from demo.stack import BUCKET, CHAIN, Stack
from edge.detector.delivery.outbox import Outbox
from edge.detector.model.weights import FOLDER, PUBLISHED
from tests.builders import Peer, make_face, make_faces, make_jpeg, picture_of
from wire import face, status

FILM_SECONDS = 60


@pytest.fixture
def chain(stack: Stack) -> Stack:
    """The whole chain without the detector."""
    stack.start_servers()
    stack.start_connected("s3sink")
    stack.start_connected("forwarder")
    return stack


def oracle(path: Path, size: int, confidence: float, min_size: int) -> int:
    """The number of faces that OpenCV's own detector finds, summed over all frames."""
    network = cv2.FaceDetectorYN.create(str(FOLDER / PUBLISHED.name), "", (size, size), confidence, 0.3, 5000)
    capture, count = cv2.VideoCapture(str(path)), 0
    while True:
        read, image = capture.read()
        if not read:
            return count
        height, width = image.shape[:2]
        scale = min(1.0, size / max(height, width))
        seen = cv2.resize(image, (round(width * scale), round(height * scale)))
        network.setInputSize((seen.shape[1], seen.shape[0]))
        faces = network.detect(seen)[1]
        count += 0 if faces is None else sum(min(row[2], row[3]) / scale >= min_size for row in faces)


@pytest.mark.parametrize(
    ("name", "size", "confidence"),
    [
        ("single_face.mp4", 640, 0.7),
        pytest.param("face_noface.mov", 640, 0.7, marks=pytest.mark.slow),
        pytest.param("face_noface.mov", 320, 0.9, marks=pytest.mark.slow),
        pytest.param("no_face.mp4", 640, 0.7, marks=pytest.mark.slow),
    ],
)
def test_every_detected_face_is_stored_in_s3(chain: Stack, name: str, size: int, confidence: float):
    """With FACE_INTERVAL=0, each object is a valid JPEG with content type and all attributes except clock."""
    detector = chain.start(
        "detector",
        CAMERA_SOURCE=str(clip(name)),
        FACE_INTERVAL="0",
        DETECT_SIZE=str(size),
        FACE_CONFIDENCE=str(confidence),
        DEVICE_LATITUDE="41.8781",
        DEVICE_LONGITUDE="-87.6298",
    )
    assert detector.wait(FILM_SECONDS) == 0
    keys = chain.keys()
    expected = oracle(clip(name), size, confidence, 32)
    assert len(keys) == pytest.approx(expected, rel=0.01)
    for key in keys:
        stored = chain.s3().get_object(Bucket=BUCKET, Key=key)
        assert stored["ContentType"] == "image/jpeg"
        assert set(stored["Metadata"]) == set(face.ATTRIBUTES) - {"clock"}
        picture = picture_of(stored["Body"].read())
        box = [int(number) for number in stored["Metadata"]["box"].split(",")]
        assert picture.shape[0] >= box[3]
        assert picture.shape[1] >= box[2]
        assert stored["Metadata"]["id"] in key


@pytest.mark.slow
def test_face_interval_limits_one_person_to_one_picture_per_second(chain: Stack):
    """FACE_INTERVAL=1 on a clip of 20 s with one person."""
    detector = chain.start("detector", CAMERA_SOURCE=str(clip("WolfgangLanger_Pexels.mp4")), FACE_INTERVAL="1")
    assert detector.wait(FILM_SECONDS) == 0
    assert 16 <= len(chain.keys()) <= 26


@pytest.mark.slow
@pytest.mark.parametrize("qos", ["0", "2"])
def test_qos_0_and_2_deliver_every_face(stack: Stack, qos: str):
    """QoS 0 bypasses the outbox. Without link failures it loses no face either."""
    stack.settings = {"MQTT_QOS": qos, "FACE_INTERVAL": "0", "CAMERA_SOURCE": str(clip("single_face.mp4"))}
    stack.start_servers()
    for name in ("s3sink", "forwarder"):
        stack.start_connected(name)
    assert stack.start("detector").wait(FILM_SECONDS) == 0
    await_true(lambda: len(stack.keys()) == 72, 20, "all faces are stored")
    assert (stack.folder / "outbox.db").exists() == (qos == "2")


def test_jpeg_without_metadata_from_any_local_client_is_stored(chain: Stack, tmp_path: Path):
    """``mosquitto_pub -t faces/door -f face.jpg``: MQTT 3.1.1, QoS 0, no metadata."""
    picture = tmp_path / "face.jpg"
    picture.write_bytes(make_jpeg())
    command = [find_program("mosquitto_pub"), "-h", HOST, "-p", str(chain.local_port)]
    account = ["-u", "publisher", "-P", chain.password("publisher")]
    subprocess.run([*command, *account, "-t", "faces/garden", "-f", str(picture)], check=True)
    await_true(lambda: len(chain.keys("faces/device=jetson-1/camera=garden/")) == 1, 20, "the face is stored")


@pytest.mark.slow
def test_faces_delivered_late_keep_their_capture_time_and_key(stack: Stack):
    """The cloud is unreachable during the whole film. All faces wait in the outbox and are delivered afterwards."""
    stack.start_broker("local-broker")
    stack.start("forwarder")
    detector = stack.start("detector", CAMERA_SOURCE=str(clip("single_face.mp4")), FACE_INTERVAL="0")
    with Peer(stack.local_port, "status/detector/+") as watcher:
        await_true(
            lambda: any(status.decode(message.payload).get("outbox") == 72 for message in watcher.messages),
            30,
            "all faces of the film are in the outbox",
        )
        stats = status.decode(watcher.messages[-1].payload)
    assert stats["underway"] <= 64
    assert detector.running
    stack.start_s3()
    stack.make_bucket()
    stack.start("s3sink")
    stack.start_broker("cloud-broker")
    assert detector.wait(FILM_SECONDS) == 0
    keys = stack.keys()
    assert len(keys) == 72
    assert stats["oldest"] in {stack.s3().head_object(Bucket=BUCKET, Key=key)["Metadata"]["time"] for key in keys}
    assert {key.rpartition("/")[2][10:11] for key in keys} == {"Z"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "s3sink" else pytest.mark.slow) for name in CHAIN]
)
def test_sigterm_ends_each_process_with_status_0_and_loses_no_face(chain: Stack, name: str):
    """The process is stopped while faces are in flight. After a restart the chain continues."""
    settings = {"CAMERA_SOURCE": str(clip("WolfgangLanger_Pexels.mp4")), "FACE_INTERVAL": "0.2"}
    committed = _record_commits(chain)
    chain.start("detector", **settings)
    await_true(lambda: len(chain.keys()) >= 10, 30, "faces arrive")
    assert chain.programs[name].stop() == 0
    chain.start(name, **(settings if name == "detector" else {}))
    assert chain.programs["detector"].wait(FILM_SECONDS) == 0
    ids = Counter(key.rpartition("Z-")[2].removesuffix(".jpg") for key in chain.keys())
    assert set(ids.values()) == {1}
    assert set(ids) == committed()


@pytest.mark.parametrize("hangs", [False, True])
def test_sigterm_ends_a_detector_with_live_camera_with_status_0(chain: Stack, hangs: bool):
    """Even if the camera hangs and its reader thread cannot be interrupted."""
    capture = cv2.VideoCapture(str(clip("single_face.mp4")))
    jpegs = [cv2.imencode(".jpg", capture.read()[1])[1].tobytes() for _ in range(30)]
    with NetworkCamera(jpegs, frames_per_second=24) as camera:
        chain.start("detector", CAMERA_SOURCE=camera.address, FACE_INTERVAL="0.2")
        await_true(lambda: len(chain.keys()) >= 5, 30, "faces arrive")
        if hangs:
            camera.flowing.clear()
        assert chain.programs["detector"].stop() == 0


def _record_commits(chain: Stack):
    """Install a trigger that records every id committed to the outbox. Return a function that reads the ids."""
    path = chain.folder / "outbox.db"
    Outbox(path, 1 << 30).close()
    database = sqlite3.connect(path)
    database.executescript(
        "CREATE TABLE committed (id TEXT PRIMARY KEY);"
        "CREATE TRIGGER remember AFTER INSERT ON faces BEGIN INSERT INTO committed VALUES (new.id); END;"
    )
    database.close()

    def committed() -> set[str]:
        reader = sqlite3.connect(path)
        try:
            return {face_id for (face_id,) in reader.execute("SELECT id FROM committed")}
        finally:
            reader.close()

    return committed


@pytest.mark.slow
def test_every_committed_face_is_stored_or_counted_as_dropped(stack: Stack):
    """The outbox is small and the cloud is unreachable, so the oldest faces are dropped. Each dropped id is recorded.

    A face that was in flight when it was dropped may still be stored. It counts as dropped until its receipt arrives,
    which may be after the detector has ended.
    """
    stack.start_broker("local-broker")
    stack.start("forwarder")
    committed = _record_commits(stack)
    settings = {"FACE_INTERVAL": "0", "OUTBOX_MAX_BYTES": str(1 << 20)}
    detector = stack.start("detector", CAMERA_SOURCE=str(clip("single_face.mp4")), **settings)
    with Peer(stack.local_port, "status/detector/+") as watcher:
        await_true(
            lambda: any(status.decode(message.payload).get("frames") == 72 for message in watcher.messages),
            30,
            "the film has ended",
        )
    stack.start_s3()
    stack.make_bucket()
    stack.start("s3sink")
    stack.start_broker("cloud-broker")
    assert detector.wait(FILM_SECONDS) == 0
    (ended,) = [line for line in detector.output().splitlines() if " ended " in line]
    with contextlib.closing(sqlite3.connect(stack.folder / "outbox.db")) as database:
        dropped = {face_id for (face_id,) in database.execute("SELECT id FROM dropped")}
    stored = {key.removesuffix(".jpg")[-36:] for key in stack.keys()}
    assert dropped
    assert len(committed()) == 72
    assert committed() == stored | dropped
    assert int(ended.partition("dropped=")[2].split()[0]) == len(dropped)


def test_receipt_goes_only_to_the_device_that_published_the_face(stack: Stack):
    """Device A publishes a face with the id of device B's face. Only A gets a receipt, so B keeps its face."""
    stack.start_servers()
    stack.start_connected("s3sink")
    victim = make_face(jpeg=make_jpeg())
    with (
        Peer(stack.watch_port, "devices/device-a/receipts/#") as forger,
        Peer(stack.watch_port, "devices/jetson-1/receipts/#") as other,
    ):
        forger.session.publish("devices/device-a/faces/door", victim.jpeg, qos=1, properties=face.encode(victim))
        (receipt,) = forger.await_messages(1)
        assert receipt.topic == "devices/device-a/receipts/door"
        others = make_faces(1, jpeg=make_jpeg())[0]
        forger.session.publish("devices/jetson-1/faces/door", others.jpeg, qos=1, properties=face.encode(others))
        (got,) = other.await_messages(1)
    assert got.properties.correlation_data == others.id.encode()


@pytest.mark.parametrize(
    ("module", "settings", "exit_status", "words"),
    [
        ("detector", {"CAMERA_SOURCE": "/dev/video99"}, 66, "CAMERA_SOURCE is '/dev/video99'"),
        ("detector", {"CAMERA_SOURCE": "README.md"}, 65, "CAMERA_SOURCE is 'README.md'"),
        ("detector", {"CAMERA_SOURCE": "tests/golden"}, 65, "CAMERA_SOURCE is 'tests/golden'"),
        ("detector", {"FACE_CONFIDENCE": "2", "CAMERA_NAME": "a/b"}, 2, "CAMERA_NAME is 'a/b'"),
        (
            "detector",
            {"OUTBOX_PATH": "/proc/outbox.db", "CAMERA_SOURCE": "edge"},
            2,
            "OUTBOX_PATH is '/proc/outbox.db'",
        ),
        ("forwarder", {"CLOUD_MQTT_HOST": ""}, 2, "CLOUD_MQTT_HOST is not set"),
        ("forwarder", {"CLOUD_MQTT_TLS": "true", "CLOUD_MQTT_CA_FILE": "README.md"}, 2, "CLOUD_MQTT_CA_FILE"),
    ],
)
def test_invalid_setting_is_reported_on_one_line(stack: Stack, module: str, settings, exit_status: int, words: str):
    """Without a traceback, and with a documented exit status."""
    ended = stack.start(module, **settings)
    assert ended.wait(20) == exit_status
    lines = [line for line in ended.output().splitlines() if "[info" not in line and "not connected" not in line]
    assert any(line.startswith(words) for line in lines)
    assert len(lines) == (2 if len(settings) == 2 and exit_status == 2 and "FACE_CONFIDENCE" in settings else 1)


def test_detector_continues_while_the_broker_is_unreachable(stack: Stack):
    """The camera is still read, faces go to the outbox, and the failure is logged once."""
    detector = stack.start(
        "detector", CAMERA_SOURCE=str(clip("single_face.mp4")), FACE_INTERVAL="0", LOCAL_MQTT_PORT=str(free_port())
    )
    await_true(lambda: "camera ended" in detector.output(), 30, "the film has ended")
    assert detector.running
    assert detector.output().count("not connected, retrying") == 1
    assert detector.stop() == 0
    assert Outbox(stack.folder / "outbox.db", 1 << 30).count == 72


def test_unexpected_exception_ends_the_process_with_traceback_and_status_70():
    """A process without its worker thread must not stay alive. Its supervisor restarts it."""
    program = (
        "import sys; from wire.process.lifecycle import run, spawn\n"
        "def main(stop):\n"
        "    spawn('worker', lambda: 1 / 0, stop)\n"
        "    stop.wait(20)\n"
        "sys.exit(run(main))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )
    assert ended.returncode == 70
    assert "ZeroDivisionError" in ended.stderr + ended.stdout
