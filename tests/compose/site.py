"""Starts, inspects and stops both sides with their compose files."""

import contextlib
import json
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cloud.s3sink.store_check import is_store_check
from demo.program import ROOT
from tests.compose import ledger
from tests.compose.shell import Failed, attempt, run

SERVICES = {
    "edge": ("broker", "detector", "forwarder"),
    "cloud": ("pki", "enrolment", "broker", "s3sink", "gallery", "seaweedfs"),
}
DEVICE = "trial"
DETECTOR = "facewire-detector"
GSTREAMER_TAG = "gstreamer"
"""Tag of the detector's image with GStreamer."""
BROKER = "facewire-broker-edge"
CAMERA_CONTAINER = "facewire-test-camera"
CAMERA_NETWORK = "facewire-edge_camera"
LOCAL_NETWORK = "facewire-edge_local"
PUBLISHERS_NETWORK = "facewire-edge_publishers"
PUBLISHERS_CAMERA = "garden"
"""Camera of a picture from a publisher without an outbox. The ledger does not have it."""
OUTBOX = "facewire-edge_outbox"
UPLINK = "facewire-cloud_devices"
BUNDLE = f"/pki/authority/devices/{DEVICE}"
"""Folder of the device's bundle in the authority's container."""
GRACE_SECONDS = {"edge": 10.0, "cloud": 30.0}

NOT_ENROLLED = {"DEVICE_ID": DEVICE, "CLOUD_MQTT_HOST": "nowhere"}
"""Settings that compose requires, for an edge whose device is not enrolled."""

_UP_SECONDS = 300
_FILES = {
    "edge": ("docker-compose.edge.yml", "docker-compose.trial.yml"),
    "cloud": ("docker-compose.cloud.yml",),
}
_ENVIRONMENTS = {"edge": (f"{DEVICE}/.env", ".env.trial"), "cloud": (".env.trial",)}
_INSTALL = """\
import sqlite3, sys
from pathlib import Path
from edge.detector.delivery.outbox import Outbox
path = Path("/var/lib/facewire/outbox.db")
Outbox(path, 1 << 30).close()
sqlite3.connect(path).executescript(sys.argv[1])
"""
_READ = """\
import json, sqlite3
database = sqlite3.connect("/var/lib/facewire/outbox.db", timeout=30)
(waiting,) = database.execute("SELECT count(*) FROM faces").fetchone()
print(json.dumps((database.execute("SELECT id, bytes FROM committed").fetchall(), waiting)))
"""
_CAMERA = """\
import threading
from pathlib import Path
from demo import camera
camera.HOST = "0.0.0.0"
with camera.NetworkCamera([path.read_bytes() for path in sorted(Path("/media/pictures").iterdir())], 10) as served:
    print(served.address.split(":")[2].split("/")[0], flush=True)
    threading.Event().wait()
"""
_METRICS = """\
import urllib.request
print(urllib.request.urlopen("http://127.0.0.1:9100/metrics", timeout=10).read().decode())
"""
_LIST = """\
import boto3, json, os
pages = boto3.client("s3").get_paginator("list_objects_v2").paginate(Bucket=os.environ["S3_BUCKET"])
print(json.dumps([(item["Key"], item["Size"]) for page in pages for item in page.get("Contents", [])]))
"""


