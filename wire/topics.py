"""Topics: built and parsed here and nowhere else.

    local   faces/<camera>                        detector, or any MQTT client
            receipts/<camera>                     forwarder
            status/<process>/<name>               detector, forwarder (retained)
    cloud   devices/<device>/faces/<camera>       forwarder of that device
            devices/<device>/receipts/<camera>    s3sink
            devices/<device>/status/...           forwarder

The forwarder's whole mapping is one rule: up, put ``devices/<device>/`` in front (:func:`to_cloud`);
down, take it off (:func:`to_local`).
"""

import re
from typing import NamedTuple

from wire.errors import BadMessage

NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}"
"""What a device or a camera may be called: a topic level, a piece of an S3 key, a certificate's name."""

ALL_FACES = "faces/#"
ALL_RECEIPTS = "receipts/#"
ALL_STATUS = "status/#"
ALL_FORWARDER_STATUS = "status/forwarder/+"
ALL_DEVICES_FACES = "devices/+/faces/#"
ALL_DEVICES_RECEIPTS = "devices/+/receipts/#"

_NAME = re.compile(NAME_PATTERN)


class Origin(NamedTuple):
    """Where a face came from, as the topic on which it arrived says."""

    device: str
    camera: str


def is_name(text: str) -> bool:
    """Tell whether ``text`` may name a device or a camera."""
    return _NAME.fullmatch(text) is not None


def faces(camera: str) -> str:
    """Return the local topic for the faces of ``camera``."""
    return f"faces/{camera}"


def receipts(camera: str) -> str:
    """Return the local topic for the receipts of ``camera``."""
    return f"receipts/{camera}"


def status(process: str, name: str) -> str:
    """Return the local topic for the retained status of ``process`` called ``name``."""
    return f"status/{process}/{name}"


def to_cloud(device: str, local_topic: str) -> str:
    """Map a local topic of ``device`` to its topic in the cloud."""
    return f"devices/{device}/{local_topic}"


def to_local(device: str, cloud_topic: str) -> str:
    """Map a topic in the cloud back to the local topic of ``device``.

    Raises:
        BadMessage: the topic belongs to another device, or to none.
    """
    prefix = f"devices/{device}/"
    if not cloud_topic.startswith(prefix):
        raise BadMessage(f"topic {cloud_topic!r} is not below {prefix!r}")
    return cloud_topic.removeprefix(prefix)


def all_receipts_of(device: str) -> str:
    """Return the filter for every receipt that the cloud holds for ``device``."""
    return to_cloud(device, "receipts/+")


def origin_of(cloud_topic: str) -> Origin:
    """Read device and camera out of ``devices/<device>/faces/<camera>``.

    Raises:
        BadMessage: the topic has another shape, or a name in it is not a name.
    """
    levels = cloud_topic.split("/")
    if len(levels) != 4 or levels[0] != "devices" or levels[2] != "faces":
        raise BadMessage(f"topic {cloud_topic!r} is not devices/<device>/faces/<camera>")
    for level in (levels[1], levels[3]):
        if not is_name(level):
            raise BadMessage(f"topic {cloud_topic!r}: {level!r} is not a name ({NAME_PATTERN})")
    return Origin(device=levels[1], camera=levels[3])


def device_of(cloud_topic: str) -> str | None:
    """Return the device that any topic below ``devices/<device>/`` belongs to; None where there is no such name."""
    levels = cloud_topic.split("/")
    return levels[1] if len(levels) > 2 and levels[0] == "devices" and is_name(levels[1]) else None


def receipts_for(cloud_face_topic: str) -> str:
    """Derive the topic for a face's receipt from the topic on which the face arrived, and from nothing else.

    Raises:
        BadMessage: the topic is not one on which faces arrive.
    """
    device, camera = origin_of(cloud_face_topic)
    return to_cloud(device, receipts(camera))
