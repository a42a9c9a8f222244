"""The dispatcher: no order of events loses a face, or deletes one without its receipt."""

import itertools
import tempfile
from collections import deque
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edge.detector.delivery.dispatcher import Dispatcher
from edge.detector.delivery.outbox import Outbox, OutboxFace
from edge.detector.delivery.underway import MAX_GRACE_SECONDS, MAX_RECEIPT_TIMEOUT_SECONDS
from tests.builders import CAPTURED_AT, make_face, make_faces
from wire.receipt import Receipt

WINDOW = 4


class Sender:
    """A dispatcher with an outbox, a record of what it publishes, and a clock that the test sets."""

    def __init__(self, path: Path, window: int = WINDOW, resend_after: float = 30, camera: str | None = None) -> None:
        self.outbox_path = path
        self.outbox = Outbox(path, 1 << 30)
        self.now = 0.0
        self.sent: list[str] = []
        self.timeouts: list[float] = []
        self.dispatcher = Dispatcher(
            self.outbox,
            self._publish,
            window=window,
            resend_after=resend_after,
            camera=camera,
            clock=lambda: self.now,
            chance=lambda: 1.0,
        )

    def _publish(self, face: OutboxFace, timeout: float) -> None:
        self.sent.append(face.id)
        self.timeouts.append(timeout)

    def take_sent(self) -> list[str]:
        sent, self.sent = self.sent, []
        return sent

    def receipt(self, *face_ids: str) -> None:
        """The receipts of these faces arrive."""
        for face_id in face_ids:
            self.dispatcher.on_receipt(Receipt(face_id), "door")
        self.dispatcher.step()

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.dispatcher.step()


@pytest.fixture
def sender(tmp_path: Path) -> Sender:
    return Sender(tmp_path / "outbox.db")


def test_nothing_is_published_without_a_connection(sender: Sender):
    """Faces wait on disk."""
    sender.outbox.store(make_faces(3))
    sender.dispatcher.step()
    assert sender.sent == []


def test_at_most_a_window_is_under_way(sender: Sender):
    """A receipt makes room for the next face."""
    faces = make_faces(10)
    sender.outbox.store(faces)
    sender.dispatcher.on_link_up()
    sender.dispatcher.step()
    first = sender.take_sent()
    assert len(first) == WINDOW
    sender.dispatcher.on_receipt(Receipt(first[0]), "door")
    sender.dispatcher.step()
    assert len(sender.take_sent()) == 1
    assert sender.outbox.count == 9


def test_live_faces_do_not_wait_for_the_backlog(sender: Sender):
    """Every other face published is the newest one, and the rest is the oldest of the backlog."""
    backlog = make_faces(100)
    sender.outbox.store(backlog)
    sender.dispatcher.on_link_up()
    sender.dispatcher.step()
    underway = deque(sender.take_sent())
    for i in range(20):
        live = make_face(captured_at=CAPTURED_AT + timedelta(seconds=i + 1))
        sender.outbox.store([live])
        for _ in range(2):
            sender.dispatcher.on_receipt(Receipt(underway.popleft()), "door")
        sender.dispatcher.step()
        sent = sender.take_sent()
        assert live.id in sent
        assert any(face.id in sent for face in backlog)
        underway.extend(sent)


def test_an_overdue_face_is_sent_again_after_growing_waits(sender: Sender):
    """30 s, 60 s, 120 s, 240 s, then every 5 minutes."""
    sender.outbox.store(make_faces(1))
    sender.dispatcher.on_link_up()
    waits = []
    for _ in range(7):
        waits.append(sender.dispatcher.step())
        assert len(sender.take_sent()) == 1
        sender.now += waits[-1] - 0.1
        sender.dispatcher.step()
        assert sender.take_sent() == []
        sender.now += 0.11
    longest = [MAX_RECEIPT_TIMEOUT_SECONDS] * 3
    assert waits == pytest.approx([30, 60, 120, 240, *longest], abs=0.1)  # and what the link needs for 4 bytes
    assert sender.timeouts == pytest.approx(waits, abs=0.1)
    assert sender.dispatcher.resent == 6


