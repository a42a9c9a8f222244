"""Injects faults into a site, and clears them."""

import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial

from demo.program import await_true
from demo.stack import BUCKET
from tests.chaos import clock, disk
from tests.chaos.device import Device
from tests.chaos.faults import (
    ADD_SINK,
    CLOCK_1970,
    CLOCK_STEP,
    CLOUD_KILLS,
    DISK_FULL,
    DISK_READ_ONLY,
    EDGE_KILLS,
    HANG_SINK,
    LINKS,
    OUTBOX_BIT,
    REMOVE_SINK,
    Fault,
    Scope,
    programs_of,
)
from tests.chaos.journal import settle
from tests.chaos.ledger import Camera
from tests.chaos.proxy import Mode
from tests.chaos.s3proxy import S3Fault
from tests.chaos.site import Site
from wire.ids import time_of_id

_BACKLOG_SECONDS = 60.0
"""Maximum time to wait for a face in each outbox before a bit is flipped."""
_KEY_SECONDS = 5.0
"""Maximum time to wait for a face whose key fails."""
_COMMIT_SECONDS = 0.3
"""Faces that are committed this long after the fault began are certainly affected by it."""


class Injector:
    """Injects faults. Faults are injected in one thread, and may be cleared in others."""

    def __init__(self, site: Site, seed: int) -> None:
        self.flipped: Counter[Camera] = Counter()
        """Number of bits flipped in the outbox of each camera."""
        self.notes: list[str] = []
        """Details of faults for the log."""
        self._site = site
        self._lock = threading.Lock()
        """Held while the faults of S3 are changed."""
        self._rng = random.Random(f"bits {seed}")

    def inject(self, fault: Fault) -> None:
        """Inject a fault. A fault that needs preparation is prepared first, for a few seconds at most."""
        if fault.kind in CLOUD_KILLS:
            self._site.kill(programs_of(CLOUD_KILLS[fault.kind], fault.sinks))
        for sink in fault.sinks:
            if fault.kind == HANG_SINK:
                self._site.send_signal(sink, signal.SIGSTOP)
            elif fault.kind == ADD_SINK:
                self._site.launch(sink)
            elif fault.kind == REMOVE_SINK:
                self._site.remove(sink)
        if fault.s3_fault is not None:
            self._fail_s3(fault, fault.s3_fault)
        for device in (self._site.devices[name] for name in fault.devices):
            if fault.kind in EDGE_KILLS:
                device.kill(_programs(device, EDGE_KILLS[fault.kind]))
            elif fault.kind in LINKS:
                device.wan.latency_seconds = fault.latency_seconds
                device.wan.bytes_per_second = fault.bytes_per_second
                device.wan.mode = fault.mode
            elif fault.kind == DISK_FULL:
                device.disk.fill()
            elif fault.kind == DISK_READ_ONLY:
                self._restart_detectors(device, partial(device.disk.set_read_only, True))
            elif fault.kind == OUTBOX_BIT:
                self._flip(device)
            elif fault.kind == CLOCK_STEP:
                device.set_clock(fault.offset_seconds)
            elif fault.kind == CLOCK_1970:
                self._restart_detectors(device, partial(device.set_clock, clock.seconds_to_1970()))

    def clear(self, fault: Fault) -> None:
        """Clear a fault: restart killed programs, and restore the link, the disk, the clock or S3."""
        if fault.s3_fault is not None:
            answer = fault.s3_fault.answer
            self._change_s3(lambda faults: [one for one in faults if one.answer is not answer])
        if fault.kind in CLOUD_KILLS:
            for name in programs_of(fault.order, fault.sinks):
                self._site.launch(name)
        for sink in fault.sinks:
            if fault.kind == HANG_SINK:
                self._site.send_signal(sink, signal.SIGCONT)
            elif fault.kind == ADD_SINK:
                self._site.remove(sink)
            elif fault.kind == REMOVE_SINK:
                self._site.launch(sink)
        for device in (self._site.devices[name] for name in fault.devices):
            if fault.kind in EDGE_KILLS:
                for part in fault.order:
                    _launch(device, _programs(device, (part,)))
            elif fault.kind in LINKS:
                device.wan.bytes_per_second = None
                device.wan.mode = Mode.PASS
            elif fault.kind == DISK_FULL:
                device.disk.free()
            elif fault.kind == DISK_READ_ONLY:
                self._restart_detectors(device, partial(device.disk.set_read_only, False))
            elif fault.kind in (CLOCK_STEP, CLOCK_1970):
                device.set_clock(0.0)

    def _restart_detectors(self, device: Device, between: Callable[[], None]) -> None:
        """Kill the detectors of a device, do something, and start them again."""
        with self._site.unsupervised(f"{device.name}/detector"):
            device.kill(device.detectors)
            between()
            _launch(device, device.detectors)

    def _flip(self, device: Device) -> None:
        """Flip a bit in each outbox of the device while it has faces and no process has it open."""

        def flip() -> None:
            for camera in device.cameras:
                settle(device.journal, camera, device.outbox(camera))
                self.flipped[device.name, camera] += 1
                self.notes.append(f"{device.name}: flipped {disk.flip_bit(device.outbox(camera), self._rng)}")

        device.wan.mode = Mode.CUT
        cut_at = time.monotonic()

        def has_backlog() -> bool:
            taken = {entry.camera for entry in device.journal.read().values() if entry.seconds > cut_at}
            return taken >= set(device.cameras)

        await_true(has_backlog, _BACKLOG_SECONDS, f"{device.name} has a backlog")
        self._restart_detectors(device, flip)
        device.wan.mode = Mode.PASS

    def _fail_s3(self, fault: Fault, s3_fault: S3Fault) -> None:
        """Let S3 fail for all objects, those of one device, or one of them that is under way."""
        under = "" if fault.scope is Scope.ALL else f"/{BUCKET}/faces/device={fault.devices[0]}/"
        self._change_s3(lambda faults: [*faults, replace(s3_fault, under=under)])
        if fault.scope is not Scope.KEY:
            return
        began_at = time.monotonic()
        path = None
        while path is None and time.monotonic() < began_at + _KEY_SECONDS:
            time.sleep(0.05)
            path = self._path_under_way(fault.devices[0], began_at)
        self.notes.append(f"{fault.kind}: {path or 'no face is under way, so all objects of the device fail'}")
        if path is not None:
            for_key = replace(s3_fault, under=path)
            self._change_s3(lambda faults: [for_key if one.answer is s3_fault.answer else one for one in faults])

    def _change_s3(self, change: Callable[[tuple[S3Fault, ...]], list[S3Fault]]) -> None:
        with self._lock:
            self._site.s3.faults = tuple(change(self._site.s3.faults))

    def _path_under_way(self, device: str, began_at: float) -> str | None:
        """Return the path of a face that was committed after ``began_at`` and is not stored; None if there is none."""
        for entry in self._site.devices[device].journal.read().values():
            if entry.seconds > began_at + _COMMIT_SECONDS:
                moment = time_of_id(entry.id)
                folder = f"/{BUCKET}/faces/device={device}/camera={entry.camera}/date={moment:%Y-%m-%d}"
                path = f"{folder}/{moment:%H%M%S}.{moment.microsecond // 1000:03d}Z-{entry.id}.jpg"
                if path not in self._site.s3.written:
                    return path
        return None


def _launch(device: Device, names: Collection[str]) -> None:
    for name in names:
        device.launch(name)


def _programs(device: Device, parts: Collection[str]) -> list[str]:
    """Return the names of programs of a device. ``detector`` stands for one process for each camera."""
    return [name for part in parts for name in (device.detectors if part == "detector" else (part,))]
