"""The forwarder: a session with each broker, and a relay in each direction.

Topics are mapped by a single rule: ``devices/<device>/`` is added on the way up and removed on the way down.
"""

import threading
import time
from concurrent.futures import Future
from functools import partial

from prometheus_client import CollectorRegistry, Histogram

from edge.forwarder.home_assistant import HomeAssistant
from edge.forwarder.relay import MAX_UNACKNOWLEDGED, Relay
from edge.forwarder.rules import Rules
from edge.forwarder.settings import ForwarderSettings
from wire import receipt, status, topics
from wire.mqtt.certificate_expiry import CertificateExpiry
from wire.mqtt.connect_options import ConnectOptions, Will
from wire.mqtt.connection import Message
from wire.mqtt.reason_codes import NOT_AUTHORIZED
from wire.mqtt.session import Session
from wire.process.lifecycle import STOP_SECONDS, Stop
from wire.process.metrics import AGE_BUCKETS

RETRY_SECONDS = 1.0
"""Interval at which waiting messages are tried again."""
CLOUD_KEEPALIVE_SECONDS = 60
"""The cloud broker disconnects after 90 s without a complete packet: 128 KiB at 16 kbit/s take 65 s."""
STATUS_SECONDS = 5.0
"""Interval at which changed counters are published in the status."""
LOCAL_EXPIRY_SECONDS = 86400
"""Time for which the local broker queues messages while the forwarder is disconnected."""
MAX_RECEIPT_BYTES = 4096
"""A receipt has no payload, and two properties at most. This bounds the memory for those that the cloud may send."""
CLOUD_WILL_SECONDS = 1
"""How long the cloud broker waits before it tells that this device is offline."""
CLOUD_EXPIRY_SECONDS = 3600
"""Time for which the cloud broker queues receipts. If one is lost, its face is only sent once more."""


