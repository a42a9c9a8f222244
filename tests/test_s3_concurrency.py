"""How many writes the sink has under way, and the event loop on which they run."""

import asyncio
import threading
from collections.abc import Callable

import pytest

from cloud.s3sink.concurrency import INITIAL_WRITES, MIN_WRITES, Concurrency
from cloud.s3sink.device_queue import Entry
from cloud.s3sink.fair_queue import FairQueue
from cloud.s3sink.workers import Workers
from demo.program import await_true
from wire.process.lifecycle import Stop, spawn


class Store:
    """A simulated store, for which time passes only when it answers."""

    def __init__(self, seconds: float, most: int = 10**9) -> None:
        self.seconds = seconds
        """How long a write takes."""
        self.most = most
        """How many writes it serves at once; the others wait."""
        self.now = 0.0

    def serve(self, concurrency: Concurrency, writes: int, *, is_waiting: bool = True) -> list[int]:
        """Serve so many writes, with as many under way as allowed. Return the limits after each."""
        limits = []
        for _ in range(writes):
            self.now += self.seconds / min(concurrency.limit, self.most)
            concurrency.note_end(is_waiting=is_waiting, is_overload=False)
            limits.append(concurrency.limit)
        return limits


def make(store: Store, most: int = 256) -> Concurrency:
    return Concurrency(most, lambda: store.now)


def test_it_grows_as_long_as_the_throughput_grows():
    """Up to its bound. Over a round trip of 100 ms, 1,200 writes/s take two seconds to reach."""
    concurrency = make(store := Store(0.1))
    while concurrency.limit < 120:
        store.serve(concurrency, 1)
    assert store.now < 2
    assert store.serve(concurrency, 20_000)[-1] > 200
    assert max(store.serve(concurrency, 20_000)) == 256


