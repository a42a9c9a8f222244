"""A receipt: an empty message with which the sink confirms that S3 has a face.

The correlation data is the id of the face. If the sink has more waiting than it should, it marks the receipts of the
devices that have more than their share, as a router marks packets: explicit congestion notification (RFC 3168). Such a
device then has less under way. A device could not tell a queue that others have filled from a path that takes long.
"""

from typing import NamedTuple

from wire.mqtt.properties import Properties

_CONGESTION, _EXPERIENCED = "congestion", "experienced"


class Receipt(NamedTuple):
    """What a receipt says."""

    face_id: str
    is_congested: bool = False
    """Whether the device should have less under way."""


def encode(face_id: bytes, *, is_congested: bool = False) -> Properties:
    """Return the properties of a receipt. Its payload is empty."""
    marks = ((_CONGESTION, _EXPERIENCED),) if is_congested else ()
    return Properties(correlation_data=face_id, user_properties=marks)


def decode(properties: Properties) -> Receipt:
    """Return what a receipt says. It may name anything."""
    face_id = (properties.correlation_data or b"").decode("ascii", "replace")
    return Receipt(face_id, properties.may_have(_CONGESTION, _EXPERIENCED.encode()))
