"""Metrics and health checks of real processes."""

import re
import socket
import sys
import threading
from typing import Any

import cv2
import pytest

from demo.camera import NetworkCamera
from demo.film import clip
from demo.ports import free_port
from demo.program import ROOT, await_true, listens
from demo.stack import CAMERA, CHAIN, DEVICE, Stack
from edge.detector import detector as detector_module
from edge.detector import health as detector_health
from edge.detector.detector import Detector
from edge.detector.health import health_problem
from edge.detector.metrics import DetectorCollector
from edge.detector.settings import DetectorSettings
from edge.detector.stages import Stage
from tests.scrape import scrape
from tests.test_detector import RecordingDelivery, SilentCamera
from wire.process import health
from wire.process.lifecycle import Stop

PORTS = dict.fromkeys((*CHAIN, "gallery", "pki", "enrolment"), 0)
_WRITTEN = "facewire_objects_written_total"


@pytest.fixture
def chain(stack: Stack) -> Stack:
    """The whole chain with metrics and a reachable cloud. The detector repeats a short film."""
    for name in PORTS:
        PORTS[name] = free_port()
    stack.settings = {"FACE_INTERVAL": "0"}
    stack.start_servers()
    for name in ("s3sink", "gallery", "forwarder"):
        stack.start_connected(name, METRICS_PORT=str(PORTS[name]))
    for name in ("pki", "enrolment"):
        stack.start(name, METRICS_PORT=str(PORTS[name]))
        await_true(lambda name=name: listens(PORTS[name]), 20, f"{name} serves its metrics")  # type: ignore[misc]
    stack.start_connected(
        "detector",
        METRICS_PORT=str(PORTS["detector"]),
        CAMERA_SOURCE=str(clip("single_face.mp4")),
        CAMERA_LOOP="true",
    )
    return stack


def scraped(name: str) -> dict[str, float]:
    """The metrics of one process in the chain."""
    return scrape(PORTS[name])


def settled_counters() -> tuple[dict[str, float], dict[str, float]]:
    """The metrics of the sink and of the forwarder, once every forwarded face is written.

    A scrape is no snapshot: a counter may change while the next one is read. So the sink is scraped twice, and the
    forwarder in between, until no counter of the sink has changed.
    """
    scrapes: list[dict[str, float]] = []

    def is_settled() -> bool:
        scrapes[:] = [scraped("s3sink"), scraped("forwarder"), scraped("s3sink")]
        before, forwarder, sink = scrapes
        return (
            sink["facewire_writes_underway"] == 0
            and forwarder["facewire_messages_forwarded_total{direction=up}"]
            == sink[_WRITTEN] + sink["facewire_objects_already_there_total"]
            and all(before[name] == value for name, value in sink.items() if name.startswith("facewire_"))
        )

    await_true(is_settled, 30, "every forwarded face is written, and all have counted it")
    return scrapes[2], scrapes[1]


def test_counters_of_all_processes_are_consistent(chain: Stack):
    """Each process has received what the previous one has sent."""
    await_true(lambda: len(chain.keys()) >= 30, 30, "faces arrive")
    chain.programs["detector"].process.send_signal(19)  # type: ignore[union-attr]  # SIGSTOP: no new faces
    sink, forwarder = settled_counters()
    chain.programs["detector"].process.send_signal(18)  # type: ignore[union-attr]
    detector = scraped("detector")
    assert sink["facewire_link_up{broker=cloud}"] == 1
    assert sink[_WRITTEN] >= 30
    assert sink["facewire_objects_quarantined_total"] == 0
    assert sink["facewire_s3_write_seconds_count{answer=written}"] == sink[_WRITTEN]
    assert sink["facewire_receipt_seconds_count"] == sink[_WRITTEN] + sink["facewire_objects_already_there_total"]
    assert sink["facewire_receipt_seconds_sum"] > sink["facewire_s3_write_seconds_sum{answer=written}"]
    assert forwarder["facewire_messages_refused_total{direction=up}"] == 0
    forwarded = forwarder["facewire_messages_forwarded_total{direction=up}"]
    assert abs(forwarder["facewire_forward_seconds_count{direction=up}"] - forwarded) <= 1
    assert forwarder["facewire_forward_seconds_sum{direction=down}"] > 0
    assert forwarder["facewire_link_up{broker=local}"] == forwarder["facewire_link_up{broker=cloud}"] == 1
    # The detector runs during the scrape, so the second counter may be a few frames ahead.
    assert detector["facewire_frames_total"] + 5 >= detector["facewire_faces_total"] >= 30
    assert detector["facewire_faces_due_total"] >= sink[_WRITTEN]
    assert detector["facewire_faces_published_total"] >= detector["facewire_faces_receipted_total"] > 0
    assert detector["facewire_outbox_faces"] >= detector["facewire_faces_underway"] >= 0
    assert detector["facewire_faces_dropped"] == detector["facewire_faces_unkept_total"] == 0


