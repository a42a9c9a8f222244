"""A device of the site: its cameras, its detectors, its local broker, its forwarder, its disk and its clock."""

import contextlib
import itertools
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from demo.camera import NetworkCamera
from demo.ports import HOST
from demo.program import Program, await_true, find_program
from demo.stack import OPERATOR, OPERATOR_PASSWORD, Stack
from tests.chaos import clock, journal
from tests.chaos.disk import Disk
from tests.chaos.journal import JOURNAL, Journal
from tests.chaos.pictures import Pictures
from tests.chaos.proxy import TcpProxy
from tests.wall_clock import WrongClock

_DETECTOR_NICENESS = 10
"""The detectors would use all cores, so they get a lower priority than the other processes."""
_FRAMES_PER_SECOND = 3.0
"""Rate of a live camera."""
_DETECTOR_SETTINGS = {
    "FACE_INTERVAL": "0",
    "DETECT_THREADS": "1",
    "DETECT_SIZE": "320",
    "OPENCV_FOR_THREADS_NUM": "1",
}
_SUBSCRIBER_FORMAT = "%U\t%t\t%D\t%p"
"""Time of arrival, topic, correlation data and payload."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How a device is set up."""

    name: str
    qos: int
    cameras: Mapping[str, bool]
    """Whether each camera is live. The others are folders of pictures."""


