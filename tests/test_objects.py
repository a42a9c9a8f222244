"""What becomes of a message that has changed on the way."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from cloud.s3sink.objects import Kind, S3Object, make_object
from tests.builders import CAPTURED_AT, make_face, make_jpeg
from wire import face
from wire.mqtt.connection import Message
from wire.mqtt.properties import Properties, unpack

JPEG = make_jpeg()
SENT = face.encode(make_face(jpeg=JPEG, sha256=face.digest_of(JPEG)))


def stored(properties: Properties, payload: bytes = JPEG) -> S3Object:
    message = Message("devices/jetson-1/faces/door", payload, 1, False, properties, None, 1)  # type: ignore[arg-type]
    return make_object(message, "faces", CAPTURED_AT)


def changed(name: str, change: Callable[[str], str]) -> Properties:
    """The properties of a face whose attribute ``name`` has another value."""
    values = ((each, change(value) if each == name else value) for each, value in SENT.user_properties)
    return replace(SENT, user_properties=tuple(values))


def renamed(name: str) -> Properties:
    """The properties of a face with a changed bit in the name of an attribute."""
    swapped = name[0].upper() + name[1:]
    return replace(
        SENT, user_properties=tuple((swapped if each == name else each, value) for each, value in SENT.user_properties)
    )


@pytest.mark.parametrize(
    "properties",
    [
        changed("confidence", lambda value: value[:3] + "s" + value[4:]),
        changed("id", lambda value: value[:-1] + chr(ord(value[-1]) ^ 0x40)),
        changed("time", lambda value: value[:-2] + chr(ord(value[-2]) ^ 1) + value[-1]),
        changed("sha256", lambda value: value[:-1] + chr(ord(value[-1]) ^ 1)),
        changed("sha256", lambda value: "g" + value[1:]),
        replace(SENT, correlation_data=b"another"),
        *(renamed(name) for name in face.REQUIRED),
    ],
)
def test_a_face_whose_attributes_have_changed_gets_no_receipt(properties: Properties):
    """Its detector sends the intact face again. Otherwise the receipt would delete it from the outbox."""
    made = stored(properties)
    assert (made.kind, made.receipt_id) == (Kind.DAMAGED, None)
    assert "/quarantine/" in made.key


def test_an_invalid_message_without_a_digest_gets_a_receipt():
    """Version 0.1 and other publishers would otherwise send it for ever."""
    made = stored(face.encode(make_face(jpeg=JPEG, confidence=2.0)))
    assert made.kind is Kind.INVALID
    assert made.receipt_id is not None


def test_a_face_that_was_made_without_a_valid_jpeg_gets_a_receipt():
    """Its digest shows that it has not changed on the way, so it would be the same when sent again."""
    made = stored(face.encode(make_face(jpeg=JPEG[:100], sha256=face.digest_of(JPEG[:100]))), JPEG[:100])
    assert made.kind is Kind.INVALID
    assert made.receipt_id is not None


def test_a_message_with_too_many_properties_has_one_object_however_often_it_is_delivered():
    """The broker counts its expiry down."""
    many = Properties(correlation_data=b"id", user_properties=(("a", "b"),) * 500)
    made = [
        stored(unpack(replace(many, message_expiry_seconds=seconds).pack(), 0)[0]) for seconds in (None, 100, 2**32 - 1)
    ]
    assert len({(one.key, one.body) for one in made}) == 1
    assert (made[0].kind, made[0].receipt_id) == (Kind.INVALID, b"id")
    assert made[0].body == unpack(many.pack(), 0)[0].pack() + JPEG


@pytest.mark.parametrize("name", ["id", "type", "sha256", "specversion"])
def test_a_message_with_any_sign_of_metadata_is_not_a_plain_picture(name: str):
    """It would be stored under another key and id."""
    made = stored(Properties(user_properties=((name, "x"),)))
    assert made.kind in (Kind.INVALID, Kind.DAMAGED)
    assert stored(Properties(user_properties=(("traceparent", "x"),))).kind is Kind.PICTURE