@dataclass
class Site:
    """The trial on one machine, as described in the README, with additional settings."""

    settings: dict[str, str] = field(default_factory=dict)
    """Variables that override those of ``.env.trial``."""

    def __post_init__(self) -> None:
        self.settings["METRICS_PORT"] = "9100"

    def compose(self, side: str, *words: str, seconds: float = 120, settings: Mapping[str, str] | None = None) -> str:
        """Run ``docker compose`` with one side's files and return its output. ``settings`` override the site's."""
        environments = [word for name in _ENVIRONMENTS[side] if (ROOT / name).exists() for word in ("--env-file", name)]
        files = [word for name in _FILES[side] for word in ("-f", name)]
        command = ("docker", "compose", "--progress", "quiet", *environments, *files, *words)
        return run(*command, seconds=seconds, environ={**self.settings, **(settings or {})})

    def build(self, side: str, broker: str, seconds: float) -> None:
        """Build one side's images. ``broker`` is the base image of the broker, by the name that it has here."""
        services = self.compose(side, "config", "--services", settings=NOT_ENROLLED).split()
        self.compose(side, "build", "--build-arg", f"BASE={broker}", "broker", seconds=seconds, settings=NOT_ENROLLED)
        others = [name for name in services if name != "broker"]
        self.compose(side, "build", *others, seconds=seconds, settings=NOT_ENROLLED)

    def up(self, side: str, *services: str, **settings: str) -> None:
        """Start one side and wait until all its containers are healthy."""
        try:
            self.compose(side, "up", "--detach", "--wait", *services, seconds=_UP_SECONDS, settings=settings)
        except Failed as failure:
            logs = self.compose(side, "logs", "--tail", "20", "--no-color")
            raise Failed(f"{failure}\n{logs}") from None

    def enroll(self) -> None:
        """Enroll the device and copy its bundle to the folder that the README names."""
        shutil.rmtree(ROOT / DEVICE, ignore_errors=True)
        self.compose("cloud", "run", "--rm", "enroll", DEVICE)
        self.compose("cloud", "cp", f"pki:{BUNDLE}", ".")

    def join(self) -> None:
        """Let the device enroll by code, as the README says. Its settings stay as they are."""
        code = self.compose("cloud", "run", "--rm", "enroll", "--code", DEVICE).split()[-1]
        files = ("-f", "docker-compose.join.yml", "-f", "tests/compose/join.yml")
        hosts = ("--broker", "cloud-broker", "cloud-enrolment")
        run("docker", "compose", "--progress", "quiet", *files, "run", "--rm", "join", *hosts, code, seconds=120)

    def down(self, side: str) -> tuple[float, dict[str, str]]:
        """Stop one side and remove its containers. Return the seconds it took, and the services that failed."""
        began = time.monotonic()
        self.compose(side, "stop")
        took = time.monotonic() - began
        states = {name: self.inspect(side, name)["State"] for name in SERVICES[side]}
        self.compose(side, "down")
        return took, {
            name: f"status {state['ExitCode']}{', out of memory' if state['OOMKilled'] else ''}"
            for name, state in states.items()
            if state["ExitCode"] or state["OOMKilled"]
        }

    def containers(self, side: str, service: str) -> list[str]:
        """Return the ids of a service's containers that run."""
        return self.compose(side, "ps", "--quiet", service).split()

    def container(self, side: str, service: str) -> str:
        """Return the id of a service's container, running or not."""
        return self.compose(side, "ps", "--all", "--quiet", service).strip()

    def inspect(self, side: str, service: str) -> dict[str, Any]:
        """Return the output of ``docker inspect`` for a service's container."""
        described: list[dict[str, Any]] = json.loads(run("docker", "inspect", self.container(side, service)))
        return described[0]

    def healthy(self, side: str, service: str) -> bool:
        """Whether a container is running and healthy."""
        state = self.inspect(side, service)["State"]
        return bool(state["Running"] and state.get("Health", {}).get("Status") == "healthy")

    def problem(self, side: str, service: str) -> str:
        """Return the last output of a container's health check."""
        checks = self.inspect(side, service)["State"]["Health"]["Log"]
        return str(checks[-1]["Output"]).strip() if checks else ""

    def all_services(self) -> list[tuple[str, str]]:
        """Return side and name of every service."""
        return [(side, name) for side, names in SERVICES.items() for name in names]

    def await_all_healthy(self, seconds: float = 120) -> None:
        """Wait until every container is healthy.

        Raises:
            Failed: a container is not healthy in time. The message includes the output of its health check.
        """

        def details() -> str:
            unhealthy = [(side, name) for side, name in self.all_services() if not self.healthy(side, name)]
            return "; ".join(f"{side} {name}: {self.problem(side, name)}" for side, name in unhealthy)

        wait_for(
            lambda: all(self.healthy(*service) for service in self.all_services()),
            seconds,
            "all containers are healthy",
            details,
        )

    def install_ledger(self) -> None:
        """Create an outbox in the edge's new volume, with a trigger that records every committed face."""
        self._run_with_outbox(_INSTALL, ledger.TRIGGER)

    def read_ledger(self) -> tuple[dict[str, int], int]:
        """Return the size in bytes of each committed face, by id, and the number of faces still in the outbox.

        The detector must be stopped, because it locks its outbox.
        """
        rows, waiting = json.loads(self._run_with_outbox(_READ))
        sizes = dict(rows)
        if len(sizes) != len(rows):
            raise Failed(f"{len(rows) - len(sizes)} ids were committed more than once")
        return sizes, waiting

    def objects(self) -> list[tuple[str, int]]:
        """Return key and size in bytes of every message in the bucket, listed in the sink's container."""
        listed = self.compose("cloud", "exec", "-T", "s3sink", "python", "-c", _LIST)
        return [(key, size) for key, size in json.loads(listed) if not is_store_check(key)]

    def metric(self, side: str, service: str, name: str) -> float:
        """Return the value of a service's metric, summed over all labels."""
        return _value(self.compose(side, "exec", "-T", service, "python", "-c", _METRICS), name)

    def counts(self, container: str, name: str) -> bool:
        """Return whether a metric of one of several containers is above zero. False while it does not answer."""
        with contextlib.suppress(Failed):
            return _value(run("docker", "exec", container, "python", "-c", _METRICS), name) > 0
        return False

    def await_metric(self, side: str, service: str, name: str, minimum: float, seconds: float = 60) -> None:
        """Wait until a metric is at least ``minimum``. A service that has just been started may not answer yet."""

        def has_reached() -> bool:
            with contextlib.suppress(Failed):
                return self.metric(side, service, name) >= minimum
            return False

        wait_for(has_reached, seconds, f"{name} of {side} {service} has reached {minimum:g}")

    def balance(self) -> ledger.Balance:
        """Compare the ledger with the bucket, without the publisher's picture."""
        sizes, waiting = self.read_ledger()
        stored = [(key, size) for key, size in self.objects() if f"/camera={PUBLISHERS_CAMERA}/" not in key]
        return ledger.balance(sizes, stored, waiting, DEVICE)

    def start_camera(self) -> str:
        """Start a network camera on the detector's network and return its address."""
        mounts = ("--volume", f"{ROOT}/demo:/app/demo:ro", "--volume", f"{self.settings['CAMERA_FOLDER']}:/media:ro")
        place = ("--network", CAMERA_NETWORK, "--name", CAMERA_CONTAINER, "--workdir", "/app")
        run("docker", "run", "--detach", *place, *mounts, DETECTOR, "python", "-c", _CAMERA)
        wait_for(lambda: bool(run("docker", "logs", CAMERA_CONTAINER)), 20, "the network camera is running")
        port = run("docker", "logs", CAMERA_CONTAINER).strip()
        return f"http://{CAMERA_CONTAINER}:{port}/stream.mjpg"

    def mqtt(self, network: str, *command: str) -> tuple[int, str]:
        """Run ``mosquitto_pub`` or ``mosquitto_sub`` in a new container. Return its status and standard error."""
        mount = ("--volume", f"{self.settings['CAMERA_FOLDER']}:/media:ro")
        return attempt("docker", "run", "--rm", "--network", network, *mount, BROKER, *command)

    def stop_camera(self) -> None:
        """Remove the network camera, if there is one."""
        with contextlib.suppress(Failed):
            run("docker", "rm", "--force", "--volumes", CAMERA_CONTAINER)

    def remove(self) -> None:
        """Remove containers, networks and volumes of both sides."""
        self.stop_camera()
        for side in ("edge", "cloud"):
            with contextlib.suppress(Failed):
                files = ("-f", "docker-compose.publishers.yml") if side == "edge" else ()
                command = (*files, "down", "--volumes", "--remove-orphans", "--timeout", "10")
                self.compose(side, *command, settings=NOT_ENROLLED)
        shutil.rmtree(ROOT / DEVICE, ignore_errors=True)

    def _run_with_outbox(self, script: str, *arguments: str) -> str:
        """Run a Python script in a new container with the outbox volume, as the user that owns the volume."""
        mount = ("--volume", f"{OUTBOX}:/var/lib/facewire")
        command = ("docker", "run", "--rm", "--network", "none", *mount, DETECTOR, "python", "-c", script, *arguments)
        return run(*command)


def _value(metrics: str, name: str) -> float:
    return sum(float(line.split()[-1]) for line in metrics.splitlines() if line.startswith((f"{name} ", f"{name}{{")))


def wait_for(
    condition: Callable[[], bool], seconds: float, description: str, details: Callable[[], str] = lambda: ""
) -> float:
    """Wait until ``condition`` holds and return the seconds it took.

    Raises:
        Failed: it does not hold in time. The message includes the ``details``.
    """
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            raise Failed(f"{description}: not within {seconds:g} s. {details()}")
        time.sleep(0.5)
    return time.monotonic() - began


def images() -> dict[str, str]:
    """Return the base image of each Dockerfile, by the suffix of its name."""
    bases = {}
    for path in sorted(ROOT.glob("Dockerfile.*")):
        line = next(line for line in path.read_text().splitlines() if line.startswith("ARG BASE="))
        bases[path.suffix[1:]] = line.removeprefix("ARG BASE=")
    return bases


def size_megabytes(names: Iterable[str]) -> dict[str, float]:
    """Return the size of each image."""
    return {name: int(run("docker", "image", "inspect", "--format", "{{.Size}}", name)) / 1e6 for name in names}
