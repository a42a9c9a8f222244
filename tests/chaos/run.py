"""One run: bursts of faults, a recovery after each burst, and a drain of the outbox at the end."""

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from rich.console import Console

from tests.chaos.faults import Fault
from tests.chaos.inject import Injector
from tests.chaos.site import Site

MAX_RECOVERY_SECONDS = 180.0
"""Time limit for storing a new face once all faults are cleared. A slower pipeline counts as stuck."""
MAX_DRAIN_SECONDS = 420.0
"""Time limit for the drain. It exceeds the longest receipt timeout (5 minutes), after which a face is sent again."""
_POLL_SECONDS = 0.05
_EMPTY_SCENE_SECONDS = 5.0
"""Time in which the detectors store the last faces after the cameras see nobody."""
_BACKLOG_SECONDS = 1.0
"""Interval at which the statuses of the detectors are read."""

_console = Console(highlight=False, soft_wrap=True)


class Run:
    """Executes a fault plan."""

    def __init__(self, site: Site, injector: Injector, faults: Sequence[Fault], faces: int) -> None:
        """Create a run.

        Args:
            site: a site that has been started.
            injector: injects faults into this site.
            faults: the plan.
            faces: minimum number of faces stored before the run ends.
        """
        self.done: Counter[str] = Counter()
        """Number of injected faults by kind."""
        self.recovery_seconds: dict[str, float] = defaultdict(float)
        """Longest recovery time by kind, over all bursts that contain the kind.

        A recovery lasts from the time at which all faults are cleared until a later face of each camera is in S3.
        """
        self.failures: list[str] = []
        """Failures other than lost, duplicate, altered or foreign objects."""
        self._site, self._injector, self._faults, self._faces = site, injector, faults, faces
        self._active: dict[Future[None], Fault] = {}
        self._aborted = threading.Event()
        self._asked_at = 0.0
        self._last_backlog: int | None = None
        self._began_at = time.monotonic()

    def run(self) -> None:
        """Execute the plan and drain the outbox. If the outbox is not empty, :attr:`failures` gives the reason."""
        with ThreadPoolExecutor() as pool:
            try:
                self._recover("start")
                self._inject_all(pool)
                self._wait_until(lambda: len(self._site.s3.written) >= self._faces, float("inf"))
                self._drain()
            finally:
                self._aborted.set()

    def _inject_all(self, pool: ThreadPoolExecutor) -> None:
        burst: set[str] = set()
        for fault in self._faults:
            self._injector.inject(fault)
            self._active[pool.submit(self._clear_later, fault)] = fault
            self.done[fault.kind] += 1
            burst.add(fault.kind)
            self._log(f"{self.done.total():4}  {fault.kind:<18} {fault}")
            while self._injector.notes:
                self._log(f"        {self._injector.notes.pop(0)}")
            if not fault.last_of_burst:
                self._wait_until(lambda: False, fault.gap_seconds)
            else:
                self._wait_until(lambda: not self._active, float("inf"))
                seconds = self._recover(", ".join(sorted(burst)))
                for kind in burst:
                    self.recovery_seconds[kind] = max(self.recovery_seconds[kind], seconds)
                burst.clear()
                self._wait_until(lambda: False, fault.calm_seconds)

    def _clear_later(self, fault: Fault) -> None:
        self._aborted.wait(fault.seconds)
        if not self._aborted.is_set():
            self._injector.clear(fault)

    def _recover(self, burst: str) -> float:
        """Wait until a face of each camera that is committed from now on is in S3, and return the seconds it took."""
        cleared_at = time.monotonic()
        cameras = {(device.name, camera) for device, camera in self._site.cameras()}
        stored = self._wait_until(lambda: self._site.stored_since(cleared_at) >= cameras, MAX_RECOVERY_SECONDS)
        seconds = time.monotonic() - cleared_at
        if not stored:
            stuck = " ".join(sorted("/".join(camera) for camera in cameras - self._site.stored_since(cleared_at)))
            self.failures.append(f"stuck: no new face of {stuck} in S3 within {seconds:.0f} s after {burst}")
        self._log(f"      {'recovered' if stored else 'STUCK'} after {seconds:.1f} s")
        return seconds

    def _drain(self) -> None:
        """Let the cameras see nobody, wait until all outboxes are empty, and stop all processes."""
        self._log("      all faults injected, waiting until the outboxes are empty")
        site = self._site
        site.show_nobody()
        since = time.time() + _EMPTY_SCENE_SECONDS
        if not self._wait_until(lambda: self._backlog(since) == 0, MAX_DRAIN_SECONDS):
            self.failures.append(f"the outboxes are not empty after {MAX_DRAIN_SECONDS:.0f} s: {self._backlog(since)}")
        exits = {f"{d.name}/{name}": code for d in site.devices.values() for name, code in d.stop_detectors().items()}
        exits |= {f"{device.name}/forwarder": device.stop_forwarder() for device in site.devices.values()}
        for name, code in (exits | site.stop_cloud()).items():
            if code:
                self.failures.append(f"{name} ended with {code} on SIGTERM")

    def _backlog(self, since: float) -> int | None:
        """Return the number of faces in all outboxes, once each detector has told it after ``since``."""
        if time.monotonic() < self._asked_at + _BACKLOG_SECONDS:
            return self._last_backlog
        found = [device.backlog(since) for device in self._site.devices.values()]
        self._asked_at = time.monotonic()
        self._last_backlog = None if None in found else sum(number or 0 for number in found)
        return self._last_backlog

    def _wait_until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Supervise the site until ``condition`` holds or ``seconds`` have passed. Return whether it holds."""
        deadline = time.monotonic() + seconds
        while True:
            for future in [future for future in self._active if future.done()]:
                del self._active[future]
                future.result()  # an exception while clearing a fault ends the run
            self._site.supervise({name for fault in self._active.values() for name in fault.killed})
            if condition():
                return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_SECONDS)

    def _log(self, text: str) -> None:
        _console.print(f"{time.monotonic() - self._began_at:7.1f} s  {text}")
