"""Announces the device and its cameras to Home Assistant, by MQTT device discovery.

The announcement is one retained message at the local broker, ``<prefix>/device/facewire-<device>/config``. It names the
topics that exist anyway: the faces and the status of each camera, and the forwarder's status. Home Assistant reads
these itself. Source: https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery
"""

import json
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

import structlog

from edge.forwarder.settings import ForwarderSettings
from wire import __version__, topics
from wire.errors import Refused
from wire.mqtt.connection import Message

MAX_CAMERAS = 32
"""Cameras that are announced. A publisher may use any number of names."""
BIRTH = b"online"
"""What Home Assistant publishes on ``<prefix>/status`` when it has started."""

EXPIRE_SECONDS = 150
"""Home Assistant takes a value as unavailable if it has not come again for so long: five times the interval at which a
status is repeated. Otherwise it would keep the values of a device that is behind a bridge and is switched off."""

_AVAILABLE = "{{ 'online' if value_json.online else 'offline' }}"

_log = structlog.get_logger("home assistant")


class HomeAssistant:
    """The announcement of one device: published when it has changed, withdrawn when it is switched off."""

    def __init__(self, settings: ForwarderSettings, publish: "Callable[[str, bytes], Future[int]]") -> None:
        """Set up the announcement; :meth:`step` publishes it.

        Args:
            settings: of the forwarder.
            publish: publishes a retained message at the local broker, given its topic and payload.
        """
        self._settings, self._publish = settings, publish
        self._is_on = settings.home_assistant is True
        self._topic = topics.home_assistant_device(settings.home_assistant_prefix, settings.device_id)
        self._status_topic = topics.home_assistant_status(settings.home_assistant_prefix)
        self._lock = threading.Lock()
        self._cameras: dict[str, bool] = {}
        """The cameras that have been seen; True for those with a detector."""
        self._is_due = False
        self._has_logged_refusal = False

    @property
    def subscriptions(self) -> list[tuple[str, int]]:
        """The topic filters that it needs at the local broker, each with its maximum QoS."""
        return [(self._status_topic, 1)] if self._is_on else []

    def on_connected(self) -> None:
        """Report that the local broker is connected. It may have lost what was retained."""
        self._is_due = True

    def take(self, message: Message) -> bool:
        """Note the camera of a message, or that Home Assistant has started. Does not block.

        Returns:
            Whether the message is from Home Assistant, and so not for the cloud.
        """
        if message.topic == self._status_topic:
            self._is_due |= message.payload == BIRTH
            return True
        if self._is_on and (found := topics.camera_of(message.topic)) is not None:
            camera, has_detector = found
            known = self._cameras.get(camera)
            if known is None and len(self._cameras) >= MAX_CAMERAS:
                return False
            if known is None or has_detector > known:
                with self._lock:
                    self._cameras[camera] = has_detector
                self._is_due = True
        return False

    def step(self) -> None:
        """Publish the announcement, or withdraw it, if that is due. Nothing is announced before a camera is known.

        While it is neither on nor off, nothing is published: some brokers disconnect a client that publishes without
        the right to do so.
        """
        if not self._is_due or self._settings.home_assistant is None or (self._is_on and not self._cameras):
            return
        self._is_due = False
        payload = json.dumps(self.announcement(), separators=(",", ":")).encode() if self._is_on else b""
        self._publish(self._topic, payload).add_done_callback(self._on_published)

    def announcement(self) -> dict[str, Any]:
        """Return the announcement: the device, and an entity for each value that Home Assistant shows."""
        device = self._settings.device_id
        with self._lock:
            cameras = dict(self._cameras)
        return {
            "device": {
                "identifiers": [f"facewire-{device}"],
                "name": device,
                "manufacturer": "Facewire",
                "model": "Face detector",
                "sw_version": __version__,
            },
            "origin": {"name": "Facewire", "sw_version": __version__},
            "components": {
                **self._cloud(),
                **{
                    f"{camera}_{kind}": {"unique_id": f"facewire.{device}.{camera}.{kind}", **options}
                    for camera, has_detector in sorted(cameras.items())
                    for kind, options in self._entities(camera, has_detector).items()
                },
            },
        }

    def _cloud(self) -> dict[str, dict[str, Any]]:
        device = self._settings.device_id
        topic = topics.status("forwarder", device)
        entity = {
            "platform": "binary_sensor",
            "unique_id": f"facewire.{device}.cloud",
            "name": "cloud",
            "device_class": "connectivity",
            "entity_category": "diagnostic",
            "state_topic": topic,
            "value_template": "{{ 'ON' if value_json.cloud == 'up' else 'OFF' }}",
            "availability": _availability(topic),
            "expire_after": EXPIRE_SECONDS,
        }
        return {"cloud": entity}

    def _entities(self, camera: str, has_detector: bool) -> Mapping[str, dict[str, Any]]:
        """Return the entities of one camera. Only a detector publishes a status."""
        image = {
            "platform": "image",
            "name": camera,
            "image_topic": topics.faces(camera),
            "content_type": "image/jpeg",
        }
        if not has_detector:
            return {"image": image}
        status = topics.status("detector", camera)
        sensor = {
            "platform": "sensor",
            "state_topic": status,
            "availability": _availability(status),
            "expire_after": EXPIRE_SECONDS,
        }
        entities: dict[str, dict[str, Any]] = {
            "image": {**image, "availability": _availability(status)},
            "faces": {
                **sensor,
                "name": f"{camera} faces",
                "icon": "mdi:face-recognition",
                "state_class": "total_increasing",
                "unit_of_measurement": "faces",
                "value_template": "{{ value_json.sent | default(None) }}",
            },
            "seen": {
                **sensor,
                "name": f"{camera} last face",
                "device_class": "timestamp",
                "value_template": "{{ value_json.last_face | default(None) }}",
            },
        }
        if self._settings.mqtt_qos > 0:  # otherwise there is no outbox
            entities["waiting"] = {
                **sensor,
                "name": f"{camera} waiting faces",
                "icon": "mdi:tray-full",
                "state_class": "measurement",
                "unit_of_measurement": "faces",
                "entity_category": "diagnostic",
                "value_template": "{{ value_json.outbox | default(None) }}",
            }
        return entities

    def _on_published(self, done: "Future[int]") -> None:
        """Log once that the broker refuses the announcement. After a lost link, it is due again."""
        error = done.exception()
        if isinstance(error, Refused) and self._is_on and not self._has_logged_refusal:
            self._has_logged_refusal = True
            _log.error("the local broker refuses the announcement", topic=self._topic, reason=str(error))


def _availability(status_topic: str) -> list[dict[str, str]]:
    """Return where Home Assistant reads whether an entity is available: the status, and so its last will."""
    return [{"topic": status_topic, "value_template": _AVAILABLE}]
