"""Home Assistant's rules for a device announcement, as far as Facewire uses them.

Sources: https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload, and the pages of the platforms
image.mqtt, sensor.mqtt and binary_sensor.mqtt (read for Home Assistant 2026.11).
"""

import re
from typing import Any

TOPIC = re.compile(r"\w+/([a-zA-Z0-9_-]+/)?[a-zA-Z0-9_-]+/config")
"""What follows the prefix."""
_ENTITY = {"platform", "unique_id", "name", "availability", "icon", "entity_category", "device_class"}
_SENSOR = _ENTITY | {"state_topic", "value_template", "expire_after"}
KEYS = {
    "image": _ENTITY - {"device_class"} | {"image_topic", "content_type"},
    "sensor": _SENSOR | {"state_class", "unit_of_measurement"},
    "binary_sensor": _SENSOR,
}
"""The documented keys of each platform. Others are ignored, so a typing error would have no other sign."""
REQUIRED = {"image": {"image_topic"}, "sensor": {"state_topic"}, "binary_sensor": {"state_topic"}}
VALUES = {
    "entity_category": {"diagnostic"},
    "state_class": {"measurement", "total_increasing"},
    "content_type": {"image/jpeg"},
    "device_class": {"timestamp", "connectivity"},
}
_DEVICE = {"identifiers", "name", "manufacturer", "model", "sw_version"}


def mistakes(topic: str, prefix: str, announcement: dict[str, Any]) -> list[str]:
    """Return what is wrong with an announcement, in words."""
    found = []
    if not topic.startswith(f"{prefix}/device/") or not TOPIC.fullmatch(topic.removeprefix(f"{prefix}/")):
        found.append(f"the topic {topic}")
    found += [f"the key {key}" for key in announcement.keys() ^ {"device", "origin", "components"}]
    found += [f"device: {key}" for key in announcement["device"].keys() - _DEVICE]
    if not announcement["device"]["identifiers"] or not announcement["origin"]["name"]:
        found.append("no identifiers, or no name of the origin")
    for name, entity in announcement["components"].items():
        platform = entity["platform"]
        found += [f"{name}: {key}" for key in entity.keys() - KEYS[platform]]
        found += [f"{name}: no {key}" for key in (REQUIRED[platform] | {"unique_id"}) - entity.keys()]
        found += [
            f"{name}: {key} is {entity[key]}" for key in VALUES if key in entity and entity[key] not in VALUES[key]
        ]
        found += [f"{name}: availability" for each in entity.get("availability", ()) if "topic" not in each]
        if entity.get("device_class") == "timestamp" and {"state_class", "unit_of_measurement"} & entity.keys():
            found.append(f"{name}: a time has no unit")
    ids = [entity["unique_id"] for entity in announcement["components"].values()]
    if len(ids) != len(set(ids)):
        found.append("the same unique_id twice")
    return found
