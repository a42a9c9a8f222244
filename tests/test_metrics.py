"""Metrics and health, of real processes."""

import re

import pytest

from demo.film import clip
from demo.ports import free_port
from demo.program import ROOT, await_true
from demo.stack import CHAIN, Stack
from tests.scrape import scrape
from wire.process import health
from wire.process.lifecycle import Stop

PORTS = dict.fromkeys(CHAIN, 0)


@pytest.fixture
def chain(stack: Stack) -> Stack:
    """The whole chain, with metrics, on a film that is over soon and a cloud that is there."""
    for name in PORTS:
        PORTS[name] = free_port()
    stack.settings = {"FACE_INTERVAL": "0"}
    stack.start_servers()
    for name in ("s3sink", "forwarder"):
        stack.start_connected(name, METRICS_PORT=str(PORTS[name]))
    stack.start_connected(
        "detector",
        METRICS_PORT=str(PORTS["detector"]),
        CAMERA_SOURCE=str(clip("single_face.mp4")),
        CAMERA_LOOP="true",
    )
    return stack


def scraped(name: str) -> dict[str, float]:
    """The metrics of one process of the chain."""
    return scrape(PORTS[name])


def test_the_numbers_of_all_processes_agree(chain: Stack):
    """What one has sent, the next has got."""
    await_true(lambda: len(chain.keys()) >= 30, 30, "faces arrive")
    chain.programs["detector"].process.send_signal(19)  # type: ignore[union-attr]  # SIGSTOP: nothing new comes
    await_true(lambda: scraped("s3sink")["facewire_writes_underway"] == 0, 20, "all is written")
    sink, forwarder = scraped("s3sink"), scraped("forwarder")
    chain.programs["detector"].process.send_signal(18)  # type: ignore[union-attr]
    detector = scraped("detector")
    assert sink["facewire_link_up{broker=cloud}"] == 1
    assert sink["facewire_objects_written_total"] >= 30
    assert sink["facewire_objects_quarantined_total"] == 0
    assert sink["facewire_s3_write_seconds_count{answer=written}"] == sink["facewire_objects_written_total"]
    assert forwarder["facewire_messages_forwarded_total{direction=up}"] >= sink["facewire_objects_written_total"]
    assert forwarder["facewire_messages_refused_total{direction=up}"] == 0
    assert forwarder["facewire_link_up{broker=local}"] == forwarder["facewire_link_up{broker=cloud}"] == 1
    # It works while it is asked: of two counts the second may be a frame or two further.
    assert detector["facewire_frames_total"] + 5 >= detector["facewire_faces_total"] >= 30
    assert detector["facewire_faces_due_total"] >= sink["facewire_objects_written_total"]
    assert detector["facewire_faces_published_total"] >= detector["facewire_faces_receipted_total"] > 0
    assert detector["facewire_outbox_faces"] >= detector["facewire_faces_underway"] >= 0
    assert detector["facewire_faces_dropped"] == detector["facewire_faces_unkept_total"] == 0


def test_every_metric_is_documented_and_no_other(chain: Stack):
    """Documentation is tested."""
    await_true(lambda: len(chain.keys()) >= 1, 30, "faces arrive")
    served = {
        re.sub(r"(_bucket|_count|_sum|_created)?(\{.*)?$", "", sample)
        for name in CHAIN
        for sample in scraped(name)
        if not sample.partition("{")[0].endswith("_created")
    }
    told = set(re.findall(r"`(facewire_[a-z0-9_]+)`", (ROOT / "docs" / "operations.md").read_text()))
    assert served == told


def test_a_port_that_is_taken_is_told_in_one_line(servers: Stack, stack: Stack):
    """With its setting."""
    ended = stack.start("forwarder", METRICS_PORT=str(servers.local_port))
    assert ended.wait(20) == 2
    assert f"METRICS_PORT is '{servers.local_port}'" in ended.output()


def test_health_means_progress_and_says_what_hinders_it(stack: Stack, monkeypatch: pytest.MonkeyPatch):
    """A dead link, S3 away: unhealthy, with the reason; well again once it is back."""
    monkeypatch.setattr("tempfile.tempdir", str(stack.folder))
    stack.settings = {"TMPDIR": str(stack.folder)}
    assert health.read_problem("forwarder") == "the forwarder has not started"
    stack.start_servers()
    for name in ("s3sink", "forwarder"):
        stack.start_connected(name)
    for name in ("s3sink", "forwarder"):
        await_true(lambda name=name: health.read_problem(name) is None, 10, f"{name} is healthy")  # type: ignore[misc]
    stack.programs["cloud-broker"].kill()
    await_true(lambda: health.read_problem("forwarder") == "no link to the cloud broker", 10, "the forwarder says why")
    await_true(lambda: health.read_problem("s3sink") == "no link to the cloud broker", 10, "the sink says why")
    stack.programs["s3"].kill()
    stack.start_broker("cloud-broker")
    await_true(lambda: health.read_problem("forwarder") is None, 20, "the forwarder is well again")
    stack.start("detector", CAMERA_SOURCE=str(clip("single_face.mp4")))
    await_true(lambda: "S3 does not accept" in str(health.read_problem("s3sink")), 20, "the sink says why")
    assert health.read_problem("detector") is None
    stack.start_s3()
    await_true(lambda: health.read_problem("s3sink") is None, 40, "the sink is well again")


def test_a_process_that_hangs_is_not_healthy(stack: Stack, monkeypatch: pytest.MonkeyPatch):
    """Its note grows old."""
    monkeypatch.setattr("tempfile.tempdir", str(stack.folder))
    monkeypatch.setattr(health, "MAX_AGE_SECONDS", 0.0)
    stop = Stop()
    health.write_regularly("sleeper", lambda: None, stop)
    await_true(lambda: "has not reported" in str(health.read_problem("sleeper")), 10, "the note is there")
    assert health.main(["sleeper"]) == 1
    stop.set()
    await_true(lambda: "not started" in str(health.read_problem("sleeper")), 10, "the note is gone")
