"""The sink's fair queue."""

import threading

from cloud.s3sink.fair_queue import FairQueue
from demo.program import await_true


def test_devices_are_served_round_robin():
    """However many messages of one device are waiting."""
    queue: FairQueue[str] = FairQueue()
    for number in range(5):
        queue.put("a", f"a{number}", 1)
    queue.put("b", "b0", 1)
    queue.put("c", "c0", 1)
    queue.put("b", "b1", 1)
    assert [queue.get() for _ in range(8)] == ["a0", "b0", "c0", "a1", "b1", "a2", "a3", "a4"]


def test_the_queue_of_a_device_is_bounded():
    """By number and by size. An empty queue accepts one message of any size."""
    queue: FairQueue[int] = FairQueue(max_device_messages=3, max_device_bytes=100)
    assert queue.put("b", 0, 1000)
    assert [queue.put("a", number, 10) for number in range(4)] == [True, True, True, False]
    assert not queue.put("b", 1, 1)
    queue.get()
    queue.get()
    assert queue.put("a", 4, 10)


def test_a_single_active_device_has_a_longer_queue():
    """So a burst of pictures is stored if no other device is affected."""
    queue: FairQueue[int] = FairQueue(max_device_messages=3, max_single_device_messages=5)
    assert [queue.put("a", number, 1) for number in range(6)] == [True] * 5 + [False]
    assert queue.put("b", 0, 1)
    queue.get()
    assert not queue.put("a", 6, 1)


def test_beyond_the_total_limit_only_devices_below_their_share_may_add_messages():
    """The memory of the process is bounded, and a busy device does not lock out a quiet one."""
    queue: FairQueue[int] = FairQueue(max_device_bytes=90, max_total_bytes=100)
    assert queue.put("loud", 0, 80)
    assert not queue.put("loud", 1, 30)
    assert queue.put("quiet", 0, 15)
    assert queue.put("quiet", 1, 15)
    assert not queue.put("loud", 2, 15)


def test_get_waits_for_an_item_or_for_close():
    """A closed queue returns None."""
    queue: FairQueue[str] = FairQueue()
    got: list[str | None] = []
    workers = [threading.Thread(target=lambda: got.append(queue.get())) for _ in range(2)]
    for worker in workers:
        worker.start()
    queue.put("a", "x", 1)
    await_true(lambda: bool(got), 10, "one of them has an item")
    queue.close()
    for worker in workers:
        worker.join(10)
    assert sorted(map(str, got)) == ["None", "x"]
