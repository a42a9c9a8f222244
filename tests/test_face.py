"""The contract: a face on the wire."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import CAPTURED_AT, make_face
from wire import face
from wire.errors import BadMessage, DamagedMessage
from wire.ids import id_from_hash, new_id, time_of_id
from wire.mqtt.properties import Properties, unpack
from wire.topics import Origin

GOLDEN = Path(__file__).with_name("golden") / "face-v1.properties.hex"
ORIGIN = Origin("jetson-1", "door")


def test_golden_file_pins_every_byte_on_the_wire():
    """A change of these bytes breaks the contract for every face that is already in an outbox."""
    golden = make_face(id="01938c3e-0000-7abc-8def-0123456789ab", captured_at=_time_of("01938c3e-0000"))
    golden = replace(golden, latitude=41.8781, longitude=-87.6298)
    packed = face.encode(golden).pack()
    assert packed.hex(" ", 16) == GOLDEN.read_text().strip().replace("\n", " ")
    assert face.decode(unpack(packed, 0)[0], golden.jpeg, ORIGIN) == replace(
        golden, landmarks=((440.5, 150.2), (500.0, 150.0), (470.0, 180.0), (445.0, 210.0), (495.0, 210.0))
    )


def _time_of(prefix: str) -> datetime:
    milliseconds = int(prefix.replace("-", ""), 16)
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)


def test_attributes_are_encoded_as_in_the_contract():
    """Name, order and format of every attribute."""
    seen = make_face()
    assert dict(face.encode(seen).user_properties) == {
        "specversion": "1.0",
        "id": seen.id,
        "type": "facewire.face.v1",
        "source": "/devices/jetson-1/cameras/door",
        "time": "2026-11-22T15:04:05.123Z",
        "confidence": "0.934",
        "box": "412,96,118,141",
        "landmarks": "440.5,150.2,500.0,150.0,470.0,180.0,445.0,210.0,495.0,210.0",
        "framesize": "1280x720",
        "track": "17",
        "model": "yunet-2023mar",
    }
    assert face.encode(seen).content_type == "image/jpeg"
    assert face.encode(seen).correlation_data == seen.id.encode()


def test_the_digest_and_the_clock_are_encoded_if_they_are_known():
    """Faces of version 0.1 have neither."""
    sent = make_face(sha256=face.digest_of(b"\xff\xd8\xff\xd9"), clock=face.CORRECTED)
    attributes = dict(face.encode(sent).user_properties)
    assert attributes["sha256"] == "32461d5bd1773012acef0ba15636752949bd7c2ce50f9172159d9f56cf0dd9af"
    assert attributes["clock"] == "corrected"
    decoded = face.decode(face.encode(sent), sent.jpeg, sent.origin)
    assert (decoded.sha256, decoded.clock) == (sent.sha256, sent.clock)


@pytest.mark.parametrize(("quality", "text"), [(0.0, "0.000"), (0.41549, "0.415"), (1.0, "1.000")])
def test_quality_is_encoded_if_it_is_known(quality: float, text: str):
    """With three digits."""
    sent = make_face(quality=quality)
    assert dict(face.encode(sent).user_properties)["quality"] == text
    assert face.decode(face.encode(sent), b"", sent.origin).quality == float(text)


def test_a_face_of_an_older_version_has_no_quality():
    """It is valid without."""
    sent = make_face()
    assert "quality" not in dict(face.encode(sent).user_properties)
    assert face.decode(face.encode(sent), b"", sent.origin).quality is None


def test_a_payload_without_the_digest_of_its_face_is_damaged():
    """A single changed bit is detected."""
    sent = make_face(sha256=face.digest_of(b"\xff\xd8\xff\xd9"))
    with pytest.raises(DamagedMessage, match="sha256"):
        face.decode(face.encode(sent), b"\xff\xd8\xff\xd8", sent.origin)


def test_an_id_is_a_uuid7_with_the_capture_time():
    """The S3 key is derived from device, camera and id, so the id must contain the time."""
    minted = new_id(CAPTURED_AT)
    assert minted[14] == "7"
    assert minted[19] in "89ab"
    assert time_of_id(minted) == CAPTURED_AT
    assert len({new_id(CAPTURED_AT) for _ in range(1000)}) == 1000


def test_an_id_from_a_hash_depends_only_on_hash_and_time():
    """A plain JPEG that is delivered twice in the same millisecond is one object."""
    first = id_from_hash(CAPTURED_AT, b"0123456789")
    assert first == id_from_hash(CAPTURED_AT, b"0123456789xyz")
    assert first != id_from_hash(CAPTURED_AT, b"1123456789")
    assert first[14] == "8"


def changed(**changes: str | None) -> Properties:
    """Properties of a face with changed attributes. An attribute that is None is omitted."""
    attributes = dict(face.encode(make_face()).user_properties) | changes
    return Properties(user_properties=tuple((name, value) for name, value in attributes.items() if value is not None))


@pytest.mark.parametrize("name", face.REQUIRED)
def test_a_missing_attribute_is_named(name: str):
    """In the error message."""
    with pytest.raises(BadMessage, match=f"{name} is missing"):
        face.decode(changed(**{name: None}), b"", ORIGIN)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("specversion", "2.0"),
        ("id", "../../etc/passwd"),
        ("id", "01938C3E-0000-7ABC-8DEF-0123456789AB"),
        ("id", "{01938c3e-0000-7abc-8def-0123456789ab}"),
        ("id", "00000000-0000-4000-8000-000000000000"),
        ("type", "something.else"),
        ("time", "yesterday"),
        ("time", "2026-11-22T15:04:05.123"),
        ("time", "2026-11-22T15:04:05.124Z"),
        ("confidence", "1.5"),
        ("confidence", "nan"),
        ("confidence", "1e-3"),
        ("confidence", "٠.٥"),
        ("quality", "1.001"),
        ("quality", "-0.1"),
        ("quality", "nan"),
        ("quality", "good"),
        ("box", "1,2,3"),
        ("box", "1,2,0,4"),
        ("box", "a,b,c,d"),
        ("landmarks", "1,2,3,4"),
        ("framesize", "0x0"),
        ("framesize", "1280*720"),
        ("track", "-1"),
        ("track", "1.5"),
        ("model", "yu/net"),
        ("model", "x" * 300),
        ("source", ""),
        ("source", "\x00"),
        ("latitude", "41"),
        ("clock", "wrong"),
        ("sha256", "00ff"),
        ("sha256", "F" * 64),
    ],
)
def test_a_wrong_attribute_is_named(name: str, value: str):
    """So that the reason in quarantine says what is wrong."""
    with pytest.raises(BadMessage, match=name):
        face.decode(changed(**{name: value}), b"", ORIGIN)


def test_a_repeated_attribute_is_rejected():
    """A message with two ids has no valid id."""
    twice = changed().user_properties
    with pytest.raises(BadMessage, match="id is repeated"):
        face.decode(Properties(user_properties=(*twice, ("id", "x"))), b"", ORIGIN)


def test_correlation_data_must_be_the_id():
    """Otherwise a message could request a receipt for another face."""
    with pytest.raises(BadMessage, match="correlation"):
        face.decode(replace(changed(), correlation_data=b"another"), b"", ORIGIN)


def test_unknown_user_properties_are_ignored():
    """CloudEvents may have extensions."""
    extended = Properties(user_properties=(("traceparent", "00-ab"), *changed().user_properties))
    assert face.decode(extended, b"", ORIGIN).track == 17


@given(
    milliseconds=st.integers(0, 2**47),
    confidence=st.floats(0, 1),
    box=st.tuples(*[st.integers(0, 99999)] * 2, *[st.integers(1, 99999)] * 2),
    track=st.integers(0, 999_999_999),
    place=st.none() | st.tuples(st.floats(-90, 90), st.floats(-180, 180)),
)
def test_decoding_restores_the_encoded_face(milliseconds, confidence, box, track, place):
    """For any face, to the precision of the encoding."""
    captured_at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)
    latitude, longitude = place or (None, None)
    sent = make_face(
        captured_at=captured_at, confidence=confidence, box=box, track=track, latitude=latitude, longitude=longitude
    )
    got = face.decode(unpack(face.encode(sent).pack(), 0)[0], sent.jpeg, sent.origin)
    assert (got.id, got.captured_at, got.box, got.track) == (sent.id, captured_at, box, track)
    assert got.confidence == pytest.approx(confidence, abs=0.0005)
    if latitude is not None:
        assert got.latitude == pytest.approx(latitude, abs=1e-6)
        assert got.longitude == pytest.approx(longitude, abs=1e-6)


@given(st.lists(st.tuples(st.text(max_size=20), st.text(max_size=40)), max_size=12))
def test_decoding_other_properties_raises_bad_message(user_properties):
    """No other exception is raised."""
    with pytest.raises(BadMessage):
        face.decode(Properties(user_properties=tuple(user_properties)), b"", ORIGIN)


@pytest.mark.parametrize("name", ["specversion", "id", "type", "sha256"])
def test_any_sign_of_metadata_tells_a_face_from_a_plain_image(name: str):
    """The name of one attribute may have been damaged on the way."""
    assert face.is_cloudevent(Properties(user_properties=((name, "x"),)))
    assert face.is_cloudevent(changed(**{name: None}))
    assert not face.is_cloudevent(Properties(user_properties=(("traceparent", "00-ab"),)))


NOW = datetime(2026, 11, 22, 15, 0, 0, tzinfo=UTC)
FACTORY = datetime(1970, 1, 1, 0, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "changes",
    [
        {"captured_at": FACTORY, "clock": face.UNKNOWN, "sha256": "0" * 64},
        {"captured_at": FACTORY},
        {"captured_at": face.EARLIEST, "sha256": "0" * 64},
        {"captured_at": NOW + face.MAX_AHEAD, "sha256": "0" * 64},
    ],
)
def test_a_plausible_capture_time_is_accepted(changes: dict[str, Any]):
    """That of an unset clock, too, if the face says so. Version 0.1 could not say so, and made no digest."""
    face.check_time(make_face(**changes), NOW)


@pytest.mark.parametrize(
    ("captured_at", "clock", "message"),
    [
        (FACTORY, None, "2020-01-01T00:00:00.000Z or later, or the attribute clock=unknown"),
        (FACTORY, face.CORRECTED, "2020-01-01T00:00:00.000Z or later"),
        (NOW + face.MAX_AHEAD + timedelta(milliseconds=1), None, "at most a day later than now, 2026-11-22T15:00:00"),
        (NOW + 2 * face.MAX_AHEAD, face.UNKNOWN, "at most a day later"),
    ],
)
def test_an_implausible_capture_time_is_named(captured_at: datetime, clock: str | None, message: str):
    """With what was expected."""
    made = make_face(captured_at=captured_at, clock=clock, sha256="0" * 64)
    with pytest.raises(BadMessage, match=re.escape(message)):
        face.check_time(made, NOW)


def test_no_time_is_in_the_future_if_the_time_is_not_known():
    """Otherwise a sink with a wrong clock would put every face into quarantine."""
    face.check_time(make_face(captured_at=datetime(9999, 1, 1, tzinfo=UTC)), None)
