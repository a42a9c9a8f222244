"""The congestion window, with a simulated path whose clock the test sets."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from wire.process.congestion import INITIAL_BYTES, MIN_MESSAGES, CongestionWindow, Flight

TARGET_SECONDS = 2.0


@dataclass
class Path:
    """A link with a rate, a propagation delay and an unlimited queue, and a sender that always has messages."""

    rate: float
    """Bytes per second."""
    delay: float = 0.1
    """Seconds from the end of the transmission to the answer."""
    now: float = 0.0
    carried: int = 0
    busy: float = 0.0
    queued: list[float] = field(default_factory=list)
    """Seconds that messages have waited and been transmitted."""
    free_at: float = 0.0
    answers: list[tuple[float, int, Flight]] = field(default_factory=list)
    marks: Callable[[float], bool] = lambda now: False
    """Whether an answer says that the path is congested, at a moment."""

    def run(self, window: CongestionWindow, size: int, seconds: float) -> None:
        """Send messages of ``size`` bytes for ``seconds``."""
        end = self.now + seconds
        while self.now < end:
            while window.has_room(size):
                flight = window.send(size)
                self.free_at = max(self.now, self.free_at) + size / self.rate
                self.queued.append(self.free_at - self.now)
                heapq.heappush(self.answers, (self.free_at + self.delay, id(flight), flight))
            self.now, _, flight = heapq.heappop(self.answers)
            window.answer(flight, is_congested=self.marks(self.now))
            self.carried += size


def make_window(path: Path, max_messages: int = 64) -> CongestionWindow:
    return CongestionWindow(target_seconds=TARGET_SECONDS, max_messages=max_messages, clock=lambda: path.now)


@pytest.mark.parametrize("size", [4_000, 20_000, 110_000])
@pytest.mark.parametrize("rate", [4e3, 8e3, 16e3, 50e3, 250e3, 1.25e6])
def test_the_path_is_kept_busy_and_the_queue_is_short(rate: float, size: int):
    """On any path, and with messages of any size."""
    path = Path(rate)
    path.run(make_window(path), size, max(60, 100 * size / rate))
    assert path.carried / path.now > 0.95 * rate
    settled = path.queued[len(path.queued) // 4 :]
    assert max(settled) < 2 * TARGET_SECONDS + (MIN_MESSAGES + 1) * size / rate  # a third one is tried at times


@pytest.mark.parametrize("delay", [8.0, 15.0, 30.0])
def test_answers_that_take_long_are_not_taken_for_a_queue(delay: float):
    """A slow store answers late, however little is under way: a small window would only make the backlog grow."""
    path = Path(1.25e6, delay)
    window = make_window(path)
    path.run(window, 20_000, 20 * delay)
    before = path.carried
    path.run(window, 20_000, 10 * delay)
    assert path.carried - before > 10 * 32 * 20_000, "at least 32 messages in each round trip"


def test_a_path_that_becomes_slow_is_not_filled():
    """The window shrinks to what the path carries in the target time."""
    path = Path(1.25e6)
    window = make_window(path)
    path.run(window, 20_000, 60)
    path.rate = 4e3
    path.run(window, 20_000, 1200)
    assert len(window) <= MIN_MESSAGES
    path.rate = 1.25e6
    path.run(window, 20_000, 120)
    before = path.carried
    path.run(window, 20_000, 60)
    assert path.carried - before > 0.9 * 60 * path.rate


def test_a_mark_makes_the_window_small_where_the_delay_says_nothing():
    """A queue that others have filled looks like a long path. When the marks end, the window grows again."""
    path = Path(1.25e6, delay=5.0)
    window = make_window(path)
    path.run(window, 20_000, 60)
    grown = len(window)
    path.marks = lambda now: True
    path.run(window, 20_000, 60)
    assert grown > 60
    assert len(window) <= MIN_MESSAGES
    path.marks = lambda now: False
    path.run(window, 20_000, 120)
    assert len(window) > 2 * MIN_MESSAGES


def test_many_marks_of_one_round_trip_make_the_window_smaller_once():
    """All of them tell of the same queue."""
    path = Path(1.25e6, delay=5.0)
    window = make_window(path)
    path.run(window, 20_000, 60)
    since = path.now
    path.marks = lambda now: now < since + 5
    path.run(window, 20_000, 6)
    assert 64 / 2 - 4 <= len(window) <= 64 / 2 + 4


def test_the_mark_of_a_message_that_was_sent_again_counts():
    """Its round trip is not measured, but the mark is true of either sending."""
    path = Path(1.25e6)
    window = make_window(path)
    path.run(window, 20_000, 10)
    before = window.bytes
    window.answer(window.send(20_000, is_first=False), is_congested=True)
    assert window.bytes <= before / 2


def test_the_window_does_not_grow_while_it_is_not_used():
    """A sender with little to send has measured nothing about more."""
    path = Path(1.25e6)
    window = make_window(path)
    for _ in range(1000):
        flight = window.send(10_000)
        path.now += 0.1
        window.answer(flight)
    assert window.bytes <= 2 * INITIAL_BYTES


def test_silence_makes_the_window_small_once():
    """Messages that were sent before the window shrank say nothing about its new size."""
    path = Path(1.0)
    window = make_window(path)
    flights = [window.send(10_000) for _ in range(3)]
    path.now = 60.0
    window.time_out(flights[0])
    assert window.bytes == 0
    window.answer(flights[1])
    grown = window.bytes
    window.time_out(flights[2])
    assert window.bytes == grown
    assert window.has_room(10**6), "two messages may always be under way"


def test_the_answer_to_a_message_that_was_sent_again_is_not_measured():
    """It may belong to either sending (Karn's rule)."""
    path = Path(1.0)
    window = make_window(path)
    flight = window.send(10_000, is_first=False)
    path.now = 100.0
    window.answer(flight)
    assert (window.rate, window.round_trip) == (None, None)
    window.answer(flight)
    assert len(window) == 0


def test_no_more_messages_than_allowed_are_under_way():
    """However fast the path is."""
    path = Path(1e9, delay=0.01)
    window = make_window(path, max_messages=8)
    path.run(window, 1000, 10)
    assert len(window) <= 8