@pytest.mark.slow
def test_the_age_of_a_live_face_is_reported_at_each_stage(stack: Stack):
    """Each stage is counted once for each face, and none before the one that precedes it."""
    stack.start_servers()
    for name in ("s3sink", "forwarder"):
        stack.start_connected(name)
    capture = cv2.VideoCapture(str(clip("single_face.mp4")))
    jpeg = cv2.imencode(".jpg", capture.read()[1])[1].tobytes()
    port = free_port()

    samples: dict[str, float] = {}

    def of_stages(what: str) -> dict[Stage, float]:
        return {stage: samples[f"facewire_face_age_seconds_{what}{{stage={stage}}}"] for stage in Stage}

    def has_settled() -> bool:
        """Every face has passed every stage and is in S3. A frame that arrives late makes one more."""
        samples.update(scrape(port))
        return set(of_stages("count").values()) == {len(stack.keys())} != {0}

    with NetworkCamera([jpeg], frames_per_second=10) as camera:
        stack.start_connected("detector", METRICS_PORT=str(port), CAMERA_SOURCE=camera.address, FACE_INTERVAL="0")
        await_true(lambda: len(stack.keys()) >= 20, 30, "faces are stored")
        camera.flowing.clear()
        await_true(has_settled, 30, "every face has passed every stage and is in S3")
    count, seconds = of_stages("count")[Stage.RECEIPTED], of_stages("sum")
    assert 0 < seconds[Stage.DETECTED] < seconds[Stage.STORED] < seconds[Stage.RECEIPTED] < 60 * count
    assert seconds[Stage.PUBLISHED] < seconds[Stage.RECEIPTED]


def test_documented_metrics_match_exported_metrics(chain: Stack):
    """docs/operations.md lists every metric and no other."""
    await_true(lambda: len(chain.keys()) >= 1, 30, "faces arrive")
    online = f"facewire_camera_online{{camera={CAMERA}}}{{device={DEVICE}}}"
    await_true(lambda: online in scraped("gallery"), 30, "the gallery has the status of the camera")
    served = {
        re.sub(r"(_bucket|_count|_sum|_created)?(\{.*)?$", "", sample)
        for name in PORTS
        for sample in scraped(name)
        if not sample.partition("{")[0].endswith("_created")
    }
    documented = set(re.findall(r"`(facewire_[a-z0-9_]+)`", (ROOT / "docs" / "operations.md").read_text()))
    assert served == documented - {"facewire_loudest_device_messages"}  # nobody was turned away


def test_metrics_port_in_use_is_reported_with_its_setting(servers: Stack, stack: Stack):
    """The process ends with status 2 and names METRICS_PORT."""
    ended = stack.start("forwarder", METRICS_PORT=str(servers.local_port))
    assert ended.wait(20) == 2
    assert f"METRICS_PORT is '{servers.local_port}'" in ended.output()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux answers at every address that begins with 127")
@pytest.mark.parametrize("host", ["", "0.0.0.0"])  # noqa: S104
def test_metrics_are_served_on_loopback_only_unless_a_setting_says_otherwise(stack: Stack, host: str):
    """Only a process that serves them on every interface answers at another address of this machine."""
    port = free_port()
    stack.start("forwarder", METRICS_PORT=str(port), METRICS_HOST=host)
    await_true(lambda: is_listening("127.0.0.1", port), 20, "the forwarder serves its metrics")
    assert is_listening("127.0.0.2", port) == bool(host)


def is_listening(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), 5).close()
    except OSError:
        return False
    return True


