"""A probe: an empty message with which the forwarder asks whether anybody has subscribed to the faces in the cloud.

The broker answers a publication that nobody has subscribed to with a reason code (0x10). Asking with a face would cost
a face each time. A subscriber ignores a probe.
"""

from wire.mqtt.properties import Properties

CONTENT_TYPE = "application/x-facewire-probe"
PROPERTIES = Properties(content_type=CONTENT_TYPE, message_expiry_seconds=1)
"""The properties of a probe. It expires soon, so that it does not wait for a subscriber that is disconnected."""


def is_probe(properties: Properties, payload: bytes) -> bool:
    """Return whether a message is a probe."""
    return not payload and properties.content_type == CONTENT_TYPE
