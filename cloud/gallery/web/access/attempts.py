"""Slows down attempts to sign in.

Attempts are counted per client: an address, or a browser in which somebody has signed in before. So nobody can lock the
owner out by guessing from another address, or from the same address but another browser. The delay is short at most:
the password cannot be guessed at any rate, and the delay mainly protects the processor and the memory.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from cloud.gallery.web.access.refusal import Refusal

FREE_FAILURES = 5
"""Number of failures of a client without a delay."""
MAX_DELAY_SECONDS = 60.0
MAX_CLIENTS = 10_000
"""Maximum number of clients whose failures are counted. Beyond it, the one that failed longest ago is forgotten."""
MAX_WAITING = 16
"""Maximum number of attempts that wait for others to be verified."""
_FORGET_SECONDS = 3600.0
_PAUSE_PER_WORK = 3.0
"""After a failure, verification rests for this many times as long as it took, so that it uses a quarter of a core."""


@dataclass(slots=True)
class _Failures:
    number: int
    last: float
    """Time of the last one, in seconds of the clock."""

    def next_attempt(self) -> float:
        """Return the time at which the client may try again."""
        if self.number < FREE_FAILURES:
            return self.last
        return self.last + min(2.0 ** (self.number - FREE_FAILURES), MAX_DELAY_SECONDS)


class Attempts:
    """The attempts of all clients to sign in. At most one password is verified at a time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, _Failures] = OrderedDict()
        self._clients: set[str] = set()
        self._slot = asyncio.Semaphore(1)

    @asynccontextmanager
    async def one_of(self, client: str, *, is_known: bool) -> AsyncIterator["Attempt"]:
        """Let a client verify one password, when it is its turn.

        Args:
            client: whose failures are counted together.
            is_known: whether somebody has signed in there before. Such a client may wait although many others do.

        Raises:
            Refusal: the client has to wait, or too many others are waiting.
        """
        wait = self._wait_seconds(client)
        if wait > 0 or client in self._clients:
            seconds = max(1, round(wait + 0.5))
            raise Refusal(429, f"too many attempts: try again in {seconds} s", retry_seconds=seconds)
        if len(self._clients) > MAX_WAITING and not is_known:
            raise Refusal(429, "too many others try to sign in: try again in a few seconds", retry_seconds=2)
        self._clients.add(client)
        try:
            async with self._slot:
                began = time.monotonic()
                attempt = Attempt()
                yield attempt
                if attempt.succeeded:
                    self._failures.pop(client, None)
                else:
                    self._count_failure(client)
                    await asyncio.sleep((time.monotonic() - began) * _PAUSE_PER_WORK)
        finally:
            self._clients.discard(client)

    def _wait_seconds(self, client: str) -> float:
        failures = self._failures.get(client)
        return 0.0 if failures is None else failures.next_attempt() - self._clock()

    def _count_failure(self, client: str) -> None:
        now = self._clock()
        previous = self._failures.pop(client, None)
        is_recent = previous is not None and now - previous.last < _FORGET_SECONDS
        number = previous.number + 1 if previous is not None and is_recent else 1
        self._failures[client] = _Failures(number, now)
        while len(self._failures) > MAX_CLIENTS:
            self._failures.popitem(last=False)


@dataclass(slots=True)
class Attempt:
    """One attempt to sign in. It has failed unless ``succeeded`` is set."""

    succeeded: bool = False