@pytest.mark.slow
def test_health_check_reports_the_reason_for_missing_progress(stack: Stack, monkeypatch: pytest.MonkeyPatch):
    """If a broker or S3 is unreachable, a process is unhealthy and gives the reason. It recovers afterwards."""
    monkeypatch.setattr("tempfile.tempdir", str(stack.folder))
    stack.settings = {"TMPDIR": str(stack.folder)}
    assert health.read_problem("forwarder") == "the forwarder has not started"
    stack.start_servers()
    for name in ("s3sink", "forwarder"):
        stack.start_connected(name)
    for name in ("s3sink", "forwarder"):
        await_true(lambda name=name: health.read_problem(name) is None, 10, f"{name} is healthy")  # type: ignore[misc]
    stack.programs["cloud-broker"].kill()
    await_true(
        lambda: health.read_problem("forwarder") == "no link to the cloud broker",
        10,
        "the forwarder reports the reason",
    )
    await_true(
        lambda: health.read_problem("s3sink") == "no link to the cloud broker", 10, "the sink reports the reason"
    )
    stack.programs["s3"].kill()
    stack.start_broker("cloud-broker")
    await_true(lambda: health.read_problem("forwarder") is None, 20, "the forwarder is healthy again")
    stack.start("detector", CAMERA_SOURCE=str(clip("single_face.mp4")))
    await_true(lambda: "S3 does not accept" in str(health.read_problem("s3sink")), 20, "the sink reports the reason")
    assert health.read_problem("detector") is None
    stack.start_s3()
    await_true(lambda: health.read_problem("s3sink") is None, 40, "the sink is healthy again")


def test_hanging_process_is_unhealthy(stack: Stack, monkeypatch: pytest.MonkeyPatch):
    """Its health file becomes too old."""
    monkeypatch.setattr("tempfile.tempdir", str(stack.folder))
    monkeypatch.setattr(health, "MAX_AGE_SECONDS", 0.0)
    stop = Stop()
    health.write_regularly("sleeper", lambda: None, stop)
    await_true(lambda: "has not reported" in str(health.read_problem("sleeper")), 10, "the health file exists")
    assert health.main(["sleeper"]) == 1
    stop.set()
    await_true(lambda: "not started" in str(health.read_problem("sleeper")), 10, "the health file is deleted")


def detector_with(stats: dict[str, Any]) -> tuple[Detector, Stop]:
    """A detector whose camera gives no frame, and whose delivery has these fields of the status."""
    settings, stop = DetectorSettings.from_environment({"DEVICE_ID": "jetson-1"}), Stop()
    delivery: Any = RecordingDelivery()
    delivery.stats = lambda: stats
    model: Any = None
    return Detector(settings, SilentCamera, lambda: model, delivery, stop), stop


def test_the_detector_is_unhealthy_while_its_outbox_has_a_problem(monkeypatch: pytest.MonkeyPatch):
    """The reason is given. It is healthy again when the problem is over."""
    monkeypatch.setattr(detector_module, "STATUS_SECONDS", 0.02)
    stats: dict[str, Any] = {"outbox_problem": ""}
    detector, stop = detector_with(stats)
    thread = threading.Thread(target=detector.run)
    thread.start()
    assert health_problem(detector) is None
    stats["outbox_problem"] = "disk full"
    await_true(lambda: health_problem(detector) == "the outbox: disk full", 10, "the reason is given")
    monkeypatch.setattr(detector_health, "MAX_FRAME_SECONDS", -1.0)
    assert health_problem(detector) == "the outbox: disk full; no frame for 0 s"
    monkeypatch.setattr(detector_health, "MAX_FRAME_SECONDS", 3600.0)
    del stats["outbox_problem"]
    await_true(lambda: health_problem(detector) is None, 10, "it is healthy again")
    stop.set()
    thread.join(30)
    assert not thread.is_alive()


def test_the_detector_is_unhealthy_while_its_outbox_hangs(monkeypatch: pytest.MonkeyPatch):
    """A disk may never answer."""
    detector, _ = detector_with({})
    monkeypatch.setattr(detector_health, "MAX_OUTBOX_SECONDS", -1.0)
    assert health_problem(detector) == "the outbox has not answered for 0 s"


@pytest.mark.parametrize(
    ("stats", "damaged", "untimed", "problem", "seconds"),
    [
        ({}, 0, 0, 0, 0),
        ({"damaged": 2, "untimed": 3, "outbox_problem": "read-only", "commit_seconds": 0.25}, 2, 3, 1, 0.25),
    ],
)
def test_the_state_of_the_outbox_is_exported(
    stats: dict[str, Any], damaged: int, untimed: int, problem: int, seconds: float
):
    """Without an outbox, all of it is 0."""
    detector, _ = detector_with(stats)
    families = DetectorCollector(detector).collect()
    samples = {sample.name: sample.value for family in families for sample in family.samples}
    assert samples["facewire_outbox_damaged_total"] == damaged
    assert samples["facewire_outbox_untimed"] == untimed
    assert samples["facewire_outbox_problem"] == problem
    assert samples["facewire_outbox_commit_seconds"] == seconds
    assert samples["facewire_clock_set"] == 1
