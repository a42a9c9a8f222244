"""A receipt: an empty message that names a face, and may say that the cloud is congested."""

import pytest

from wire import receipt
from wire.mqtt.properties import Properties, unpack
from wire.receipt import Receipt

FACE_ID = b"0190f5a2-0000-7000-8000-000000000001"


@pytest.mark.parametrize("is_congested", [False, True])
def test_a_receipt_says_on_arrival_what_it_said_when_it_was_sent(is_congested: bool):
    """After it was packed."""
    arrived, _ = unpack(receipt.encode(FACE_ID, is_congested=is_congested).pack(), 0)
    assert receipt.decode(arrived) == Receipt(FACE_ID.decode(), is_congested)


def test_a_receipt_may_name_anything():
    """Any client of the local broker can send one."""
    properties = Properties(correlation_data=b"\xff\x00", user_properties=(("congestion", "none"), ("a", "b")))
    assert receipt.decode(properties) == Receipt("\ufffd\x00")
    assert receipt.decode(Properties()) == Receipt("")
