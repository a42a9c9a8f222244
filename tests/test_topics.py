"""Topics, and the mapping between local and cloud topics."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire import topics
from wire.errors import BadMessage

names = st.from_regex(topics.NAME_PATTERN, fullmatch=True)


@given(names, names)
def test_mapping_to_the_cloud_and_back(device: str, camera: str):
    """The prefix is added and removed; nothing else changes."""
    up = topics.to_cloud(device, topics.faces(camera))
    assert topics.origin_of(up) == (device, camera)
    down = topics.receipts_for(up)
    assert topics.to_local(device, down) == topics.receipts(camera)


@pytest.mark.parametrize(
    "topic",
    [
        "faces/door",
        "devices/jetson-1/faces",
        "devices/jetson-1/faces/door/extra",
        "devices/../faces/door",
        "devices/jetson-1/faces/a=b",
        "devices/jetson-1/faces/",
        "devices//faces/door",
        "devices/jetson-1/status/door",
        "things/jetson-1/faces/door",
        "devices/jetson-1/faces/dö\udcff",
        "devices/jetson-1/faces/" + "x" * 65,
    ],
)
def test_an_invalid_topic_has_no_origin(topic: str):
    """So no receipt topic and no key can be derived from it."""
    with pytest.raises(BadMessage):
        topics.origin_of(topic)
    with pytest.raises(BadMessage):
        topics.receipts_for(topic)


def test_a_topic_of_another_device_is_not_mapped():
    """Even if the cloud's broker delivers it."""
    with pytest.raises(BadMessage):
        topics.to_local("jetson-1", "devices/jetson-2/receipts/door")
    with pytest.raises(BadMessage):
        topics.to_local("jetson-1", "devices/jetson-10/receipts/door")


@pytest.mark.parametrize(
    ("topic", "device"),
    [
        ("devices/jetson-1/faces/door", "jetson-1"),
        ("devices/jetson-1/faces/../x", "jetson-1"),
        ("devices/../faces/door", None),
        ("devices/jetson-1", None),
        ("faces/door/x", None),
    ],
)
def test_the_device_of_a_topic_does_not_depend_on_the_other_levels(topic: str, device: str | None):
    """The broker's ACL guarantees only the device."""
    assert topics.device_of(topic) == device
