"""Measures how long commits take, so that a slow or hanging disk can be told."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

SLOW_SECONDS = 5.0
"""A commit that takes longer is a problem: the disk is overloaded or about to fail."""


class CommitTimer:
    """Durations of commits, in seconds."""

    def __init__(self) -> None:
        self.last_seconds = 0.0
        """Duration of the last commit, or of the one under way if that takes longer already."""
        self.longest_seconds = 0.0
        """Duration of the longest commit since the start."""
        self._began_at: float | None = None

    @contextmanager
    def measure(self) -> Iterator[None]:
        """Measure the commit inside the context."""
        began = self._began_at = time.monotonic()
        try:
            yield
        finally:
            self._began_at = None
            self.last_seconds = time.monotonic() - began
            self.longest_seconds = max(self.longest_seconds, self.last_seconds)

    @property
    def problem(self) -> str:
        """That commits are slow; empty if they are not. Needs no lock, so it can be asked while a commit hangs."""
        began = self._began_at
        so_far = 0.0 if began is None else time.monotonic() - began
        if so_far > SLOW_SECONDS:
            return f"disk slow: a commit has taken {so_far:.0f} s so far"
        return f"disk slow: a commit took {self.last_seconds:.0f} s" if self.last_seconds > SLOW_SECONDS else ""
