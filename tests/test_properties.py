"""Packing and unpacking MQTT 5 properties, compared with paho's implementation."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties as PahoProperties

from tests.packets import number, user_properties
from wire.errors import BadMessage
from wire.mqtt.properties import MAX_BYTES, MAX_USER_PROPERTIES, Properties, unpack

text = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00\ufeff"), max_size=30)  # type: ignore[arg-type]
optional_text = st.none() | text
properties = st.builds(
    Properties,
    content_type=optional_text,
    correlation_data=st.none() | st.binary(max_size=50),
    user_properties=st.lists(st.tuples(text, text), max_size=15).map(tuple),
    response_topic=optional_text,
    payload_format=st.none() | st.sampled_from([0, 1]),
    message_expiry_seconds=st.none() | st.integers(0, 2**32 - 1),
)


@given(properties, st.binary(max_size=100))
def test_packing_and_unpacking_agree_with_paho(ours: Properties, payload: bytes):
    """For any properties, in both directions, without consuming the payload."""
    packed = ours.pack()
    theirs = PahoProperties(PacketTypes.PUBLISH)
    _, length = theirs.unpack(packed + payload)
    assert length == len(packed)
    assert getattr(theirs, "ContentType", None) == ours.content_type
    assert getattr(theirs, "CorrelationData", None) == ours.correlation_data
    assert tuple(getattr(theirs, "UserProperty", ())) == ours.user_properties
    assert getattr(theirs, "ResponseTopic", None) == ours.response_topic
    assert getattr(theirs, "PayloadFormatIndicator", None) == ours.payload_format
    assert getattr(theirs, "MessageExpiryInterval", None) == ours.message_expiry_seconds
    theirs.TopicAlias = 7
    theirs.SubscriptionIdentifier = 300
    back, start = unpack(theirs.pack() + payload, 0)
    assert back == ours
    assert (theirs.pack() + payload)[start:] == payload


def test_text_that_is_not_utf8_is_preserved():
    """Whoever uses a property validates its value, not the transport."""
    raw = b"\x00\x02\xff\xfe\x00\x01x"
    packed = bytes((len(raw) + 1, 0x26)) + raw
    found, _ = unpack(packed, 0)
    assert found.pack() == packed


@given(st.binary(max_size=60))
def test_any_bytes_are_unpacked_or_rejected(raw: bytes):
    """No other exception is raised."""
    try:
        found, start = unpack(raw, 0)
    except BadMessage:
        return
    assert start <= len(raw)
    assert unpack(found.pack(), 0)[0] == found


@pytest.mark.parametrize("raw", ["", "05", "0226", "0411ffffffff", "ffffffffff01", "0526000561"])
def test_malformed_properties_are_rejected(raw: str):
    """Truncated, of another packet type, or longer than their length."""
    with pytest.raises(BadMessage):
        unpack(bytes.fromhex(raw), 0)


def packed(body: bytes) -> bytes:
    """Return properties with their length."""
    return number(len(body)) + body


BEYOND = (
    user_properties(MAX_USER_PROPERTIES + 1),
    user_properties(20_000, b"ab", b"cd"),
    user_properties(1, value=b"x" * MAX_BYTES),
    b"\x03" + (MAX_BYTES).to_bytes(2) + b"x" * MAX_BYTES,
)


@pytest.mark.parametrize("body", BEYOND, ids=["one too many", "very many", "long", "long content type"])
def test_properties_beyond_the_limits_are_kept_as_bytes(body: bytes):
    """They are packed as they arrived, without what belongs to one connection or changes on the way."""
    hop_by_hop = b"\x23\x00\x07" + b"\x0b\xac\x02"
    raw = packed(b"\x02\x00\x00\x00\x09" + body + hop_by_hop + b"\x09\x00\x02id")
    found, at = unpack(raw + b"payload", 0)
    assert at == len(raw)
    assert found == Properties(correlation_data=b"id", message_expiry_seconds=9, excess=body)
    assert unpack(found.pack(), 0)[0] == found
    theirs = PahoProperties(PacketTypes.PUBLISH)
    assert theirs.unpack(found.pack())[1] == len(found.pack())


def test_properties_within_the_limits_are_unpacked():
    """As many as are allowed."""
    found, _ = unpack(packed(user_properties(MAX_USER_PROPERTIES)), 0)
    assert (len(found.user_properties), found.excess) == (MAX_USER_PROPERTIES, None)
    long = user_properties(1, value=bytes(MAX_BYTES - 6))
    assert unpack(packed(long), 0)[0].excess is None


@pytest.mark.parametrize(
    "damage", [b"\x26\x00\x01a\x00\x02b", b"\x26\x00", b"\x05", b"\x02\x00", b"\x0b\xff\xff\xff\xff\x01"]
)
def test_malformed_properties_beyond_the_limits_are_rejected(damage: bytes):
    """Otherwise a broker would end the connection on which they are forwarded."""
    raw = packed(user_properties(MAX_USER_PROPERTIES + 1) + damage)
    for payload in (b"", b"payload"):
        with pytest.raises(BadMessage):
            unpack(raw + payload, 0)


def test_properties_beyond_the_limits_need_little_memory():
    """Not several hundred bytes for each."""
    raw = packed(user_properties(20_000, b"ab", b"cd"))
    tracemalloc.start()
    found, _ = unpack(raw, 0)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.excess is not None
    assert held < 1.1 * len(raw)