@pytest.mark.parametrize("event", ["link", "cloud"])
def test_faces_under_way_are_sent_again_after_a_reconnection(sender: Sender, event: str):
    """A broker that was killed has lost them, so they are sent before they are overdue.

    Receipts may be on their way, so they are awaited for a few seconds.
    """
    sender.outbox.store(make_faces(3))
    sender.dispatcher.on_link_up()
    sender.dispatcher.step()
    first = sender.take_sent()
    getattr(sender.dispatcher, f"on_{event}_down")()
    sender.dispatcher.step()
    assert sender.take_sent() == []
    getattr(sender.dispatcher, f"on_{event}_up")()
    assert sender.dispatcher.step() <= MAX_GRACE_SECONDS
    assert sender.take_sent() == []
    sender.receipt(first[0])
    sender.pass_time(MAX_GRACE_SECONDS)
    assert sorted(sender.take_sent()) == sorted(first[1:])


def test_nothing_is_sent_while_the_cloud_is_disconnected(sender: Sender):
    """Neither new nor overdue faces: they would fill the local broker's memory."""
    sender.outbox.store(make_faces(2))
    sender.dispatcher.on_link_up()
    sender.dispatcher.step()
    sender.take_sent()
    sender.dispatcher.on_cloud_down()
    sender.outbox.store(make_faces(5))
    sender.now += 1000
    assert sender.dispatcher.step() > 1, "no busy loop while an overdue face cannot be sent"
    assert sender.sent == []


def test_a_receipt_for_a_face_that_is_not_under_way_is_valid(sender: Sender):
    """The face may have been sent in an earlier run."""
    (face,) = make_faces(1)
    sender.outbox.store([face])
    sender.dispatcher.on_receipt(Receipt(face.id), "door")
    sender.dispatcher.step()
    assert sender.outbox.count == 0


SLOW_LINK = 4000.0
"""Bytes per second."""
FACE = b"\xff\xd8" + bytes(19_996) + b"\xff\xd9"
"""20 kB: 5 s on the slow link."""


def test_a_slow_link_is_not_filled_with_more_than_it_carries(sender: Sender):
    """The bytes under way are those of a few seconds, and no face is sent twice while receipts arrive."""
    wide = Sender(sender.outbox_path.with_name("wide.db"), window=64)
    wide.outbox.store(make_faces(60, jpeg=FACE))
    wide.dispatcher.on_link_up()
    wide.dispatcher.step()
    queue = deque(wide.take_sent())
    most = 0
    while queue:
        most = max(most, len(queue))
        wide.now += len(FACE) / SLOW_LINK
        wide.receipt(queue.popleft())
        queue.extend(wide.take_sent())
    assert wide.outbox.count == 0
    assert wide.dispatcher.resent == 0
    assert most <= 3


def test_a_fast_link_is_filled(sender: Sender):
    """The window grows while receipts arrive soon."""
    wide = Sender(sender.outbox_path.with_name("wide.db"), window=64)
    wide.outbox.store(make_faces(400, jpeg=FACE))
    wide.dispatcher.on_link_up()
    wide.dispatcher.step()
    for _ in range(8):
        wide.now += 0.1
        wide.receipt(*wide.take_sent())
    assert wide.dispatcher.underway == 64


def test_marked_receipts_halve_what_is_under_way(sender: Sender):
    """The cloud asks for less, although the receipts arrive as soon as before."""
    wide = Sender(sender.outbox_path.with_name("wide.db"), window=64)
    wide.outbox.store(make_faces(600, jpeg=FACE))
    wide.dispatcher.on_link_up()
    wide.dispatcher.step()
    for is_congested in (*[False] * 8, True):
        wide.now += 0.1
        for face_id in wide.take_sent():
            wide.dispatcher.on_receipt(Receipt(face_id, is_congested), "door")
        wide.dispatcher.step()
    assert 28 <= wide.dispatcher.underway <= 32


def test_a_resend_waits_for_what_the_link_needs(sender: Sender):
    """At the measured rate of 400 B/s, a face of 20 kB and the one before it take longer than RESEND_AFTER."""
    sender.outbox.store(make_faces(6, jpeg=FACE))
    sender.dispatcher.on_link_up()
    sender.dispatcher.step()
    queue = deque(sender.take_sent())
    while queue:
        for _ in range(45):
            sender.pass_time(1)
        sender.receipt(queue.popleft())
        queue.extend(sender.take_sent())
    assert sender.outbox.count == 0
    assert sender.dispatcher.resent == 0


def test_before_a_rate_is_measured_the_link_counts_as_slow(sender: Sender):
    """The first face of 20 kB may take 20 s."""
    sender.outbox.store(make_faces(1, jpeg=FACE))
    sender.dispatcher.on_link_up()
    assert sender.dispatcher.step() == pytest.approx(30 + 20)


