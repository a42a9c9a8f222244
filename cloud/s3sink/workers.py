"""Runs the writes: coroutines on an event loop in one thread, as many at once as S3 answers faster for."""

import asyncio
import contextlib
import math
import threading
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from cloud.s3sink.concurrency import Concurrency
from cloud.s3sink.device_queue import Entry
from cloud.s3sink.fair_queue import FairQueue
from wire.process.lifecycle import Stop

T = TypeVar("T")


class Workers(Generic[T]):
    """Takes entries out of a queue when they are due, and starts a coroutine for each."""

    def __init__(
        self,
        queue: FairQueue[T],
        concurrency: Concurrency,
        work: Callable[[Entry[T]], Awaitable[None]],
        end: Callable[[], Awaitable[None]],
        stop: Stop,
    ) -> None:
        """Prepare; :meth:`run` works.

        Args:
            queue: the entries.
            concurrency: how many of them at once.
            work: pass an entry to :meth:`FairQueue.finish` or :meth:`FairQueue.retry`.
            end: called on the event loop when no work is under way any more.
            stop: an exception in ``work`` is a bug, and stops the process through it.
        """
        self._queue, self._concurrency, self._work, self._end, self._stop = queue, concurrency, work, end, stop
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_idle = False
        """Whether the loop must be told of a new entry."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._ended: asyncio.Event | None = None
        self._patience_seconds = 0.0
        """How long the work under way may take when no more is started."""
        self._has_finished = threading.Event()
        self._unanswered = 0
        """How often :meth:`check` has been called since the event loop answered."""

    def run(self) -> None:
        """Work in this thread until :meth:`close` is called."""
        asyncio.run(self._main())

    def wake(self) -> None:
        """Say that the queue has a new entry. Safe to call from any thread."""
        if self._is_idle and self._loop is not None:
            self._is_idle = False
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._start_due)

    def check(self) -> int:
        """Return how often this has been called since the event loop has last done anything; 0 before it runs.

        Call it at intervals. A process that is stopped and goes on later has not hung: it has not called this.
        """
        loop = self._loop
        if loop is None:
            return 0
        self._unanswered += 1
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(self._answer)
        return self._unanswered - 1

    def close(self, seconds: float = 0.0) -> None:
        """Start no more work, wait at most ``seconds`` for what is under way, and cancel the rest.

        Safe to call from any thread but that of the event loop.
        """
        loop, ended = self._loop, self._ended
        if loop is None or ended is None:
            return
        self._patience_seconds = seconds
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(ended.set)
            self._has_finished.wait(seconds)

    async def _main(self) -> None:
        self._ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._start_due()
        await self._ended.wait()
        self._loop = None
        tasks = list(self._tasks)
        if tasks and self._patience_seconds:
            await asyncio.wait(tasks, timeout=self._patience_seconds)
        self._has_finished.set()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._end()

    def _answer(self) -> None:
        self._unanswered = 0

    def _start_due(self) -> None:
        if self._loop is None:
            return
        self._is_idle = True  # before the queue is read, so that no new entry is missed
        while (entry := self._queue.take()) is not None:
            task = self._loop.create_task(self._run(entry))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self._queue.next_due()
        if due < math.inf:
            self._timer = self._loop.call_at(due, self._start_due)  # the loop has the monotonic clock, too

    async def _run(self, entry: Entry[T]) -> None:
        try:
            await self._work(entry)
        except Exception as failure:  # noqa: BLE001 (reported when the process ends)
            self._stop.fail(failure)
        if self._queue.workers != self._concurrency.limit:
            self._queue.workers = self._concurrency.limit
        self._start_due()
