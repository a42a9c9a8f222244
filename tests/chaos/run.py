"""One run: faults in bursts, a calm after each until faces arrive again, and at the end the emptying of the outbox."""

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
"""A pipeline that stores no new face within this, with nothing out of order, counts as stuck."""
MAX_DRAIN_SECONDS = 420.0
"""Longer than the longest wait for a receipt (5 minutes), after which a face is sent again."""
_POLL_SECONDS = 0.05

_console = Console(highlight=False, soft_wrap=True)


class Run:
    """Carries a plan out."""

    def __init__(self, site: Site, faults: Sequence[Fault], faces: int) -> None:
        """Set up a run.

        Args:
            site: started.
            faults: in their order.
            faces: how many must have been stored, at least, before it ends.
        """
        self.done: Counter[str] = Counter()
        """Faults of each kind that have happened."""
        self.recovery_seconds: dict[str, float] = defaultdict(float)
        """For each kind the longest time to recover after a burst that it was part of: from the moment when all was
        mended until a face that was captured after it was in S3."""
        self.failures: list[str] = []
        """What went wrong besides faces."""
        self._site, self._faults, self._faces = site, faults, faces
        self._mending: dict[Future[None], Fault] = {}
        self._hurry = threading.Event()
        self._began_at = time.monotonic()

    def run(self) -> None:
        """Carry the plan out; afterwards the outbox is empty, unless :attr:`failures` says why not."""
        with ThreadPoolExecutor() as pool:
            try:
                self._recover("start")
                self._inject_all(pool)
                self._until(lambda: len(self._site.s3.written) >= self._faces, float("inf"))
                self._drain()
            finally:
                self._hurry.set()

    def _inject_all(self, pool: ThreadPoolExecutor) -> None:
        burst: set[str] = set()
        for fault in self._faults:
            self._site.inject(fault)
            self._mending[pool.submit(self._mend_later, fault)] = fault
            self.done[fault.kind] += 1
            burst.add(fault.kind)
            self._say(f"{self.done.total():4}  {fault.kind:<18} {fault}")
            if not fault.last_of_burst:
                self._until(lambda: False, fault.gap_seconds)
            else:
                self._until(lambda: not self._mending, float("inf"))
                took = self._recover(", ".join(sorted(burst)))
                for kind in burst:
                    self.recovery_seconds[kind] = max(self.recovery_seconds[kind], took)
                burst.clear()
                self._until(lambda: False, fault.calm_seconds)

    def _mend_later(self, fault: Fault) -> None:
        self._hurry.wait(fault.seconds)
        if not self._hurry.is_set():
            self._site.heal(fault)

    def _recover(self, burst: str) -> float:
        """Wait until a face that is captured from now on is in S3, and return after how many seconds it was."""
        calm_at, clock = datetime.now(UTC), time.monotonic()
        stored = self._until(
            lambda: self._site.newest_stored is not None and self._site.newest_stored > calm_at, MAX_RECOVERY_SECONDS
        )
        took = time.monotonic() - clock
        if not stored:
            self.failures.append(f"stuck: no new face in S3 within {took:.0f} s after {burst}")
        self._say(f"      {'recovered' if stored else 'STUCK'} after {took:.1f} s")
        return took

    def _drain(self) -> None:
        self._say("      no more faults: the outbox empties itself")
        if code := self._site.stop_camera():
            self.failures.append(f"the detector ended with {code} when asked to stop")
        detector = self._site.drain()
        if not self._until(lambda: not detector.running, MAX_DRAIN_SECONDS, except_for="detector"):
            self.failures.append(f"the outbox is not empty after {MAX_DRAIN_SECONDS:.0f} s")
            detector.stop(30)
        elif code := detector.wait(0):
            self.failures.append(f"the detector ended with {code} instead of emptying the outbox")
        for name, code in self._site.stop_pipeline().items():
            if code:
                self.failures.append(f"{name} ended with {code} when asked to stop")

    def _broken(self) -> set[str]:
        return {target for fault in self._mending.values() for target in fault.targets}

    def _until(self, condition: Callable[[], bool], seconds: float, except_for: str = "") -> bool:
        """Look after the site until ``condition`` holds, for ``seconds`` at most; return whether it does."""
        deadline = time.monotonic() + seconds
        while True:
            for mending in [mending for mending in self._mending if mending.done()]:
                del self._mending[mending]
                mending.result()  # a site that cannot be mended ends the run
            self._site.supervise({*self._broken(), except_for})
            if condition():
                return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_SECONDS)

    def _say(self, text: str) -> None:
        _console.print(f"{time.monotonic() - self._began_at:7.1f} s  {text}")
