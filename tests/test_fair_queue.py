"""The sink's fair queue."""

import math
import time

import pytest

from cloud.s3sink import device_queue
from cloud.s3sink.acceptance import MAX_HELD_SECONDS, Acceptance
from cloud.s3sink.device_queue import DeviceQueue, Entry
from cloud.s3sink.fair_queue import FairQueue
from demo.program import await_true


def take(queue: FairQueue[str], count: int) -> list[Entry[str]]:
    """Get ``count`` entries when they are due, as so many workers would."""
    entries: list[Entry[str]] = []

    def step() -> bool:
        while len(entries) < count and (entry := queue.take()) is not None:
            entries.append(entry)
        return len(entries) == count

    await_true(step, 10, "the entries are due")
    return entries


def serve(queue: FairQueue[str], count: int) -> list[str]:
    """Get and finish ``count`` entries, as one worker would."""
    served = []
    for _ in range(count):
        (entry,) = take(queue, 1)
        queue.finish(entry, accepted=True)
        served.append(entry.item)
    return served


def fill(queue: FairQueue[str], device: str, count: int) -> None:
    for number in range(count):
        assert queue.put(device, f"{device}{number}", 1)


@pytest.fixture
def no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries are due after the longest wait of the backoff."""
    monkeypatch.setattr(device_queue, "delay_seconds", lambda attempt, initial, most: min(most, initial * 2**attempt))


def test_devices_are_served_round_robin():
    """However many messages of one device are waiting."""
    queue: FairQueue[str] = FairQueue()
    fill(queue, "a", 5)
    queue.put("b", "b0", 1)
    queue.put("c", "c0", 1)
    queue.put("b", "b1", 1)
    assert serve(queue, 8) == ["a0", "b0", "c0", "a1", "b1", "a2", "a3", "a4"]


def test_the_queue_of_a_device_is_bounded():
    """By number and by size. An empty queue accepts one message of any size. What is being written counts, too."""
    queue: FairQueue[str] = FairQueue(max_device_messages=3, max_device_bytes=100)
    assert queue.put("b", "b", 1000)
    assert [queue.put("a", "a", 10) for _ in range(4)] == [True, True, True, False]
    assert not queue.put("b", "b", 1)
    (entry,) = take(queue, 1)
    assert not queue.put("b", "b", 1)
    queue.finish(entry, accepted=True)
    assert queue.put("b", "b", 1)
    assert serve(queue, 2) == ["a", "b"]
    assert queue.put("a", "a", 10)


def test_a_single_active_device_has_a_longer_queue():
    """So a burst of pictures is stored if no other device is affected."""
    queue: FairQueue[str] = FairQueue(max_device_messages=3, max_single_device_messages=5)
    assert [queue.put("a", "a", 1) for _ in range(6)] == [True] * 5 + [False]
    assert queue.put("b", "b", 1)
    serve(queue, 1)
    assert not queue.put("a", "a", 1)


def test_beyond_the_total_limit_only_devices_below_their_share_may_add_messages():
    """The memory of the process is bounded, and a busy device does not lock out a quiet one."""
    queue: FairQueue[str] = FairQueue(max_device_bytes=90, max_total_bytes=100)
    assert queue.put("loud", "", 80)
    assert not queue.put("loud", "", 30)
    assert queue.put("quiet", "", 15)
    assert queue.put("quiet", "", 15)
    assert not queue.put("loud", "", 15)


def test_many_devices_with_few_messages_saturate_the_queue_and_are_not_turned_away():
    """A message that is turned away is sent again half a minute later. Nothing more is received instead."""
    queue: FairQueue[str] = FairQueue(max_device_bytes=90, max_total_bytes=100)
    added = [(queue.is_saturated, queue.put(f"device-{number % 5}", "", 10)) for number in range(10)]
    assert added == [(False, True)] * 10
    is_saturated = queue.is_saturated
    assert queue.put("device-0", "", 10)  # what had arrived before
    serve(queue, 2)
    assert (is_saturated, queue.is_saturated) == (True, False)


def test_devices_for_which_s3_fails_do_not_saturate_the_queue(no_jitter):
    """They may wait for long. Others must not wait with them."""
    queue: FairQueue[str] = FairQueue(max_device_bytes=90, max_total_bytes=100)
    for number in range(10):
        assert queue.put(f"device-{number}", "", 10)
    is_saturated = queue.is_saturated
    for entry in take(queue, 6):
        queue.retry(entry)
    assert queue.size == 100
    assert (is_saturated, queue.is_saturated) == (True, False)
    assert queue.put("honest", "", 10)
    assert queue.put("honest", "", 10)


def test_a_device_with_more_than_its_share_of_a_full_queue_is_congested():
    """From half of the total on. A device with few messages is not told to send less because of another one."""
    queue: FairQueue[str] = FairQueue(max_total_bytes=100)
    for device, size in (("large", 40), ("small", 5)):
        queue.put(device, "", size)
    entries = take(queue, 2)
    below = [queue.is_congested(entry) for entry in entries]
    queue.put("large", "", 10)
    above = {entry.queue.device: queue.is_congested(entry) for entry in entries}
    assert (below, above) == ([False, False], {"large": True, "small": False})


def test_devices_for_which_s3_fails_congest_nobody(no_jitter):
    """What they hold does not keep others waiting."""
    queue: FairQueue[str] = FairQueue(max_total_bytes=100)
    queue.put("a", "", 60)
    queue.put("b", "", 5)
    failing, other = take(queue, 2)
    before = queue.is_congested(failing)
    queue.retry(failing)
    assert (before, queue.is_congested(failing), queue.is_congested(other)) == (True, False, False)


def test_what_the_broker_has_to_keep_is_bounded():
    """It keeps what is stored already until all earlier messages are acknowledged: those of a device with many, too."""
    queue: FairQueue[str] = FairQueue(max_span_bytes=30)
    fill(queue, "early", 10)
    for number in range(200):
        queue.put(f"device-{number % 50}", "other", 1)
    served, spans = [], []
    for number in range(500):
        served += serve(queue, 1)
        queue.put(f"device-{number % 50}", "other", 1)
        spans.append(queue.span)
    assert max(spans) < 300  # more than 700, if the devices were only served in turn
    assert served[:20].count("other") >= 10


def test_the_oldest_message_can_be_served_first():
    """At the end, so that what is stored can be acknowledged."""
    queue: FairQueue[str] = FairQueue()
    queue.put("a", "1", 1)
    fill(queue, "b", 3)
    queue.put("a", "5", 1)
    queue.serve_oldest_first()
    assert serve(queue, 5) == ["1", "b0", "b1", "b2", "5"]


def test_a_message_that_s3_does_not_accept_does_not_stop_the_others(no_jitter):
    """While it is the oldest, too."""
    queue: FairQueue[str] = FairQueue(workers=2, max_span_bytes=5)
    queue.put("failing", "failing", 1)
    (entry,) = take(queue, 1)
    queue.retry(entry)
    for number in range(50):
        queue.put(f"device-{number % 5}", "other", 1)
        assert serve(queue, 1) == ["other"]


def test_a_busy_device_leaves_workers_free():
    """With 16 workers, a device with many messages gets 12: three times as many as stay free."""
    queue: FairQueue[str] = FairQueue(workers=16)
    fill(queue, "busy", 100)
    assert len(take(queue, 12)) == 12
    queue.put("quiet", "q", 1)
    assert [entry.item for entry in take(queue, 1)] == ["q"]


def test_a_device_whose_writes_fail_gets_fewer_workers(no_jitter):
    """Its share is halved at each failure, down to two, and grows by one at each success."""
    queue: FairQueue[str] = FairQueue(workers=16)
    fill(queue, "a", 30)
    for entry in take(queue, 12):
        queue.retry(entry)
    (state,) = queue._queues.values()
    assert state._limit == 2
    assert not [entry for entry in take_ready(queue) if entry.failures == 0]  # new messages wait, too


def test_failing_devices_share_half_of_the_workers(no_jitter):
    """However many devices hang, the others have the other half."""
    queue: FairQueue[str] = FairQueue(workers=8)
    for device in "abcdefgh":
        fill(queue, device, 1)
    for entry in take(queue, 8):
        queue.retry(entry)
    for device in "abcdefgh":
        fill(queue, device, 4)
    failing = take_ready(queue)
    assert len(failing) == 4
    queue.put("good", "good", 1)
    assert [entry.item for entry in take_ready(queue)] == ["good"]


def take_ready(queue: FairQueue[str]) -> list[Entry[str]]:
    """Get every entry that a worker would get at once."""
    ready: list[Entry[str]] = []
    while (entry := queue.take()) is not None:
        ready.append(entry)
    return ready


def test_one_key_that_fails_does_not_hold_up_others_of_its_device(no_jitter):
    """Its retries wait without a worker."""
    queue: FairQueue[str] = FairQueue(workers=2)
    fill(queue, "a", 4)
    (bad,) = take(queue, 1)
    queue.retry(bad)
    assert serve(queue, 1) == ["a1"]
    (bad,) = take(queue, 1)
    queue.retry(bad)  # it has failed twice, so it waits longer
    assert serve(queue, 2) == ["a2", "a3"]
    assert serve(queue, 1) == ["a0"]
    assert queue.count == queue.size == 0


def test_a_hanging_key_leaves_a_worker_for_others_of_its_device(no_jitter):
    """At most half of the device's workers retry."""
    queue: FairQueue[str] = FairQueue(workers=4)
    fill(queue, "a", 3)
    for entry in take(queue, 3):
        queue.retry(entry)
    await_true(lambda: bool(take_ready(queue)), 10, "one of them is tried again")
    (state,) = queue._queues.values()
    assert state.busy == state.busy_retries == 1
    state._paused_until = 0.0
    queue.put("a", "new", 1)
    assert [entry.item for entry in take_ready(queue)] == ["new"]


