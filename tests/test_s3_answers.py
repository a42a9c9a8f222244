"""What the sink does when S3 answers wrongly."""

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from cloud.s3sink.fair_queue import MAX_TOTAL_BYTES
from demo.ports import HOST, free_port
from demo.program import await_true
from demo.stack import BUCKET, Stack
from tests.builders import CAPTURED_AT, Peer, make_face, make_faces, make_jpeg
from tests.chaos.s3proxy import Answer, S3Fault, S3Proxy
from tests.s3_answers.__main__ import main
from tests.s3_answers.trial import peak_mib
from tests.scrape import scrape
from wire import face, keys, receipt
from wire.face import Face
from wire.topics import Origin

JPEG = make_jpeg()
GOOD = Origin("good", "door")
BAD = Origin("bad", "door")
BAD_PREFIX = f"/{BUCKET}/faces/device=bad/"


@pytest.fixture
def writer() -> str:
    """How the sink writes. With a proxy, it uses boto3."""
    return "own"


BOTH_WRITERS = pytest.mark.parametrize("writer", ["own", "boto3"])


@pytest.fixture
def s3(stack: Stack, writer: str) -> Iterator[S3Proxy]:
    """A sink behind a proxy."""
    stack.start_servers()
    with S3Proxy(stack.s3_port, seed=1) as proxy:
        address = f"http://{HOST}:{proxy.port}"
        own = {"AWS_ENDPOINT_URL_S3": address}
        stack.settings = own if writer == "own" else {"http_proxy": address, "no_proxy": "none"}
        stack.settings["METRICS_PORT"] = str(free_port())
        sink = stack.start_connected("s3sink")
        await_true(lambda: "store checked" in sink.output(), 20, "the store is checked, so faults affect the writes")
        assert ("writing with boto3" in sink.output()) == (writer == "boto3")
        yield proxy
        stack.programs["s3sink"].stop()


def failures(stack: Stack) -> float:
    """Number of writes that have failed."""
    return scrape(int(stack.settings["METRICS_PORT"]))["facewire_s3_write_seconds_count{answer=failed}"]


def send(peer: Peer, seen: Face) -> None:
    topic = f"devices/{seen.origin.device}/faces/{seen.origin.camera}"
    peer.session.publish(topic, seen.jpeg, qos=1, properties=face.encode(seen))


def path_of(seen: Face) -> str:
    return f"/{BUCKET}/" + keys.of_face("faces", seen.origin, seen.captured_at, seen.id)


def receipted(peer: Peer) -> set[str]:
    return {(message.properties.correlation_data or b"").decode() for message in peer.messages}