def test_faces_without_a_receipt_do_not_hold_up_others(sender: Sender):
    """They do not count in the window after their first wait, and are sent again after growing waits."""
    faces = make_faces(1000)
    sender.outbox.store(faces)
    never = {face.id for face in faces[::100]}
    sender.dispatcher.on_link_up()
    attempts = 0
    for _ in range(600):
        sender.dispatcher.step()
        sent = sender.take_sent()
        attempts += sum(face_id in never for face_id in sent)
        sender.receipt(*(face_id for face_id in sent if face_id not in never))
        sender.now += 1
    assert set(_ids(sender)) == never
    assert 2 * len(never) <= attempts <= 5 * len(never)


def _ids(sender: Sender) -> list[str]:
    found = (sender.outbox.get(seq) for seq in sender.outbox.waiting(set(), 10_000, newest_first=False))
    return [face.id for face in found if face is not None]


def test_without_any_receipt_the_device_backs_off(sender: Sender):
    """At most two faces are under way, and the waits grow for all faces together."""
    sender.outbox.store(make_faces(500))
    sender.dispatcher.on_link_up()
    sender.dispatcher.step()
    for _ in range(3600):
        sender.pass_time(1)
    assert len(sender.sent) < WINDOW + 2 * (4 + 3600 / MAX_RECEIPT_TIMEOUT_SECONDS) + 2
    assert len(set(sender.sent)) == len(sender.sent), "no face is tried twice before each has been tried once"


@pytest.mark.parametrize("window", [1, 4, 64])
def test_faces_that_were_not_receipted_are_sent_when_receipts_arrive_again(tmp_path: Path, window: int):
    """Also those that were given up during the silence."""
    sender = Sender(tmp_path / "outbox.db", window)
    sender.outbox.store(make_faces(100))
    sender.dispatcher.on_link_up()
    for _ in range(600):
        sender.pass_time(1)
    sender.take_sent()
    for _ in range(600):
        sender.pass_time(1)
        sender.receipt(*sender.take_sent())
    assert sender.outbox.count == 0


def test_a_face_that_the_outbox_returns_again_is_not_sent_again_at_once(sender: Sender):
    """As with a damaged index, whose row cannot be deleted."""
    (face,) = make_faces(1)
    sender.outbox.store([face])
    sender.outbox.delete_receipted = lambda receipts: 0  # type: ignore[method-assign]
    sender.dispatcher.on_link_up()
    for _ in range(100):
        sender.dispatcher.step()
        sender.receipt(*sender.sent[-1:])
    assert len(sender.sent) == 1
    for _ in range(3600):
        sender.pass_time(1)
        sender.receipt(*sender.sent[-1:])
    assert len(sender.sent) < 3600 / 30


def test_a_face_that_cannot_be_read_does_not_hold_up_others(sender: Sender):
    """The outbox lists it, and returns nothing."""
    sender.outbox.store(make_faces(WINDOW + 2))
    get = sender.outbox.get
    calls: list[int] = []

    def get_some(seq: int) -> OutboxFace | None:
        calls.append(seq)
        return get(seq) if seq in (2, 4) else None

    sender.outbox.get = get_some  # type: ignore[method-assign]
    sender.dispatcher.on_link_up()
    for _ in range(100):
        assert sender.dispatcher.step() > 0
    assert len(sender.sent) == 2
    assert len(calls) == WINDOW + 2


def test_the_outbox_is_maintained_while_nothing_else_is_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """In small steps."""
    left = iter([True, True, False])
    monkeypatch.setattr(Outbox, "maintain", lambda outbox: next(left))
    sender = Sender(tmp_path / "outbox.db")
    assert [sender.dispatcher.step() < 1 for _ in range(3)] == [True, True, False]


