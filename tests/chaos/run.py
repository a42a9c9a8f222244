"""One run: bursts of faults, a recovery after each burst, and a drain of the outbox at the end."""

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime

from rich.console import Console

from tests.chaos.faults import Fault
from tests.chaos.site import Site

MAX_RECOVERY_SECONDS = 180.0
"""Time limit for storing a new face once all faults are cleared. A slower pipeline counts as stuck."""
MAX_DRAIN_SECONDS = 420.0
"""Time limit for the drain. It exceeds the longest receipt timeout (5 minutes), after which a face is sent again."""
_POLL_SECONDS = 0.05

_console = Console(highlight=False, soft_wrap=True)


class Run:
    """Executes a fault plan."""

    def __init__(self, site: Site, faults: Sequence[Fault], faces: int) -> None:
        """Create a run.

        Args:
            site: a site that has been started.
            faults: the plan.
            faces: minimum number of faces stored before the run ends.
        """
        self.done: Counter[str] = Counter()
        """Number of injected faults by kind."""
        self.recovery_seconds: dict[str, float] = defaultdict(float)
        """Longest recovery time by kind, over all bursts that contain the kind.

        A recovery lasts from the time at which all faults are cleared until a face captured later is in S3.
        """
        self.failures: list[str] = []
        """Failures other than lost, duplicate, altered or foreign objects."""
        self._site, self._faults, self._faces = site, faults, faces
        self._active: dict[Future[None], Fault] = {}
        self._aborted = threading.Event()
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
            self._site.inject(fault)
            self._active[pool.submit(self._clear_later, fault)] = fault
            self.done[fault.kind] += 1
            burst.add(fault.kind)
            self._log(f"{self.done.total():4}  {fault.kind:<18} {fault}")
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
            self._site.clear(fault)

    def _recover(self, burst: str) -> float:
        """Wait until a face captured from now on is in S3, and return the seconds it took."""
        cleared_at, began_at = datetime.now(UTC), time.monotonic()
        stored = self._wait_until(
            lambda: self._site.newest_stored is not None and self._site.newest_stored > cleared_at, MAX_RECOVERY_SECONDS
        )
        seconds = time.monotonic() - began_at
        if not stored:
            self.failures.append(f"stuck: no new face in S3 within {seconds:.0f} s after {burst}")
        self._log(f"      {'recovered' if stored else 'STUCK'} after {seconds:.1f} s")
        return seconds

    def _drain(self) -> None:
        self._log("      all faults injected, draining the outbox")
        if code := self._site.stop_camera():
            self.failures.append(f"the detector ended with {code} on SIGTERM")
        detector = self._site.drain()
        if not self._wait_until(lambda: not detector.running, MAX_DRAIN_SECONDS, except_for="detector"):
            self.failures.append(f"the outbox is not empty after {MAX_DRAIN_SECONDS:.0f} s")
            detector.stop(30)
        elif code := detector.wait(0):
            self.failures.append(f"the detector ended with {code} while draining the outbox")
        for name, code in self._site.stop_pipeline().items():
            if code:
                self.failures.append(f"{name} ended with {code} on SIGTERM")

    def _broken_targets(self) -> set[str]:
        return {target for fault in self._active.values() for target in fault.targets}

    def _wait_until(self, condition: Callable[[], bool], seconds: float, except_for: str = "") -> bool:
        """Supervise the site until ``condition`` holds or ``seconds`` have passed. Return whether it holds."""
        deadline = time.monotonic() + seconds
        while True:
            for future in [future for future in self._active if future.done()]:
                del self._active[future]
                future.result()  # an exception while clearing a fault ends the run
            self._site.supervise({*self._broken_targets(), except_for})
            if condition():
                return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_SECONDS)

    def _log(self, text: str) -> None:
        _console.print(f"{time.monotonic() - self._began_at:7.1f} s  {text}")
