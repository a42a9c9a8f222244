"""Watches broker and sink: measures their memory, kills them at their containers' limits, and starts them again."""

import contextlib
import re
import threading
import time
from dataclasses import dataclass
from typing import Self

import psutil
import yaml

from demo.program import ROOT
from demo.stack import Stack

BROKER, SINK = "cloud-broker", "s3sink"
_SERVICES = {BROKER: "broker", SINK: "s3sink"}
_SAMPLE_SECONDS = 0.05
_RESTART_SECONDS = 1.0
"""Delay before a process that has ended is started again, as by Docker Compose."""
_CONNECTED = "connected    "
"""What the sink logs when it is connected."""


@dataclass(slots=True)
class End:
    """An end of broker or sink."""

    name: str
    at: float
    """On the monotonic clock."""
    was_killed: bool
    """Whether it had reached the limit of its container."""
    connections_before: int
    """How often the sink had connected before."""
    back_seconds: float | None = None
    """Time until the sink was connected again; None if it is not yet."""


def memory_limits() -> dict[str, int]:
    """Return the memory of the containers of broker and sink in bytes, by default, from the Compose file."""
    services = yaml.safe_load((ROOT / "docker-compose.cloud.yml").read_text())["services"]
    limits = {name: re.search(r"(\d+)m}?$", services[service]["mem_limit"]) for name, service in _SERVICES.items()}
    return {name: int(found[1]) << 20 for name, found in limits.items() if found}


class Watch:
    """A thread that watches broker and sink of a stack. Both are running."""

    def __init__(self, stack: Stack, limits: dict[str, int]) -> None:
        self.ends: list[End] = []
        self._stack, self._limits = stack, limits
        self._peaks = dict.fromkeys(_SERVICES, 0)
        self._restart_at: dict[str, float] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._stopping.set()
        self._thread.join()

    def peaks(self) -> dict[str, int]:
        """Return the most memory of each since the last call, in bytes, and begin anew."""
        peaks, self._peaks = self._peaks, {name: self.memory(name) for name in _SERVICES}
        return peaks

    def memory(self, name: str) -> int:
        """Return the resident memory of a process in bytes; 0 if it is not running."""
        with contextlib.suppress(psutil.Error):
            return int(psutil.Process(self._stack.programs[name].pid).memory_info().rss)
        return 0

    @property
    def all_are_back(self) -> bool:
        """Whether whatever has ended is connected again."""
        return all(end.back_seconds is not None for end in self.ends)

    def _work(self) -> None:
        while not self._stopping.wait(_SAMPLE_SECONDS):
            for name in _SERVICES:
                self._look_at(name)
            if not self.all_are_back:
                self._look_for_the_sink()

    def _look_at(self, name: str) -> None:
        program = self._stack.programs[name]
        if program.running:
            memory = self.memory(name)
            self._peaks[name] = max(self._peaks[name], memory)
            if memory > self._limits[name]:
                program.kill()
                self._record_end(name, was_killed=True)
        elif name not in self._restart_at:
            self._record_end(name, was_killed=False)
        elif time.monotonic() >= self._restart_at[name]:
            self._restart_at[name] = time.monotonic() + _RESTART_SECONDS  # if it ends at once
            with contextlib.suppress(RuntimeError, TimeoutError):
                self._start(name)
                del self._restart_at[name]

    def _record_end(self, name: str, *, was_killed: bool) -> None:
        now = time.monotonic()
        self._restart_at[name] = now + _RESTART_SECONDS
        self.ends.append(End(name, now, was_killed, self._sink_connections()))

    def _start(self, name: str) -> None:
        if name == BROKER:
            self._stack.start_broker(BROKER)
        else:
            self._stack.start(SINK)

    def _look_for_the_sink(self) -> None:
        connections = self._sink_connections()
        for end in self.ends:
            if end.back_seconds is None and end.name not in self._restart_at and connections > end.connections_before:
                end.back_seconds = time.monotonic() - end.at

    def _sink_connections(self) -> int:
        return self._stack.programs[SINK].output().count(_CONNECTED)