class DeliveryModel(RuleBasedStateMachine):
    """Everything between the outbox and S3 may lose, duplicate and delay messages."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.new_faces = (make_face(captured_at=CAPTURED_AT + timedelta(milliseconds=i)) for i in itertools.count())
        self.committed: set[str] = set()
        self.stored: set[str] = set()
        self.receipted: set[str] = set()
        self.published: list[str] = []
        self.receipts: list[str] = []
        self.is_link_up = False
        self.sender = Sender(Path(self.folder.name) / "outbox.db")

    def teardown(self) -> None:
        self.sender.outbox.close()
        self.folder.cleanup()

    @rule(count=st.integers(1, 4))
    def faces_are_stored(self, count: int) -> None:
        faces = [next(self.new_faces) for _ in range(count)]
        self.sender.outbox.store(faces)
        self.committed |= {face.id for face in faces}

    @rule()
    def step(self) -> None:
        self.sender.dispatcher.step()
        sent = self.sender.take_sent()
        assert self.is_link_up or not sent
        assert set(sent) <= self.committed
        self.published += sent

    @rule(seconds=st.sampled_from([1, 40, 400]))
    def time_passes(self, seconds: int) -> None:
        self.sender.now += seconds

    @rule()
    def the_link_is_lost_with_all_messages(self) -> None:
        self.sender.dispatcher.on_link_down()
        self.is_link_up = False
        self.published.clear()

    @rule()
    def the_link_returns(self) -> None:
        self.sender.dispatcher.on_link_up()
        self.is_link_up = True

    @rule(up=st.booleans())
    def the_cloud_connects_or_disconnects(self, up: bool) -> None:
        (self.sender.dispatcher.on_cloud_up if up else self.sender.dispatcher.on_cloud_down)()

    @precondition(lambda self: self.published)
    @rule(data=st.data())
    def the_sink_stores_a_face(self, data: st.DataObject) -> None:
        face_id = data.draw(st.sampled_from(self.published))
        self.stored.add(face_id)
        self.receipts.append(face_id)

    @precondition(lambda self: self.published)
    @rule(data=st.data())
    def a_message_is_lost(self, data: st.DataObject) -> None:
        self.published.remove(data.draw(st.sampled_from(self.published)))

    @precondition(lambda self: self.receipts)
    @rule(data=st.data(), duplicate=st.booleans())
    def a_receipt_arrives(self, data: st.DataObject, duplicate: bool) -> None:
        face_id = data.draw(st.sampled_from(self.receipts))
        if not duplicate:
            self.receipts.remove(face_id)
        self.sender.dispatcher.on_receipt(Receipt(face_id), "door")
        self.receipted.add(face_id)

    @rule()
    def the_detector_is_killed(self) -> None:
        self.sender.outbox.close()
        self.sender = Sender(Path(self.folder.name) / "outbox.db")
        self.is_link_up = False

    @invariant()
    def no_face_is_lost_or_deleted_without_its_receipt(self) -> None:
        waiting = {
            face.id
            for seq in self.sender.outbox.waiting(set(), 1000, newest_first=False)
            if (face := self.sender.outbox.get(seq))
        }
        assert self.committed - self.receipted <= waiting
        assert self.committed <= waiting | self.stored
        assert self.sender.dispatcher.underway <= WINDOW

    @rule()
    def everything_recovers(self) -> None:
        """Without further faults, every face arrives by resending alone."""
        self.sender.dispatcher.on_link_up()
        self.sender.dispatcher.on_cloud_up()
        self.is_link_up = True
        for _ in range(2 * len(self.committed) + 2):
            self.sender.now += MAX_RECEIPT_TIMEOUT_SECONDS
            self.sender.dispatcher.step()
            for face_id in self.sender.take_sent():
                self.stored.add(face_id)
                self.receipted.add(face_id)
                self.sender.dispatcher.on_receipt(Receipt(face_id), "door")
        self.sender.dispatcher.step()
        assert self.sender.outbox.count == 0
        assert self.committed <= self.stored


DeliveryModel.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestDeliveryModel = DeliveryModel.TestCase


def test_receipts_of_another_camera_count_only_for_faces_that_were_sent(tmp_path: Path):
    """A detector gets the receipts of all cameras, as its outbox may have faces of one that it had before."""
    sender = Sender(tmp_path / "outbox.db", camera="gate")
    earlier = make_face()
    sender.outbox.store([earlier])
    sender.dispatcher.on_receipt(Receipt(earlier.id), "door")
    sender.dispatcher.step()
    assert sender.outbox.count == 1, "it has not been sent by this dispatcher"
    sender.dispatcher.on_link_up()
    sender.dispatcher.step()
    assert sender.take_sent() == [earlier.id]
    sender.receipt(earlier.id)
    assert sender.outbox.count == 0


def test_faces_that_cannot_be_read_do_not_hold_up_a_step(sender: Sender, monkeypatch: pytest.MonkeyPatch):
    """Receipts and other faces are processed between two small batches."""
    asked: list[int] = []
    sender.outbox.store(make_faces(200))
    monkeypatch.setattr(sender.outbox, "get", asked.append)
    sender.dispatcher.on_link_up()
    assert sender.dispatcher.step() < 1, "the next step goes on soon"
    assert 0 < len(asked) <= 20
    for _ in range(20):
        sender.dispatcher.step()
    assert len(set(asked)) == 200