class Forwarder:
    """Forwards faces and status to the cloud broker, and receipts to the local broker."""

    def __init__(self, settings: ForwarderSettings, stop: Stop, registry: CollectorRegistry) -> None:
        """Set up the forwarder; :meth:`run` connects. ``registry`` is for the histogram of forwarding times."""
        device = settings.device_id
        meaning = "Seconds from the arrival of a message to its acceptance by the other broker."
        seconds = Histogram("facewire_forward_seconds", meaning, ["direction"], registry=registry, buckets=AGE_BUCKETS)
        self._stop = stop
        self.certificate = CertificateExpiry(settings.cloud_certificate)
        self._status_topic = topics.status("forwarder", device)
        self._cloud_up_since: float | None = None
        self._status_lock = threading.Lock()
        self._last_status = b""
        self._last_status_at = 0.0
        upwards = Rules(
            map_topic=partial(topics.to_cloud, device),
            qos_of=lambda message: settings.mqtt_qos if _is_face(message) else 1,
            needs_subscriber=lambda message: (
                settings.receipts == "sink" and settings.mqtt_qos > 0 and _is_face(message)
            ),
            is_conflated=lambda message: message.topic.startswith("status/"),
            on_forwarded=self._send_receipt if settings.receipts == "broker" else lambda message: None,
        )
        self.up = Relay("up", lambda: self.local, lambda: self.cloud, stop, upwards, seconds.labels("up").observe)
        downwards = Rules(map_topic=partial(topics.to_local, device), max_bytes=MAX_RECEIPT_BYTES)
        self.down = Relay(
            "down", lambda: self.cloud, lambda: self.local, stop, downwards, seconds.labels("down").observe
        )
        self._home_assistant = HomeAssistant(settings, self._publish_retained)
        client_id = f"facewire-forwarder-{device}"
        options = partial(ConnectOptions, receive_maximum=MAX_UNACKNOWLEDGED)
        self.local = Session(
            settings.local_endpoint(),
            options(
                client_id=client_id,
                will=Will(self._status_topic, status.OFFLINE),
                session_expiry_seconds=LOCAL_EXPIRY_SECONDS,
            ),
            stop,
            on_message=self._on_local_message,
            subscriptions=[
                (topics.ALL_FACES, settings.mqtt_qos),
                (topics.ALL_STATUS, 1),
                *self._home_assistant.subscriptions,
            ],
            on_connected=self._on_local_connected,
            # Only here: if both sessions waited for room, each would wait for acknowledgements that the other one has.
            may_receive=lambda: self.up.has_room,
        )
        self.cloud = Session(
            settings.cloud_endpoint(),
            options(
                client_id=settings.cloud_mqtt_client_id or client_id,
                will=Will(
                    topics.to_cloud(device, self._status_topic),
                    status.OFFLINE,
                    retain=False,
                    delay_seconds=CLOUD_WILL_SECONDS,
                ),
                session_expiry_seconds=CLOUD_EXPIRY_SECONDS,
                keepalive_seconds=CLOUD_KEEPALIVE_SECONDS,
                hints={NOT_AUTHORIZED: f"expected the certificate or password of device {device}, see DEVICE_ID"},
            ),
            stop,
            on_message=self.down.forward,
            subscriptions=[(topics.all_receipts_of(device), 1)],
            on_connected=self._on_cloud_connected,
            on_lost=self._on_cloud_lost,
        )

    def run(self) -> None:
        """Forward until asked to stop, then wait for the messages under way."""
        self.local.start()
        self.cloud.start()
        while not self._stop.wait(RETRY_SECONDS):
            self.step()
        deadline = time.monotonic() + STOP_SECONDS / 2
        for relay in (self.up, self.down):
            relay.drain(max(0.0, deadline - time.monotonic()))
        self.local.close()
        self.cloud.close()

    def step(self) -> None:
        """Retry the waiting messages, check the certificate's expiry, and publish what is due."""
        self.up.flush()
        self.down.flush()
        self.certificate.step()
        self._home_assistant.step()
        age = time.monotonic() - self._last_status_at
        if age > STATUS_SECONDS:
            self._publish_status(only_if_changed=age < status.REPEAT_SECONDS)

    def _on_local_message(self, message: Message) -> None:
        if self._home_assistant.take(message):
            self.local.acknowledge(message)
        else:
            self.up.forward(message)

    def _publish_retained(self, topic: str, payload: bytes) -> "Future[int]":
        return self.local.publish(topic, payload, qos=1, retain=True)

    def _on_cloud_connected(self) -> None:
        self._cloud_up_since = time.time()
        self._publish_status()
        self.up.restart()

    def _on_cloud_lost(self) -> None:
        self._cloud_up_since = None
        self.up.interrupt()
        self._publish_status()

    def _on_local_connected(self) -> None:
        self._home_assistant.on_connected()
        self._publish_status()
        self.down.restart()

    def _publish_status(self, only_if_changed: bool = False) -> None:
        """Publish the status to the local broker. After a new ``cloud_up_since``, detectors send faces again."""
        with self._status_lock:  # both sessions publish it; the last one published must be the latest
            since = self._cloud_up_since
            payload = status.encode(
                cloud="down" if since is None else "up",
                cloud_up_since=since,
                forwarded=self.up.counts.forwarded,
                refused=self.up.counts.refused,
                dropped=self.up.counts.dropped,
                certificate_expires=self.certificate.text,
            )
            if only_if_changed and payload == self._last_status:
                return
            self.local.publish(self._status_topic, payload, qos=1, retain=True, properties=status.PROPERTIES)
            self._last_status, self._last_status_at = payload, time.monotonic()

    def _send_receipt(self, message: Message) -> None:
        face_id = message.properties.correlation_data
        camera = message.topic.removeprefix("faces/")
        if _is_face(message) and topics.is_name(camera) and face_id is not None:
            self.local.publish(topics.receipts(camera), b"", qos=1, properties=receipt.encode(face_id))


def _is_face(message: Message) -> bool:
    return message.topic.startswith("faces/")