def test_after_a_success_the_messages_of_the_device_are_tried_at_once(monkeypatch: pytest.MonkeyPatch):
    """They do not wait for the end of their backoff."""
    monkeypatch.setattr(device_queue, "delay_seconds", lambda attempt, initial, most: 0.0 if attempt == 2 else 1e6)
    queue: FairQueue[str] = FairQueue(workers=4)
    fill(queue, "a", 3)
    entries = take(queue, 3)
    for entry in entries:
        queue.retry(entry)
    assert take_ready(queue) == []
    queue.put("a", "new", 1)
    (state,) = queue._queues.values()
    state._paused_until = 0.0
    assert serve(queue, 1) == ["new"]
    assert sorted(serve(queue, 3)) == ["a0", "a1", "a2"]


def test_a_message_can_be_withdrawn_unless_a_worker_has_it():
    """It is not served any more, and no longer counts."""
    queue: FairQueue[str] = FairQueue()
    fill(queue, "a", 3)
    (busy,) = take(queue, 1)
    assert not queue.withdraw(busy)
    first, second = queue.waiting()
    assert (first.item, queue.span) == ("a1", 3)
    assert queue.withdraw(first)
    assert not queue.withdraw(first)
    queue.finish(busy, accepted=True)
    assert queue.span == 1
    assert serve(queue, 1) == [second.item]
    assert (queue.count, queue.size, queue.span) == (0, 0, 0)


