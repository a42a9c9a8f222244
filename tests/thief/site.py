"""The site: a cloud as in production, three honest devices, and a thief for each way."""

import contextlib
import json
import os
import sys
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from demo.ports import HOST
from demo.program import Program, await_true
from demo.stack import BUCKET, Stack
from tests.thief.honest import Counts, Records
from tests.thief.watch import BROKER, SINK, Watch, memory_limits

HONEST = ("honest-1", "honest-2", "honest-3")
THIEF_ADDRESS = "127.0.0.2" if sys.platform == "linux" else HOST
"""The thief's address. Limits of connections apply to each address."""
_START_SECONDS = 30.0
_END_SECONDS = 20.0
"""Maximum time for an attack to end after its time is up."""


class HonestDevice:
    """A device with its own certificate, outbox, local broker and forwarder."""

    def __init__(self, name: str, cloud: Stack, faces_per_second: float) -> None:
        """Enroll the device. Nothing is started yet."""
        self.name = name
        self.folder = cloud.folder / name
        self.records = Records(self.folder)
        self._edge = Stack(self.folder)
        self._edge.authority = cloud.authority
        self._cloud_port, self._rate = cloud.cloud_port, faces_per_second
        cloud.authority.enroll(name).write(self.folder, HOST)

    def start(self) -> None:
        """Start its processes."""
        self._edge.start_broker("local-broker")
        files = {"CA": "ca.pem", "CERT": "cert.pem", "KEY": "key.pem"}
        identity = {f"CLOUD_MQTT_{part}_FILE": str(self.folder / self.name / file) for part, file in files.items()}
        self._edge.start("forwarder", DEVICE_ID=self.name, CLOUD_MQTT_PORT=str(self._cloud_port), **identity)
        command = [sys.executable, "-m", "tests.thief.honest", str(self.folder), str(self._rate)]
        self._edge._program("honest", command, self._edge.environ("detector", DEVICE_ID=self.name))

    def end(self) -> None:
        """End its processes."""
        honest = self._edge.programs.get("honest")
        if honest is not None and honest.running:
            honest.stop()
        self._edge.end()

    @property
    def forwarder_log(self) -> Path:
        """The log of its forwarder."""
        return self.folder / "forwarder.log"

    @property
    def ended(self) -> list[str]:
        """The processes that have ended, although nobody has stopped them."""
        return [f"{self.name}/{name}" for name, program in self._edge.programs.items() if not program.running]


class Site:
    """All servers and processes of a run."""

    def __init__(self, folder: Path, ways: Collection[str], faces_per_second: float, budget: dict[str, str]) -> None:
        """Enroll all devices. Nothing is started yet.

        Args:
            folder: for data and logs.
            ways: the thief has a certificate for each way, so that the results of one do not depend on the others.
            faces_per_second: rate of each honest device.
            budget: the settings of the sink that limit what a device may store.
        """
        self.cloud = Stack(folder)
        self.cloud.settings = budget
        self.devices = [HonestDevice(name, self.cloud, faces_per_second) for name in HONEST]
        for way in ways:
            self.cloud.authority.enroll(self.name_of_thief(way)).write(folder, HOST)
        self.watch = Watch(self.cloud, memory_limits())
        self._exit = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._exit.enter_context(self.cloud)
        try:
            self._start()
        except BaseException:
            self._exit.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit.close()

    def _start(self) -> None:
        self.cloud.start_s3()
        self.cloud.make_bucket()
        self.cloud.start_broker(BROKER)
        self.cloud.start_connected(SINK)
        for device in self.devices:
            self._exit.callback(device.end)
            device.start()
        self._exit.enter_context(self.watch)
        await_true(lambda: all(count.receipted for count in self.counts()), _START_SECONDS, "honest faces are stored")

    @staticmethod
    def name_of_thief(way: str) -> str:
        """Return the name in the thief's certificate for a way."""
        return f"thief-{way}"

    def counts(self) -> list[Counts]:
        """Return the last counts of each honest device."""
        nothing = Counts(0, 0, 0, 0, 0)
        return [counts[-1] if (counts := device.records.counts()) else nothing for device in self.devices]

    def receipted(self) -> int:
        """Return the number of receipts that the honest devices have got."""
        return sum(count.receipted for count in self.counts())

    def pending(self) -> int:
        """Return the number of faces in the honest devices' outboxes."""
        return sum(count.pending for count in self.counts())

    def logs(self) -> list[Path]:
        """Return the logs of broker, sink and forwarders."""
        cloud = [self.cloud.folder / f"{name}.log" for name in (BROKER, SINK)]
        return [*cloud, *(device.forwarder_log for device in self.devices)]

    def attack(self, ways: Sequence[str], name: str, seconds: float) -> list[dict[str, Any]]:
        """Attack in several ways at once with the certificate of one thief, and return what was done in each way."""
        programs = [self._start_attack(way, name, seconds) for way in ways]
        ends_at = time.monotonic() + seconds + _END_SECONDS
        done = []
        for program in programs:
            assert program.process is not None
            try:
                program.process.wait(max(0.1, ends_at - time.monotonic()))
            except Exception:
                program.kill()
                raise
            lines = program.output().splitlines()
            if not lines or not lines[-1].startswith("{"):
                raise RuntimeError(f"{program.name} has failed:\n{program.output()[-2000:]}")
            done.append(json.loads(lines[-1]))
        return done

    def stored(self) -> dict[str, list[tuple[str, int]]]:
        """Return the key and the size of each object, by device."""
        found: dict[str, list[tuple[str, int]]] = {}
        for page in self.cloud.s3().get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
            for item in page.get("Contents", []):
                device = item["Key"].partition("device=")[2].partition("/")[0]
                found.setdefault(device, []).append((item["Key"], item["Size"]))
        return found

    def _start_attack(self, way: str, name: str, seconds: float) -> Program:
        folder, port = self.cloud.folder / name, self.cloud.cloud_port
        arguments = [way, name, str(port), str(folder), THIEF_ADDRESS, str(seconds)]
        command = [sys.executable, "-m", "tests.thief.attack", *arguments]
        log = self.cloud.folder / f"attack-{name}-{way}.log"
        return Program(f"attack {way}", command, os.environ, log).start()
