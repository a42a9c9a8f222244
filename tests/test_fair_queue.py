"""Whose turn it is at the sink."""

import threading

from cloud.s3sink.fair_queue import FairQueue
from demo.program import await_true


def test_devices_take_turns():
    """However much one of them has lined up before."""
    queue: FairQueue[str] = FairQueue()
    for number in range(5):
        queue.put("a", f"a{number}", 1)
    queue.put("b", "b0", 1)
    queue.put("c", "c0", 1)
    queue.put("b", "b1", 1)
    assert [queue.take() for _ in range(8)] == ["a0", "b0", "c0", "a1", "b1", "a2", "a3", "a4"]


def test_a_device_has_no_more_waiting_than_its_share():
    """By number and by bytes; what is taken makes room; one message always has room, however large."""
    queue: FairQueue[int] = FairQueue(max_device_messages=3, max_device_bytes=100)
    assert queue.put("b", 0, 1000)
    assert [queue.put("a", number, 10) for number in range(4)] == [True, True, True, False]
    assert not queue.put("b", 1, 1)
    queue.take()
    queue.take()
    assert queue.put("a", 4, 10)


def test_a_device_that_is_alone_may_have_more_waiting():
    """A burst of pictures is stored, where it is in nobody's way."""
    queue: FairQueue[int] = FairQueue(max_device_messages=3, max_single_device_messages=5)
    assert [queue.put("a", number, 1) for number in range(6)] == [True] * 5 + [False]
    assert queue.put("b", 0, 1)
    queue.take()
    assert not queue.put("a", 6, 1)


def test_beyond_what_all_may_have_only_those_with_less_than_their_share_get_in():
    """The memory of the process is bounded, and a quiet device is not shut out by a loud one."""
    queue: FairQueue[int] = FairQueue(max_device_bytes=90, max_total_bytes=100)
    assert queue.put("loud", 0, 80)
    assert not queue.put("loud", 1, 30)
    assert queue.put("quiet", 0, 15)
    assert queue.put("quiet", 1, 15)
    assert not queue.put("loud", 2, 15)


def test_who_waits_for_a_turn_gets_it_or_is_let_go():
    """A worker sleeps until there is something, or the end."""
    queue: FairQueue[str] = FairQueue()
    got: list[str | None] = []
    workers = [threading.Thread(target=lambda: got.append(queue.take())) for _ in range(2)]
    for worker in workers:
        worker.start()
    queue.put("a", "x", 1)
    await_true(lambda: bool(got), 10, "one of them has its turn")
    queue.close()
    for worker in workers:
        worker.join(10)
    assert sorted(map(str, got)) == ["None", "x"]