class Device:
    """One device. Its programs are named after their purpose; a detector's name contains its camera."""

    def __init__(self, plan: Plan, cloud: Stack, pictures: Pictures) -> None:
        """Set up a device and enroll it; nothing is started yet."""
        self.name, self.cameras = plan.name, plan.cameras
        self.folder = cloud.folder / plan.name
        self.wan = TcpProxy(cloud.cloud_port)
        self.disk = Disk(self.folder / "disk")
        self._edge = Stack(self.folder)
        self._edge.authority = cloud.authority
        cloud.authority.enroll(plan.name).write(self.folder, HOST)
        self._settings = {"DEVICE_ID": plan.name, "MQTT_QOS": str(plan.qos)}
        self._clock = WrongClock(self.folder) if clock.is_available() else None
        self._pictures = pictures
        self._live = {
            camera: NetworkCamera(pictures.faces[number * 7 :], _FRAMES_PER_SECOND)
            for number, (camera, is_live) in enumerate(plan.cameras.items())
            if is_live
        }
        self._sources = {camera: self.folder / f"pictures-{camera}" for camera in plan.cameras}
        self._exit = contextlib.ExitStack()
        self.journal = Journal(self.folder / "journal")

    @property
    def programs(self) -> dict[str, Program]:
        """The programs that were started, by name."""
        return self._edge.programs

    @property
    def detectors(self) -> list[str]:
        """Names of the detectors."""
        return [f"detector-{camera}" for camera in self.cameras]

    def start(self) -> None:
        """Start the link, the cameras and all programs."""
        self._exit.callback(self.disk.unmount)
        self.disk.mount()
        self._exit.enter_context(self.wan)
        for camera in self._live.values():
            self._exit.enter_context(camera)
        for source in self._sources.values():
            source.symlink_to(self._pictures.folder)
        self._exit.callback(self._edge.end)
        self.launch("local-broker")
        self._subscribe()
        self.launch("forwarder")
        for name in self.detectors:
            self.launch(name)

    def close(self) -> None:
        """End all programs, and unmount the disk."""
        self._exit.close()

    def launch(self, name: str) -> None:
        """Start or restart a program."""
        if name == "local-broker":
            self._edge.start_broker(name)
        elif name == "subscriber":
            self._subscribe()
        elif name == "forwarder":
            files = {"CA": "ca.pem", "CERT": "cert.pem", "KEY": "key.pem"}
            identity = {f"CLOUD_MQTT_{part}_FILE": str(self.folder / self.name / file) for part, file in files.items()}
            self._edge.start(name, **self._settings, **identity, CLOUD_MQTT_PORT=str(self.wan.port))
        else:
            self._launch_detector(name.removeprefix("detector-"))

    def outbox(self, camera: str) -> Path:
        """Return the path of the outbox of a camera."""
        return self.disk.folder / f"outbox-{camera}.db"

    def log(self, camera: str) -> Path:
        """Return the path of the log of a camera's detector."""
        return self.folder / f"detector-{camera}.log"

    def set_clock(self, offset_seconds: float) -> None:
        """Step the wall clock of the detectors to a time that is a number of seconds ahead of the machine's."""
        assert self._clock is not None
        self._clock.set_error(offset_seconds)

    def kill(self, names: Sequence[str]) -> None:
        """Kill programs with SIGKILL, all at the same time."""
        for name in names:
            process = self.programs[name].process
            assert process is not None
            process.kill()
        for name in names:
            self.programs[name].kill()

    def show_nobody(self) -> None:
        """Let the cameras see nobody. The detectors continue to run."""
        nobody = self.folder / "nobody"
        nobody.mkdir(exist_ok=True)
        (nobody / "nobody.jpg").write_bytes(self._pictures.empty)
        for camera, source in self._sources.items():
            if camera in self._live:
                self._live[camera]._pictures = itertools.cycle((self._pictures.empty,))
            else:
                link = source.with_suffix(".next")
                link.symlink_to(nobody)
                link.replace(source)

    def backlog(self, since: float) -> int | None:
        """Return the number of faces in the outboxes, according to the last status of each detector.

        Return None if a detector has not published its status after ``since``, in seconds since 1970.
        """
        total = 0
        for camera in self.cameras:
            published = [
                payload
                for arrived_at, topic, _, payload in self.arrived()
                if topic == f"status/detector/{camera}" and arrived_at > since
            ]
            if not published or "outbox" not in (status := json.loads(published[-1])):
                return None
            total += status["outbox"] + status.get("untimed", 0)
        return total

    def receipts(self) -> dict[str, set[str]]:
        """Return the ids in the receipts that the local broker has published, by camera."""
        found: dict[str, set[str]] = {camera: set() for camera in self.cameras}
        for _, topic, face_id, _ in self.arrived():
            kind, _, camera = topic.partition("/")
            if kind == "receipts":
                found.setdefault(camera, set()).add(face_id)
        return found

    def arrived(self) -> list[tuple[float, str, str, str]]:
        """Return what the subscriber has received: time in seconds since 1970, topic, correlation data, payload."""
        lines = self.programs["subscriber"].output().splitlines()
        words = (line.split("\t") for line in lines if line.count("\t") == 3)
        return [(float(arrived_at), topic, face_id, payload) for arrived_at, topic, face_id, payload in words]

    def stop_detectors(self) -> dict[str, int]:
        """Stop the detectors gracefully and return their exit statuses."""
        return {name: self.programs[name].stop(30) for name in self.detectors}

    def stop_forwarder(self) -> int:
        """Stop the forwarder gracefully and return its exit status."""
        return self.programs["forwarder"].stop(30)

    def _launch_detector(self, camera: str) -> None:
        name = f"detector-{camera}"
        journal.settle(self.journal, camera, self.outbox(camera))
        live = self._live.get(camera)
        settings = {
            "CAMERA_NAME": camera,
            "CAMERA_SOURCE": live.address if live else str(self._sources[camera]),
            "CAMERA_LOOP": "true",
            "OUTBOX_PATH": str(self.outbox(camera)),
            JOURNAL: str(self.journal.path),
            **self._settings,
            **_DETECTOR_SETTINGS,
            **(self._clock.environ() if self._clock else {}),
        }
        command = [sys.executable, "-m", "tests.chaos.journal"]
        program = self._edge._program(name, command, self._edge.environ("detector", **settings))
        os.setpriority(os.PRIO_PROCESS, program.pid, _DETECTOR_NICENESS)

    def _subscribe(self) -> None:
        """Start Mosquitto's own client, which records receipts and statuses independently of Facewire's code."""
        command = [
            find_program("mosquitto_sub"),
            *("-h", HOST, "-p", str(self._edge.local_port), "-V", "5", "-q", "1", "-i", "chaos"),
            *("-u", OPERATOR, "-P", OPERATOR_PASSWORD),
            *("-t", "receipts/#", "-t", "status/detector/#", "-F", _SUBSCRIBER_FORMAT),
        ]
        self._edge._program("subscriber", command, os.environ)
        await_true(lambda: self.programs["subscriber"].running, 10, "the subscriber runs")
