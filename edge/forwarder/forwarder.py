"""The forwarder: two sessions, and a lane in each direction between them.

The whole mapping is one rule: up, put ``devices/<device>/`` in front; down, take it off.
"""

import threading
import time
from functools import partial

from edge.forwarder.relay import MAX_UNACKNOWLEDGED, Relay
from edge.forwarder.settings import ForwarderSettings
from wire import status, topics
from wire.mqtt.certificate_expiry import CertificateExpiry
from wire.mqtt.connection import ConnectOptions, Message, Will
from wire.mqtt.properties import Properties
from wire.mqtt.session import Session
from wire.process.lifecycle import STOP_SECONDS, Stop

RETRY_SECONDS = 1.0
REPORT_SECONDS = 5.0
LOCAL_EXPIRY_SECONDS = 86400
"""For how long the local broker keeps messages of other publishers while the forwarder is away."""
CLOUD_EXPIRY_SECONDS = 3600
"""For how long the cloud's broker keeps receipts; one that is lost costs one more copy of a face on the wire."""


class Forwarder:
    """Carries faces and status up, receipts down."""

    def __init__(self, settings: ForwarderSettings, stop: Stop) -> None:
        device, client_id = settings.device_id, f"facewire-forwarder-{settings.device_id}"
        self._stop = stop
        self.certificate = CertificateExpiry(settings.cloud_certificate)
        self._status_topic = topics.status("forwarder", device)
        self._cloud_up_since: float | None = None
        self._reporting = threading.Lock()
        self._reported = b""
        self._reported_at = 0.0
        self.up = Relay(
            "up",
            lambda: self.local,
            lambda: self.cloud,
            stop,
            map_topic=partial(topics.to_cloud, device),
            qos_of=lambda message: settings.mqtt_qos if _is_face(message) else 1,
            needs_subscriber=lambda message: settings.receipts == "sink" and _is_face(message),
            on_forwarded=self._sign_for if settings.receipts == "broker" else lambda message: None,
        )
        self.down = Relay(
            "down",
            lambda: self.cloud,
            lambda: self.local,
            stop,
            map_topic=partial(topics.to_local, device),
            qos_of=lambda message: 1,
        )
        self.local = Session(
            settings.local_endpoint(),
            ConnectOptions(
                client_id=client_id,
                will=Will(self._status_topic, status.OFFLINE),
                receive_maximum=MAX_UNACKNOWLEDGED,
                session_expiry_seconds=LOCAL_EXPIRY_SECONDS,
            ),
            stop,
            on_message=self.up.take,
            subscriptions=[(topics.ALL_FACES, settings.mqtt_qos), (topics.ALL_STATUS, 1)],
            on_connected=self._local_connected,
        )
        self.cloud = Session(
            settings.cloud_endpoint(),
            ConnectOptions(
                client_id=client_id,
                will=Will(topics.to_cloud(device, self._status_topic), status.OFFLINE, retain=False),
                receive_maximum=MAX_UNACKNOWLEDGED,
                session_expiry_seconds=CLOUD_EXPIRY_SECONDS,
            ),
            stop,
            on_message=self.down.take,
            subscriptions=[(topics.all_receipts_of(device), 1)],
            on_connected=self._cloud_connected,
            on_lost=self._cloud_lost,
        )

    def run(self) -> None:
        """Forward until asked to stop; then finish what is under way."""
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
        """Try again what waits for a link or for a subscriber, and say what has changed."""
        self.up.flush()
        self.down.flush()
        self.certificate.step()
        if time.monotonic() - self._reported_at > REPORT_SECONDS:
            self._report(only_changes=True)

    def _cloud_connected(self) -> None:
        self._cloud_up_since = time.time()
        self._report()
        self.up.flush()

    def _cloud_lost(self) -> None:
        self._cloud_up_since = None
        self._report()

    def _local_connected(self) -> None:
        self._report()
        self.down.flush()

    def _report(self, only_changes: bool = False) -> None:
        """Say how the cloud link is: detectors send again what was under way when it was cut."""
        with self._reporting:  # both sessions report: the one that looked first must not have the last word
            since = self._cloud_up_since
            payload = status.encode(
                cloud="down" if since is None else "up",
                cloud_up_since=since,
                forwarded=self.up.counts.forwarded,
                refused=self.up.counts.refused,
                dropped=self.up.counts.dropped,
                certificate_expires=self.certificate.text,
            )
            if only_changes and payload == self._reported:
                return
            self.local.publish(self._status_topic, payload, qos=1, retain=True)
            self._reported, self._reported_at = payload, time.monotonic()

    def _sign_for(self, message: Message) -> None:
        face_id = message.properties.correlation_data
        camera = message.topic.removeprefix("faces/")
        if _is_face(message) and topics.is_name(camera) and face_id is not None:
            self.local.publish(topics.receipts(camera), b"", qos=1, properties=Properties(correlation_data=face_id))


def _is_face(message: Message) -> bool:
    return message.topic.startswith("faces/")
