"""The site: three devices and a cloud, with a fault proxy on each link and in front of S3, and a supervisor."""

import signal
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from demo.ports import HOST
from demo.program import Program
from demo.stack import BUCKET, Stack
from tests.chaos import ledger
from tests.chaos.device import Device, Plan
from tests.chaos.faults import DEVICES, ONE_SINK
from tests.chaos.ledger import Camera
from tests.chaos.pictures import make_pictures
from tests.chaos.s3proxy import S3Proxy

PLANS = (
    Plan(DEVICES[0], qos=1, cameras={"door": False}),
    Plan(DEVICES[1], qos=2, cameras={"door": True}),
    Plan(DEVICES[2], qos=1, cameras={"gate": True, "yard": True}),
)
_STOP_SECONDS = 30.0
_RESTART_SECONDS = 1.0
"""Delay before a process that ended unexpectedly is restarted, as by Docker Compose."""


class Site:
    """All servers, processes and proxies of a run."""

    def __init__(self, folder: Path, seed: int, sinks: tuple[str, ...] = ONE_SINK) -> None:
        self.stack = Stack(folder)
        self.sinks = sinks
        self.s3 = S3Proxy(self.stack.s3_port, seed, self._on_written)
        self.devices: dict[str, Device] = {}
        self.ended: Counter[tuple[str, int]] = Counter()
        """Number of unexpected exits by program and exit status."""
        self._stored_ids: list[tuple[Camera, str]] = []
        """Faces that were stored and not yet looked up by :meth:`stored_since`. Appended by the proxy's thread."""
        self._newest: dict[Camera, float] = {}
        """When the commit of the newest stored face began, on the monotonic clock."""
        self._restart_at: dict[str, float] = {}
        self._unsupervised: tuple[str, ...] = ()
        self._folder = folder

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for device in self.devices.values():
            device.close()
        self.stack.end()
        self.s3.close()

    def start(self) -> None:
        """Start all proxies, servers and processes."""
        pictures = make_pictures(self._folder / "pictures")
        for plan in PLANS:
            self.devices[plan.name] = Device(plan, self.stack, pictures)
        self.s3.start()
        self.stack.start_s3()
        self.stack.make_bucket()
        for name in ("cloud-broker", *self.sinks):
            self.launch(name)
        for device in self.devices.values():
            device.start()

    def cameras(self) -> Iterator[tuple[Device, str]]:
        """Yield each device with each of its cameras."""
        for device in self.devices.values():
            for camera in device.cameras:
                yield device, camera

    def launch(self, name: str) -> None:
        """Start or restart a program, such as ``s3sink`` or ``jetson-1/forwarder``."""
        device, _, program = name.rpartition("/")
        if device:
            self.devices[device].launch(program)
        elif name == "s3":
            self.stack.start_s3()
        elif name == "cloud-broker":
            self.stack.start_broker(name)
        else:
            self.stack.start(name, AWS_ENDPOINT_URL_S3=f"http://{HOST}:{self.s3.port}")

    def kill(self, names: Collection[str]) -> None:
        """Kill programs in the cloud with SIGKILL, all at the same time."""
        for name in names:
            process = self.stack.programs[name].process
            assert process is not None
            process.kill()
        for name in names:
            self.stack.programs[name].kill()

    def send_signal(self, name: str, number: int) -> None:
        """Send a signal to a program in the cloud, if it runs."""
        process = self.stack.programs[name].process
        assert process is not None
        process.send_signal(number)

    def remove(self, name: str) -> None:
        """Ask a sink to end, and forget it.

        Raises:
            RuntimeError: its exit status is not 0.
        """
        with self.unsupervised(name):
            program = self.stack.programs[name]
            is_running = program.running
            status = program.stop(_STOP_SECONDS)
            del self.stack.programs[name]
        if is_running and status not in (0, -signal.SIGTERM):  # by the signal: it had just been started
            raise RuntimeError(f"{name} ended with {status} on SIGTERM")

    @contextmanager
    def unsupervised(self, name: str) -> Iterator[None]:
        """Do not restart a program while the context is entered. A device's ``detector`` stands for all of them."""
        self._unsupervised += (name,)
        try:
            yield
        finally:
            self._unsupervised = tuple(one for one in self._unsupervised if one != name)

    def supervise(self, except_for: Collection[str]) -> None:
        """Restart programs that ended unexpectedly, ``except_for`` those that a fault has killed."""
        for name, program in self.programs().items():
            is_killed = any(name == one or name.startswith(f"{one}-") for one in (*except_for, *self._unsupervised))
            if is_killed or program.running:
                self._restart_at.pop(name, None)
            elif name not in self._restart_at:
                self.ended[name, program.wait(0)] += 1
                self._restart_at[name] = time.monotonic() + _RESTART_SECONDS
            elif time.monotonic() >= self._restart_at[name]:
                del self._restart_at[name]
                self.launch(name)

    def programs(self) -> Mapping[str, Program]:
        """Return all programs by name."""
        edge = {
            f"{device.name}/{name}": program
            for device in self.devices.values()
            for name, program in device.programs.items()
        }
        return {**self.stack.programs, **edge}

    def stored_since(self, began_at: float) -> set[Camera]:
        """Return the cameras of which a face is in S3 whose commit began after ``began_at`` (monotonic clock)."""
        stored, self._stored_ids = self._stored_ids, []
        for device in self.devices.values():
            entries = device.journal.read()
            for camera, face_id in stored:
                if camera[0] == device.name and face_id in entries:
                    self._newest[camera] = max(self._newest.get(camera, 0.0), entries[face_id].seconds)
        return {camera for camera, seconds in self._newest.items() if seconds > began_at}

    def show_nobody(self) -> None:
        """Let all cameras see nobody, so that the outboxes become empty while the detectors run."""
        for device in self.devices.values():
            device.show_nobody()

    def stop_cloud(self) -> dict[str, int]:
        """Stop the sinks gracefully and return their exit status."""
        return {name: self.stack.programs[name].stop(_STOP_SECONDS) for name in self.sinks}

    def _on_written(self, path: str) -> None:
        name = ledger.name_of(path.removeprefix(f"/{BUCKET}/"))
        if name is not None:
            self._stored_ids.append(name)
