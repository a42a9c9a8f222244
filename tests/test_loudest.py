"""What the sink logs about devices: one line names the loudest, and every other line is limited."""

import logging
import threading
from collections.abc import Iterator

import pytest
import structlog
from prometheus_client import CollectorRegistry

from cloud.s3sink import loudest
from cloud.s3sink import sink as sink_module
from cloud.s3sink.bucket import Bucket
from cloud.s3sink.job import Job
from cloud.s3sink.results import Results
from cloud.s3sink.settings import SinkSettings
from cloud.s3sink.sink import Sink
from demo.ports import HOST, free_port
from demo.program import await_true
from wire.mqtt.connection import Message
from wire.mqtt.properties import NO_PROPERTIES
from wire.process import log
from wire.process.lifecycle import Stop
from wire.process.log_limit import MAX_LINES


@pytest.fixture(autouse=True)
def _structlog() -> Iterator[None]:
    handlers = logging.getLogger().handlers[:]
    yield
    logging.getLogger().handlers[:] = handlers
    logging.captureWarnings(False)
    structlog.reset_defaults()


def make_job(device: str) -> Job:
    """A message without metadata, so its publisher keeps no copy."""
    topic = f"devices/{device}/faces/door"
    return Job(Message(topic, b"x", 1, False, NO_PROPERTIES, None, 0), device)  # type: ignore[arg-type]


def test_of_many_devices_with_a_full_queue_only_the_loudest_is_logged(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """In one line."""
    monkeypatch.setattr(loudest, "INTERVAL_SECONDS", 0.0)
    log.configure("info", "console")
    results = Results()
    for number in range(20):
        for _ in range(number):
            results.turned_away(make_job(f"jetson-{number}"))
    results.loudest.step()
    (line,) = capfd.readouterr().err.splitlines()
    assert "device=jetson-19" in line
    assert "queue_full=19" in line
    assert results.counts.turned_away == sum(range(20))


def test_refused_and_lost_messages_of_a_device_are_logged_a_few_times(capfd: pytest.CaptureFixture[str]):
    """The limit of the log counts them by their device. Those of another device are still logged."""
    log.configure("info", "console")
    results = Results()
    for _ in range(5 * MAX_LINES):
        results.refused(make_job("jetson-1"), "EntityTooLarge")
        results.handed_back(make_job("jetson-1"), "SlowDown")
    results.refused(make_job("jetson-2"), "EntityTooLarge")
    lines = capfd.readouterr().err.splitlines()
    assert sum("message refused by S3" in line and "device=jetson-1" in line for line in lines) == MAX_LINES
    assert sum("message lost" in line for line in lines) == MAX_LINES
    assert sum("device=jetson-2" in line for line in lines) == 1


def test_a_running_sink_names_the_loudest_device(monkeypatch: pytest.MonkeyPatch):
    """Also while it reaches neither the broker nor S3."""
    monkeypatch.setattr(loudest, "INTERVAL_SECONDS", 0.05)
    monkeypatch.setattr(sink_module, "STEP_SECONDS", 0.05)
    for name, value in {
        "AWS_ENDPOINT_URL_S3": f"http://{HOST}:{free_port()}",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
    }.items():
        monkeypatch.setenv(name, value)
    settings = SinkSettings.from_environment(
        {
            "S3_BUCKET": "faces",
            "CLOUD_MQTT_HOST": HOST,
            "CLOUD_MQTT_PORT": str(free_port()),
            "CLOUD_MQTT_TLS": "false",
        }
    )
    stop, named = Stop(), threading.Event()
    sink = Sink(settings, Bucket(settings, CollectorRegistry()), stop, CollectorRegistry())
    step = sink.results.loudest.step

    def watched() -> None:
        step()
        latest = sink.results.loudest.latest
        if latest is not None and latest.device == "jetson-1":
            named.set()

    monkeypatch.setattr(sink.results.loudest, "step", watched)
    sink.results.loudest.note("jetson-1", "queue_full", 1)
    thread = threading.Thread(target=sink.run)
    thread.start()
    try:
        await_true(named.is_set, 5, "the loudest device is named")
    finally:
        stop.set()
        thread.join(20)
