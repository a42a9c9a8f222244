"""The announcement of a stored face or picture: its key, and its attributes as they are in the object's metadata.

The sink publishes it at QoS 0 on ``devices/<device>/stored/<camera>``, before it acknowledges the face. If the
connection is lost before that, the face is delivered again and announced again. If nobody has subscribed, the broker
drops it.
"""

from collections.abc import Mapping
from typing import NamedTuple

from wire import face
from wire.errors import BadMessage
from wire.mqtt.properties import Properties

CONTENT_TYPE = "text/plain"
_MAX_KEY_BYTES = 1024
"""S3's limit on the length of a key."""


class Stored(NamedTuple):
    """A face or picture that S3 has."""

    key: str
    attributes: dict[str, str]


def encode(key: str, attributes: Mapping[str, str]) -> tuple[bytes, Properties]:
    """Return payload and properties of the announcement of an object."""
    return key.encode(), Properties(content_type=CONTENT_TYPE, user_properties=tuple(attributes.items()))


def decode(properties: Properties, payload: bytes) -> Stored:
    """Parse an announcement.

    Raises:
        BadMessage: the key is not text or too long, or an attribute is repeated, too long or not printable ASCII.
    """
    if len(payload) > _MAX_KEY_BYTES:
        raise BadMessage(f"the key has {len(payload)} bytes: expected at most {_MAX_KEY_BYTES}")
    try:
        key = payload.decode()
    except UnicodeDecodeError:
        raise BadMessage("the key is not UTF-8") from None
    return Stored(key, face.attributes_of(properties.user_properties))
