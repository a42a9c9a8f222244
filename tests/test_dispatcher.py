"""The courier: any interleaving of publish, receipt, crash and reconnect loses nothing and deletes nothing unsigned."""

import itertools
import sqlite3
import tempfile
from collections import deque
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edge.detector.delivery.dispatcher import MAX_RECEIPT_TIMEOUT_SECONDS, Dispatcher
from edge.detector.delivery.outbox import Outbox, OutboxFace
from tests.builders import CAPTURED_AT, make_face, make_faces

WINDOW = 4


class Road:
    """What the courier sends, on a clock that the test turns."""

    def __init__(self, path: Path, window: int = WINDOW, resend_after: float = 30) -> None:
        self.outbox = Outbox(path, 1 << 30)
        self.now = 0.0
        self.sent: list[str] = []
        self.patience: list[float] = []
        self.dispatcher = Dispatcher(
            self.outbox,
            self._publish,
            window=window,
            resend_after=resend_after,
            clock=lambda: self.now,
            chance=lambda: 1.0,
        )

    def _publish(self, entry: OutboxFace, patience: float) -> None:
        self.sent.append(entry.id)
        self.patience.append(patience)

    def take_sent(self) -> list[str]:
        sent, self.sent = self.sent, []
        return sent


@pytest.fixture
def road(tmp_path: Path) -> Road:
    return Road(tmp_path / "outbox.db")


def test_nothing_sets_out_without_a_link(road: Road):
    """It waits on disk."""
    road.outbox.store(make_faces(3))
    road.dispatcher.step()
    assert road.sent == []


def test_at_most_a_window_is_under_way(road: Road):
    """A receipt makes room for the next."""
    faces = make_faces(10)
    road.outbox.store(faces)
    road.dispatcher.link_up()
    road.dispatcher.step()
    first = road.take_sent()
    assert len(first) == WINDOW
    road.dispatcher.receipt(first[0], "door")
    road.dispatcher.step()
    assert len(road.take_sent()) == 1
    assert road.outbox.count == 9


def test_live_faces_are_not_held_up_by_the_backlog(road: Road):
    """Every other face that sets out is the newest one; the backlog goes on from its oldest."""
    backlog = make_faces(100)
    road.outbox.store(backlog)
    road.dispatcher.link_up()
    road.dispatcher.step()
    underway = deque(road.take_sent())
    for i in range(20):
        live = make_face(captured_at=CAPTURED_AT + timedelta(seconds=i + 1))
        road.outbox.store([live])
        for _ in range(2):
            road.dispatcher.receipt(underway.popleft(), "door")
        road.dispatcher.step()
        sent = road.take_sent()
        assert live.id in sent
        assert any(one.id in sent for one in backlog)
        underway.extend(sent)


def test_an_overdue_face_is_sent_again_and_each_time_waits_longer(road: Road):
    """30 s, 60 s, 120 s, 240 s, then every 5 minutes."""
    road.outbox.store(make_faces(1))
    road.dispatcher.link_up()
    waits = []
    for _ in range(7):
        waits.append(road.dispatcher.step())
        assert len(road.take_sent()) == 1
        road.now += waits[-1] - 0.1
        road.dispatcher.step()
        assert road.take_sent() == []
        road.now += 0.1
    assert waits == [
        30,
        60,
        120,
        240,
        MAX_RECEIPT_TIMEOUT_SECONDS,
        MAX_RECEIPT_TIMEOUT_SECONDS,
        MAX_RECEIPT_TIMEOUT_SECONDS,
    ]
    assert road.patience == waits
    assert road.dispatcher.resent == 6


@pytest.mark.parametrize("event", ["link", "cloud"])
def test_what_was_under_way_is_sent_again_when_a_link_returns(road: Road, event: str):
    """A broker that was killed has forgotten it; there is no need to wait until it is overdue."""
    road.outbox.store(make_faces(3))
    road.dispatcher.link_up()
    road.dispatcher.step()
    first = road.take_sent()
    getattr(road.dispatcher, f"{event}_down")()
    road.dispatcher.step()
    assert road.take_sent() == []
    getattr(road.dispatcher, f"{event}_up")()
    road.dispatcher.step()
    assert sorted(road.take_sent()) == sorted(first)


def test_nothing_is_sent_while_the_forwarder_has_no_cloud(road: Road):
    """It would fill the local broker's memory: not new faces, nor overdue ones."""
    road.outbox.store(make_faces(2))
    road.dispatcher.link_up()
    road.dispatcher.step()
    road.take_sent()
    road.dispatcher.cloud_down()
    road.outbox.store(make_faces(5))
    road.now += 1000
    assert road.dispatcher.step() > 1, "an overdue face that cannot be sent must not keep the courier spinning"
    assert road.sent == []