@pytest.mark.parametrize("most", [40, 100])
def test_it_stays_near_what_the_store_serves_at_once(most: int):
    """More would only wait there."""
    concurrency = make(store := Store(0.1, most))
    store.serve(concurrency, 20_000)
    limits = store.serve(concurrency, 20_000)
    assert most - 17 <= sorted(limits)[len(limits) // 2] <= most + 17


def test_it_follows_a_store_that_becomes_slower():
    """As when the sink or the bucket moves."""
    concurrency = make(store := Store(0.02, 20))
    assert store.serve(concurrency, 20_000)[-1] <= 48
    store.seconds, store.most = 0.2, 10**9
    assert store.serve(concurrency, 20_000)[-1] > 200


def test_it_does_not_grow_while_nothing_waits():
    """The throughput then says nothing about it."""
    concurrency = make(store := Store(0.1))
    assert set(store.serve(concurrency, 10_000, is_waiting=False)) == {INITIAL_WRITES}


def test_it_is_halved_when_s3_asks_for_fewer_requests():
    """Once for all writes that are under way, and not below its lower bound."""
    concurrency = make(store := Store(0.1))
    store.serve(concurrency, 20_000)
    before = concurrency.limit
    for _ in range(50):
        concurrency.note_end(is_waiting=True, is_overload=True)
    assert concurrency.limit == before // 2
    for _ in range(20):
        store.now += 2
        concurrency.note_end(is_waiting=True, is_overload=True)
    assert concurrency.limit == MIN_WRITES


def test_a_bound_below_the_initial_number_is_kept():
    """Also when it cannot be halved."""
    concurrency = make(store := Store(0.1), most=3)
    store.serve(concurrency, 1000)
    concurrency.note_end(is_waiting=True, is_overload=True)
    assert concurrency.limit == 3


class Running:
    """Workers on their own thread, which count what is under way."""

    def __init__(self, queue: FairQueue[str], work: Callable[["Running", Entry[str]], None], most: int = 2) -> None:
        self.queue, self.work = queue, work
        self.under_way: list[str] = []
        self.max_under_way = 0
        self.stop = Stop()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.release = asyncio.Event()
        self.has_ended = False
        self.workers = Workers(queue, Concurrency(most), self._work, self._end, self.stop)
        self.thread = spawn("workers", self.workers.run, self.stop)

    async def _end(self) -> None:
        assert all(task.done() for task in asyncio.all_tasks() - {asyncio.current_task()})
        self.has_ended = True

    async def _work(self, entry: Entry[str]) -> None:
        self.loop = asyncio.get_running_loop()
        self.under_way.append(entry.item)
        self.max_under_way = max(self.max_under_way, len(self.under_way))
        await self.release.wait()
        self.under_way.remove(entry.item)
        self.work(self, entry)

    def go(self) -> None:
        """Let all work end from now on."""
        assert self.loop is not None
        self.loop.call_soon_threadsafe(self.release.set)

    def end(self, seconds: float = 0.0) -> None:
        self.workers.close(seconds)
        self.thread.join(10)
        assert not self.thread.is_alive()
        assert self.has_ended


def finish(running: Running, entry: Entry[str]) -> None:
    running.queue.finish(entry, accepted=True)


def put(running: Running, *items: str) -> None:
    for item in items:
        assert running.queue.put("a", item, 1)
        running.workers.wake()


def test_an_event_loop_that_hangs_is_noticed():
    """The sink ends then, so that it is started again."""
    hung, goes_on = threading.Event(), threading.Event()

    def hang(running: Running, entry: Entry[str]) -> None:
        hung.set()
        goes_on.wait()
        finish(running, entry)

    running = Running(FairQueue(2), hang)
    put(running, "1")
    await_true(lambda: running.under_way == ["1"], 10, "it is under way")
    running.go()
    hung.wait()
    for count in range(30):
        assert running.workers.check() >= count - 1
    goes_on.set()
    await_true(lambda: running.workers.check() == 0, 10, "the event loop answers again")
    running.end()
    assert running.workers.check() == 0


def test_new_entries_are_served_while_others_are_under_way():
    """And no more than allowed at once."""
    running = Running(FairQueue(2), finish)
    put(running, "1")
    await_true(lambda: running.under_way == ["1"], 10, "the first one is under way")
    put(running, "2", "3", "4")
    await_true(lambda: running.under_way == ["1", "2"], 10, "the second one is under way")
    running.go()
    running.queue.wait_until_empty(10)
    assert running.queue.count == 0
    assert running.max_under_way == 2
    running.end()


def test_no_entry_is_forgotten():
    """However many threads add some, at any moment."""
    running = Running(FairQueue(16), finish, most=16)
    running.release.set()
    threads = [
        threading.Thread(target=put, args=(running, *(f"{name}{number}" for number in range(150)))) for name in "abcd"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    running.queue.wait_until_empty(20)
    assert running.queue.count == 0
    assert not running.stop
    running.end()


def test_an_entry_that_failed_is_served_again_when_it_is_due():
    """Without a new entry that would wake the loop."""
    failures: list[str] = []

    def fail_twice(running: Running, entry: Entry[str]) -> None:
        if len(failures) < 2:
            failures.append(entry.item)
            running.queue.retry(entry)
        else:
            running.queue.finish(entry, accepted=True)

    running = Running(FairQueue(2), fail_twice)
    running.release.set()
    put(running, "1")
    running.queue.wait_until_empty(20)
    assert (failures, running.queue.count) == (["1", "1"], 0)
    running.end()


def test_an_unexpected_exception_stops_the_process():
    """It is a bug, and must not leave a message without a worker."""

    def fail(running: Running, entry: Entry[str]) -> None:
        raise ZeroDivisionError

    running = Running(FairQueue(2), fail)
    running.release.set()
    put(running, "1")
    assert running.stop.wait(10)
    assert isinstance(running.stop.failure, ZeroDivisionError)
    running.end()


def test_work_under_way_does_not_delay_the_end():
    """It is cancelled. Its message is not acknowledged."""
    running = Running(FairQueue(2), finish)
    put(running, "1")
    await_true(lambda: running.under_way == ["1"], 10, "it is under way")
    running.end()
    assert running.queue.count == 1
    assert not running.stop


def test_work_under_way_may_end_within_a_time():
    """What S3 has is acknowledged then, and is not stored again. No more work is started."""
    running = Running(FairQueue(2), finish)
    put(running, "1", "2", "3")
    await_true(lambda: len(running.under_way) == 2, 10, "the first two are under way")
    threading.Timer(0.2, running.go).start()
    running.end(30)
    assert running.queue.held() == ["3"]


def test_work_that_does_not_end_within_its_time_is_cancelled():
    running = Running(FairQueue(2), finish)
    put(running, "1")
    await_true(lambda: running.under_way == ["1"], 10, "it is under way")
    running.end(0.1)
    assert running.queue.held() == ["1"]
