"""MQTT topics. They are built and parsed only in this module.

    local   faces/<camera>                        detector, or any MQTT client
            receipts/<camera>                     forwarder
            status/<process>/<name>               detector, forwarder (retained)
            <prefix>/device/facewire-<device>/config   forwarder (retained), for Home Assistant
            <prefix>/status                       Home Assistant
    cloud   devices/<device>/faces/<camera>       forwarder of that device
            devices/<device>/receipts/<camera>    s3sink
            devices/<device>/stored/<camera>      s3sink
            devices/<device>/status/...           forwarder

The forwarder maps between the two with one rule: it prepends ``devices/<device>/`` to a topic on the way to the cloud
(:func:`to_cloud`), and removes it on the way back (:func:`to_local`).
"""

import re
from typing import NamedTuple

from wire.errors import BadMessage

NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}"
"""Names of devices and cameras. A name is a topic level, a part of an S3 key and the name in a certificate."""

ALL_FACES = "faces/#"
ALL_RECEIPTS = "receipts/#"
ALL_STATUS = "status/#"
ALL_FORWARDER_STATUS = "status/forwarder/+"
ALL_DEVICES_FACES = "devices/+/faces/#"
ALL_DEVICES_RECEIPTS = "devices/+/receipts/#"
ALL_DEVICES_STORED = "devices/+/stored/#"
ALL_DEVICES_STATUS = "devices/+/status/#"

_NAME = re.compile(NAME_PATTERN)


class Origin(NamedTuple):
    """The device and the camera of a face, taken from its topic."""

    device: str
    camera: str


def is_name(text: str) -> bool:
    """Return whether ``text`` is a valid name of a device or a camera."""
    return _NAME.fullmatch(text) is not None


def faces(camera: str) -> str:
    """Return the local topic for the faces of ``camera``."""
    return f"faces/{camera}"


def receipts(camera: str) -> str:
    """Return the local topic for the receipts of ``camera``."""
    return f"receipts/{camera}"


def status(process: str, name: str) -> str:
    """Return the local topic for the retained status of the process ``process`` with the name ``name``."""
    return f"status/{process}/{name}"


def camera_of(local_topic: str) -> tuple[str, bool] | None:
    """Return the camera of a local topic of faces, or of a detector's status, and whether it is the latter.

    None for other topics and invalid names.
    """
    match local_topic.split("/"):
        case ["faces", camera] if is_name(camera):
            return camera, False
        case ["status", "detector", camera] if is_name(camera):
            return camera, True
    return None


def home_assistant_device(prefix: str, device: str) -> str:
    """Return the local topic on which ``device`` is announced to Home Assistant, whose topics begin with ``prefix``."""
    return f"{prefix}/device/facewire-{device}/config"


def home_assistant_status(prefix: str) -> str:
    """Return the local topic on which Home Assistant says that it has started or ended."""
    return f"{prefix}/status"


def to_cloud(device: str, local_topic: str) -> str:
    """Map a local topic of ``device`` to its topic in the cloud."""
    return f"devices/{device}/{local_topic}"


def to_local(device: str, cloud_topic: str) -> str:
    """Map a topic in the cloud to the local topic of ``device``.

    Raises:
        BadMessage: the topic does not belong to this device.
    """
    prefix = f"devices/{device}/"
    if not cloud_topic.startswith(prefix):
        raise BadMessage(f"topic {cloud_topic!r} is not below {prefix!r}")
    return cloud_topic.removeprefix(prefix)


def all_receipts_of(device: str) -> str:
    """Return the filter for all receipts of ``device`` in the cloud."""
    return to_cloud(device, "receipts/+")


def shared(group: str, topic_filter: str) -> str:
    """Return the filter of a subscription that the members of a group share."""
    return f"$share/{group}/{topic_filter}"


def origin_of(cloud_topic: str) -> Origin:
    """Parse ``devices/<device>/faces/<camera>``.

    Raises:
        BadMessage: the topic has another form, or a name in it is not valid.
    """
    match cloud_topic.split("/"):
        case ["devices", device, "faces", camera]:
            for name in (device, camera):
                if not is_name(name):
                    raise BadMessage(f"topic {cloud_topic!r}: {name!r} is not a valid name ({NAME_PATTERN})")
            return Origin(device, camera)
    raise BadMessage(f"topic {cloud_topic!r} is not devices/<device>/faces/<camera>")


def device_of(cloud_topic: str) -> str | None:
    """Return the device of any topic below ``devices/<device>/``; None for other topics and invalid names."""
    levels = cloud_topic.split("/")
    return levels[1] if len(levels) > 2 and levels[0] == "devices" and is_name(levels[1]) else None


def stored(origin: Origin) -> str:
    """Return the topic in the cloud on which the sink announces stored faces of a camera."""
    return to_cloud(origin.device, f"stored/{origin.camera}")


def status_of(cloud_topic: str) -> tuple[str, str, str] | None:
    """Return device, process and name of ``devices/<device>/status/<process>/<name>``; None for other topics."""
    match cloud_topic.split("/"):
        case ["devices", device, "status", process, name] if is_name(device) and is_name(process) and is_name(name):
            return device, process, name
    return None


def receipts_for(cloud_face_topic: str) -> str:
    """Return the topic for the receipt of a face, given the topic of the face.

    Raises:
        BadMessage: the topic is not a topic for faces.
    """
    device, camera = origin_of(cloud_face_topic)
    return to_cloud(device, receipts(camera))