def test_a_receipt_for_a_face_that_is_not_under_way_counts_all_the_same(road: Road):
    """It may have been sent by the run before."""
    (one,) = make_faces(1)
    road.outbox.store([one])
    road.dispatcher.receipt(one.id, "door")
    road.dispatcher.step()
    assert road.outbox.count == 0


def test_receipts_that_a_full_disk_does_not_take_are_noted_later(road: Road, monkeypatch: pytest.MonkeyPatch):
    """Nothing is sent meanwhile, and nothing ends."""
    (one,) = make_faces(1)
    road.outbox.store([one])
    road.dispatcher.link_up()
    road.dispatcher.step()
    road.take_sent()
    road.dispatcher.receipt(one.id, "door")
    with monkeypatch.context() as full:
        full.setattr(road.outbox, "release", _disk_is_full)
        assert 1 < road.dispatcher.step() < 60
    assert road.sent == []
    assert road.outbox.count == 1
    road.dispatcher.step()
    assert road.outbox.count == 0
    assert road.dispatcher.receipted == 1


def _disk_is_full(receipts: object) -> int:
    raise sqlite3.OperationalError("database or disk is full")


class AnyInterleaving(RuleBasedStateMachine):
    """A world in which everything between the outbox and S3 loses, doubles and delays what it likes."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.minted = (make_face(captured_at=CAPTURED_AT + timedelta(milliseconds=i)) for i in itertools.count())
        self.committed: set[str] = set()
        self.stored: set[str] = set()
        self.signed: set[str] = set()
        self.wire: list[str] = []
        self.receipts: list[str] = []
        self.up = False
        self.road = Road(Path(self.folder.name) / "outbox.db")

    def teardown(self) -> None:
        self.road.outbox.close()
        self.folder.cleanup()

    @rule(count=st.integers(1, 4))
    def see_faces(self, count: int) -> None:
        faces = [next(self.minted) for _ in range(count)]
        self.road.outbox.store(faces)
        self.committed |= {one.id for one in faces}

    @rule()
    def step(self) -> None:
        self.road.dispatcher.step()
        sent = self.road.take_sent()
        assert self.up or not sent
        assert set(sent) <= self.committed
        self.wire += sent

    @rule(seconds=st.sampled_from([1, 40, 400]))
    def time_passes(self, seconds: int) -> None:
        self.road.now += seconds

    @rule()
    def the_link_is_lost_and_all_on_it(self) -> None:
        self.road.dispatcher.link_down()
        self.up = False
        self.wire.clear()

    @rule()
    def the_link_returns(self) -> None:
        self.road.dispatcher.link_up()
        self.up = True

    @rule(up=st.booleans())
    def the_cloud_comes_and_goes(self, up: bool) -> None:
        (self.road.dispatcher.cloud_up if up else self.road.dispatcher.cloud_down)()

    @precondition(lambda self: self.wire)
    @rule(data=st.data())
    def the_sink_stores(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self.wire))
        self.stored.add(one)
        self.receipts.append(one)

    @precondition(lambda self: self.wire)
    @rule(data=st.data())
    def a_message_is_lost(self, data: st.DataObject) -> None:
        self.wire.remove(data.draw(st.sampled_from(self.wire)))

    @precondition(lambda self: self.receipts)
    @rule(data=st.data(), keep=st.booleans())
    def a_receipt_arrives(self, data: st.DataObject, keep: bool) -> None:
        one = data.draw(st.sampled_from(self.receipts))
        if not keep:
            self.receipts.remove(one)
        self.road.dispatcher.receipt(one, "door")
        self.signed.add(one)

    @rule()
    def the_detector_is_killed(self) -> None:
        self.road.outbox.close()
        self.road = Road(Path(self.folder.name) / "outbox.db")
        self.up = False

    @invariant()
    def nothing_is_lost_and_nothing_unsigned_is_deleted(self) -> None:
        waiting = {
            entry.id
            for seq in self.road.outbox.waiting(set(), 1000, newest_first=False)
            if (entry := self.road.outbox.get(seq))
        }
        assert self.committed - self.signed <= waiting
        assert self.committed <= waiting | self.stored
        assert self.road.dispatcher.underway <= WINDOW

    @rule()
    def peace_at_last(self) -> None:
        """Once all is well again, everything arrives, by resending alone."""
        self.road.dispatcher.link_up()
        self.road.dispatcher.cloud_up()
        self.up = True
        for _ in range(2 * len(self.committed) + 2):
            self.road.dispatcher.step()
            for one in self.road.take_sent():
                self.stored.add(one)
                self.signed.add(one)
                self.road.dispatcher.receipt(one, "door")
        self.road.dispatcher.step()
        assert self.road.outbox.count == 0
        assert self.committed <= self.stored


AnyInterleaving.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAnyInterleaving = AnyInterleaving.TestCase
