"""A real Prometheus scrapes the whole chain, with the rules as shipped but sixty times as fast."""

import json
import os
import re
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest
import yaml

from demo.camera import NetworkCamera
from demo.film import clip
from demo.ports import HOST, free_port
from demo.program import Program, await_true, listens
from demo.stack import Stack
from tests.monitoring.tools import FOLDER, RULES, tool

FACTOR = 60
"""A minute of the rules takes a second."""
SCRAPE_MS = 400
QUIET_SECONDS = 15
JOBS = {
    "facewire-sink": "s3sink",
    "facewire-gallery": "gallery",
    "facewire-authority": "pki",
    "facewire-detector": "detector",
    "facewire-forwarder": "forwarder",
}


def faster(text: str) -> str:
    """Return rules whose windows and waiting times are shorter."""
    seconds = {"m": 60, "h": 3600}

    def shorter(found: re.Match[str]) -> str:
        return f"{found[1]}{int(found[2]) * seconds[found[3]] * 1000 // FACTOR}ms"

    return re.sub(r"(\[|for: )(\d+)([mh])\b", shorter, text)


class Prometheus:
    """A real Prometheus with the configuration as shipped. Only addresses and intervals differ."""

    def __init__(self, folder: Path, ports: dict[str, int]) -> None:
        folder.mkdir()
        for file in RULES:
            (folder / file).write_text(faster((FOLDER / file).read_text()))
        config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": f"{SCRAPE_MS}ms", "evaluation_interval": f"{SCRAPE_MS}ms"}
        config["global"]["scrape_timeout"] = config["global"]["scrape_interval"]
        assert {job["job_name"] for job in config["scrape_configs"]} == JOBS.keys()
        config["scrape_configs"] = [
            {"job_name": job, "static_configs": [{"targets": [f"{HOST}:{ports[name]}"]}]} for job, name in JOBS.items()
        ]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        self.port = free_port()
        options = {
            "config.file": folder / "prometheus.yml",
            "storage.tsdb.path": folder / "data",
            "web.listen-address": f"{HOST}:{self.port}",
        }
        command = [tool("prometheus"), *(f"--{option}={value}" for option, value in options.items())]
        self.program = Program("prometheus", command, os.environ, folder / "prometheus.log").start()
        await_true(lambda: self._is_ready() or not self.program.running, 30, "Prometheus is ready")

    def _is_ready(self) -> bool:
        try:
            urllib.request.urlopen(f"http://{HOST}:{self.port}/-/ready", timeout=10).close()
        except OSError:
            return False
        return True

    def get(self, path: str, **parameters: str) -> Any:
        """Return the data of an answer of its API."""
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"http://{HOST}:{self.port}/api/v1/{path}?{query}", timeout=30) as answer:
            return json.load(answer)["data"]

    @property
    def firing(self) -> set[str]:
        """The alerts that are raised."""
        return {alert["labels"]["alertname"] for alert in self.get("alerts")["alerts"] if alert["state"] == "firing"}

    def await_alert(self, name: str, minutes: float) -> None:
        """Wait until an alert is raised."""
        began = time.monotonic()
        await_true(lambda: name in self.firing, minutes * 60 / FACTOR, f"{name} is raised")
        print(f"{name} after {(time.monotonic() - began) * FACTOR / 60:.1f} minutes")


@pytest.fixture
def camera() -> Iterator[NetworkCamera]:
    """A network camera that shows a face."""
    jpeg = cv2.imencode(".jpg", cv2.VideoCapture(str(clip("single_face.mp4"))).read()[1])[1].tobytes()
    with NetworkCamera([jpeg], frames_per_second=20) as camera:
        yield camera


@pytest.fixture
def prometheus(stack: Stack, camera: NetworkCamera) -> Iterator[Prometheus]:
    """The whole chain, and a Prometheus that scrapes it."""
    tool("prometheus")
    ports = {name: free_port() for name in JOBS.values()}
    stack.start_servers()
    stack.start("pki", METRICS_PORT=str(ports["pki"]))
    for name in ("s3sink", "gallery", "forwarder"):
        stack.start_connected(name, METRICS_PORT=str(ports[name]))
    port = str(ports["detector"])
    stack.start_connected("detector", CAMERA_SOURCE=camera.address, FACE_INTERVAL="0", METRICS_PORT=port)
    await_true(lambda: all(listens(port) for port in ports.values()), 30, "all serve their metrics")
    await_true(lambda: len(stack.keys()) > 0, 30, "faces arrive")
    started = Prometheus(stack.folder / "prometheus", ports)
    yield started
    started.program.stop()


def queries() -> list[str]:
    """Every query of the dashboard, with its variables replaced."""
    board = json.loads((FOLDER / "grafana" / "facewire.json").read_text())
    expressions = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    return [text.replace("$__rate_interval", "10s").replace("$device", ".*") for text in expressions]


@pytest.mark.slow
def test_alerts_and_dashboard_with_a_real_prometheus(stack: Stack, camera: NetworkCamera, prometheus: Prometheus):
    """Each query of the dashboard returns data, nothing is raised undisturbed, and each fault raises its alert."""
    without_data = set(queries())

    def is_complete() -> bool:
        without_data.difference_update(
            {query for query in without_data if prometheus.get("query", query=query)["result"]}
        )
        return not without_data

    try:
        await_true(is_complete, 20, "each query of the dashboard returns data")
    except TimeoutError:
        pytest.fail(f"no data: {without_data}")
    await_true(lambda: not prometheus.firing, 20, "nothing is raised")
    raised: set[str] = set()
    deadline = time.monotonic() + QUIET_SECONDS
    await_true(lambda: raised.update(prometheus.firing) or time.monotonic() > deadline, 60, "time passes")  # type: ignore[func-returns-value]
    assert raised == set()
    camera.flowing.clear()
    prometheus.await_alert("FacewireEdgeCameraGone", 3)
    camera.flowing.set()
    stack.programs["s3"].kill()
    prometheus.await_alert("FacewireS3Refuses", 6)
    stack.programs["s3sink"].kill()
    prometheus.await_alert("FacewireSinkDown", 2)
    prometheus.await_alert("FacewireEdgeOutboxGrows", 25)
    stack.programs["forwarder"].kill()
    prometheus.await_alert("FacewireEdgeProcessDown", 2)
    prometheus.await_alert("FacewireDeviceSilent", 6)
    stack.programs["cloud-broker"].kill()
    prometheus.await_alert("FacewireBrokerDown", 2)
    stack.programs["local-broker"].kill()
    prometheus.await_alert("FacewireEdgeLocalBrokerDown", 2)


def test_the_dashboard_names_only_metrics_that_exist():
    """Those that docs/operations.md lists, which is compared with what the processes serve."""
    text = (FOLDER.parent.parent / "docs" / "operations.md").read_text()
    documented = set(re.findall(r"`(facewire_[a-z0-9_]+)`", text))
    names = {name for query in queries() for name in re.findall(r"\bfacewire_[a-z0-9_]+", query)}
    used = {re.sub(r"_(count|sum|bucket)$", "", name) for name in names} - {"facewire_"}
    assert used <= documented
