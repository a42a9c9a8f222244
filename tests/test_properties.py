"""Packing and unpacking MQTT 5 properties, compared with paho's implementation."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties as PahoProperties

from wire.errors import BadMessage
from wire.mqtt.properties import Properties, unpack

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