def test_an_outage_is_probed_and_not_hammered():
    """However many messages of a device wait, they share the wait between two attempts."""
    queue: DeviceQueue[int] = DeviceQueue("jetson-1", 16)
    for number in range(100):
        queue.add(Entry(number, queue, 1, 0.0, number))
    attempts: list[float] = []
    for step in range(12_000):
        now = step / 20
        while (entry := queue.take(now, free_workers=16)) is not None:
            attempts.append(now)
            queue.note_failure(entry, now)
            queue.delay(entry, now)
    assert queue.dues()[1] == math.inf, "every message has been tried"
    assert sum(moment > 540 for moment in attempts) < 100, "within a minute; one attempt of each in 5 s would be 1,200"
    queue.note_success(600.0)
    assert queue.take(600.0, free_workers=16) is not None


def test_a_message_that_only_waits_for_a_slow_store_is_not_given_up(no_jitter):
    """It is given up only if writes of its device fail or hang, or if the broker soon sends no more messages."""
    queue: FairQueue[str] = FairQueue(workers=4)
    acceptance = Acceptance()
    fill(queue, "a", 3)
    first, second = take(queue, 2)
    (waiting,) = queue.waiting()
    now = time.monotonic()
    waiting.held_since = acceptance.recovered_at = now - 4 * MAX_HELD_SECONDS
    acceptance.accepted_at = now
    assert not acceptance.gives_up(waiting)
    assert acceptance.gives_up(waiting, is_window_full=True)
    first.busy_since = now - 2 * MAX_HELD_SECONDS
    assert acceptance.gives_up(waiting), "a write of its device hangs"
    queue.finish(first, accepted=True)
    assert not acceptance.gives_up(waiting)
    first.queue.accepted_at = -math.inf
    queue.retry(second)
    assert acceptance.gives_up(waiting), "a write of its device has failed"