def while_others_are_stored(peer: Peer, condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait for ``condition`` while another device sends faces."""
    captured_at = CAPTURED_AT + timedelta(hours=1)

    def step() -> bool:
        nonlocal captured_at
        if condition():
            return True
        captured_at += timedelta(milliseconds=1)
        send(peer, other := make_face(jpeg=JPEG, origin=GOOD, captured_at=captured_at))
        await_true(lambda: other.id in receipted(peer), 20, "a face of another device is stored")
        return False

    await_true(step, seconds, what)


@BOTH_WRITERS
def test_after_any_answer_the_face_is_stored_under_its_key(stack: Stack, s3: S3Proxy):
    """No receipt is sent before it is there. It never goes to quarantine."""
    sent: set[str] = set()
    with Peer(stack.watch_port, "devices/+/receipts/+") as peer:
        for number, answer in enumerate(each for each in Answer if each not in (Answer.NONE, Answer.SLOW)):
            seen = make_face(jpeg=JPEG, origin=Origin(f"device-{number}", "door"))
            failed = failures(stack)
            s3.fault = S3Fault(answer, after=False, share=1.0)
            send(peer, seen)
            await_true(lambda: failures(stack) > failed, 20, f"{answer}: a write has failed")  # noqa: B023
            assert receipted(peer) == sent, answer
            s3.fault = None
            peer.await_messages(number + 1, 20)
            sent.add(seen.id)
            assert path_of(seen) in {f"/{BUCKET}/{key}" for key in stack.keys()}, answer
    assert len(stack.keys()) == len(sent) > 10


@BOTH_WRITERS
def test_a_false_412_or_304_is_not_believed(stack: Stack, s3: S3Proxy):
    """Only a listing shows that an object is there."""
    first, second = make_faces(2, jpeg=JPEG)
    s3.faults = (
        S3Fault(Answer.PRECONDITION_FAILED, after=False, share=1.0, under=path_of(first)),
        S3Fault(Answer.NOT_MODIFIED, after=False, share=1.0, under=path_of(second)),
    )
    with Peer(stack.watch_port, "devices/+/receipts/+") as peer:
        send(peer, first)
        send(peer, second)
        log = stack.programs["s3sink"].output
        await_true(lambda: "retrying" in log(), 20, "the failure is logged")
        while_others_are_stored(peer, lambda: len(peer.messages) > 20, 30, "other faces are stored")
        assert not receipted(peer) & {first.id, second.id}
        s3.faults = ()
        await_true(lambda: receipted(peer) >= {first.id, second.id}, 20, "both are stored")


@BOTH_WRITERS
def test_an_object_of_another_size_gets_no_receipt(stack: Stack, s3: S3Proxy):
    """It is not overwritten. The operator reads about it in the log."""
    seen = make_face(jpeg=JPEG)
    stack.s3().put_object(Bucket=BUCKET, Key=path_of(seen).removeprefix(f"/{BUCKET}/"), Body=b"something else")
    with Peer(stack.watch_port, "devices/+/receipts/+") as peer:
        send(peer, seen)
        log = stack.programs["s3sink"].output
        await_true(lambda: "the key exists with another object" in log(), 20, "it is logged")
        while_others_are_stored(peer, lambda: len(peer.messages) > 3, 20, "others are stored")
        assert seen.id not in receipted(peer)


def test_a_damaged_face_gets_no_receipt_and_the_intact_one_is_stored(stack: Stack, s3: S3Proxy):
    """The damaged one is kept in quarantine. Also if its JPEG cannot be read any more."""
    seen = make_face(jpeg=JPEG, sha256=face.digest_of(JPEG))
    topic = "devices/jetson-1/faces/door"
    with Peer(stack.watch_port, "devices/+/receipts/+") as peer:
        for payload in (JPEG[:-40] + bytes(38) + JPEG[-2:], JPEG[:-38] + bytes(38), JPEG[:100]):
            peer.session.publish(topic, payload, qos=1, properties=face.encode(seen))
        await_true(lambda: len(stack.keys("faces/quarantine/")) == 3, 20, "the damaged ones are in quarantine")
        assert not peer.messages
        send(peer, seen)
        peer.await_messages(1)
    assert path_of(seen).removeprefix(f"/{BUCKET}/") in stack.keys()
    assert stack.programs["s3sink"].output().count("damaged face quarantined without a receipt") == 3


def await_acknowledgements(stack: Stack, peer: Peer, seen: Face) -> None:
    """Wait until the sink has handed back a face. Then it gets no receipt, and is stored when it is sent again."""
    log = stack.programs["s3sink"].output
    while_others_are_stored(peer, lambda: "handed back to its outbox" in log(), 60, "the face is handed back")
    assert seen.id not in receipted(peer)


@pytest.mark.slow
@pytest.mark.parametrize("answer", [Answer.ACCESS_DENIED, Answer.NONE])
def test_a_face_that_s3_does_not_accept_is_handed_back(stack: Stack, s3: S3Proxy, answer: Answer):
    """For one prefix and for one key. Meanwhile the faces of other devices are stored."""
    seen, key = make_face(jpeg=JPEG, origin=BAD), make_face(jpeg=JPEG)
    s3.faults = (S3Fault(answer, False, 1.0, BAD_PREFIX), S3Fault(answer, False, 1.0, path_of(key)))
    with Peer(stack.watch_port, "devices/+/receipts/+") as peer:
        send(peer, seen)
        send(peer, key)
        await_acknowledgements(stack, peer, seen)
        assert key.id not in receipted(peer)
        s3.faults = ()
        send(peer, seen)
        send(peer, key)
        await_true(lambda: receipted(peer) >= {seen.id, key.id}, 30, "both are stored")
    assert not stack.keys("faces/quarantine/")


@pytest.mark.slow
def test_a_picture_that_s3_does_not_accept_is_rescued_into_quarantine(stack: Stack, s3: S3Proxy):
    """Its publisher has no outbox."""
    s3.fault = S3Fault(Answer.ACCESS_DENIED, after=False, share=1.0, under=BAD_PREFIX)
    with Peer(stack.watch_port, "devices/+/receipts/+") as peer:
        peer.session.publish("devices/bad/faces/door", JPEG, qos=1)
        while_others_are_stored(
            peer, lambda: bool(stack.keys("faces/quarantine/device=bad/")), 60, "the picture is in quarantine"
        )
        (key,) = stack.keys("faces/quarantine/device=bad/")
    assert "AccessDenied" in stack.s3().head_object(Bucket=BUCKET, Key=key)["Metadata"]["reason"]


@pytest.mark.slow
def test_while_s3_accepts_nothing_faces_are_held(stack: Stack, s3: S3Proxy):
    """Longer than the limit. They are stored afterwards, without being sent again."""
    made = make_faces(50, jpeg=JPEG)
    s3.fault = S3Fault(Answer.SLOW_DOWN, after=False, share=1.0)
    with Peer(stack.watch_port, "devices/+/receipts/+") as peer:
        for seen in made:
            send(peer, seen)
        peer.stop.wait(25)  # longer than the sink holds a message that S3 alone refuses
        assert not peer.messages
        s3.fault = None
        peer.await_messages(50, 30)
    assert "handed back" not in stack.programs["s3sink"].output().replace("handed_back", "")


@pytest.mark.slow
def test_the_answers_of_s3_in_short():
    """The complete trial takes an hour."""
    assert main(["--quick"]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("under", ["", BAD_PREFIX])
def test_the_memory_of_the_sink_is_bounded(stack: Stack, s3: S3Proxy, under: str):
    """While S3 hangs and eight devices flood the sink; and while one key holds up all acknowledgements."""
    sink = stack.programs["s3sink"]
    s3.fault = S3Fault(Answer.NONE if not under else Answer.INTERNAL_ERROR, after=False, share=1.0, under=under)
    pictures = [make_jpeg(270, 270, seed) for seed in range(8)]
    with Peer(stack.watch_port) as peer:
        send(peer, make_face(jpeg=JPEG, origin=BAD))
        for number in range(3200):
            seen = make_face(
                jpeg=pictures[number % 8],
                origin=Origin(f"device-{number % 8}", "door"),
                captured_at=CAPTURED_AT + timedelta(milliseconds=number),
            )
            topic = f"devices/{seen.origin.device}/faces/door"
            sent = peer.session.publish(topic, seen.jpeg, qos=1, properties=face.encode(seen))
            if number % 64 == 0:
                sent.result(60)
        sent.result(60)
    assert peak_mib(sink.pid) * 2**20 < 120e6


@pytest.mark.slow
def test_many_devices_with_one_picture_each_fill_the_sink_and_none_is_turned_away(stack: Stack, s3: S3Proxy):
    """What the sink does not receive waits in the broker. The devices are told to send less until there is room."""
    stack.programs["s3sink"].stop()
    stack.start_connected("s3sink", METRICS_PORT=str(port := free_port()))
    s3.fault = S3Fault(Answer.NONE, after=False, share=1.0)
    picture, count = make_jpeg(270, 270), 500
    made = [make_face(jpeg=picture, origin=Origin(f"device-{number}", "door")) for number in range(count)]
    with Peer(stack.watch_port, "devices/+/receipts/+") as peer:
        for seen in made:
            topic = f"devices/{seen.origin.device}/faces/door"
            sent = peer.session.publish(topic, seen.jpeg, qos=1, properties=face.encode(seen))
        sent.result(60)
        await_true(lambda: scrape(port)["facewire_writes_underway_bytes"] >= MAX_TOTAL_BYTES, 20, "the sink is full")
        held = max(scrape(port)["facewire_writes_underway_bytes"] for _ in range(20))
        assert len(picture) * count > 1.5 * MAX_TOTAL_BYTES
        assert held < 1.1 * MAX_TOTAL_BYTES
        s3.fault = None
        marks = [receipt.decode(message.properties).is_congested for message in peer.await_messages(count, 60)]
        assert any(marks)
        assert not marks[-1]
    assert len(stack.keys()) == count
    assert scrape(port)["facewire_messages_turned_away_total"] == 0
