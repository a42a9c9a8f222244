"""The options of an MQTT connection."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties as PahoProperties

from wire.mqtt.properties import NO_PROPERTIES, Properties


@dataclass(frozen=True, slots=True)
class Will:
    """The message that the broker publishes when the connection ends, for whatever reason."""

    topic: str
    payload: bytes
    retain: bool = True
    properties: Properties = NO_PROPERTIES
    delay_seconds: int = 0
    """How long the broker waits whether the client is back. Apache ActiveMQ Artemis sends the will of a client whose
    session is kept only if this is not 0, or else when the session ends."""

    def paho_properties(self) -> PahoProperties | None:
        """Return the properties in paho's form; None if there are none."""
        if self.properties == NO_PROPERTIES and not self.delay_seconds:
            return None
        made = PahoProperties(PacketTypes.WILLMESSAGE)  # type: ignore[no-untyped-call]
        for name, value in (
            ("WillDelayInterval", self.delay_seconds or None),
            ("ContentType", self.properties.content_type),
            ("CorrelationData", self.properties.correlation_data),
            ("MessageExpiryInterval", self.properties.message_expiry_seconds),
            ("UserProperty", list(self.properties.user_properties) or None),
        ):
            if value is not None:
                setattr(made, name, value)
        return made


@dataclass(frozen=True, slots=True)
class ConnectOptions:
    """The options of a connection."""

    client_id: str
    will: Will | None = None
    receive_maximum: int = 64
    """Maximum number of unacknowledged QoS 1 and 2 messages that the broker may send.

    Mosquitto 2.0 respects it only until the first acknowledgement; after that it sends as many messages again for each
    acknowledgement. Under a flood, the number of messages in memory is bounded by the broker's ``max_queued_bytes``.
    """
    session_expiry_seconds: int = 0
    """How long the broker keeps the subscriptions and messages of a disconnected client."""
    keepalive_seconds: int = 10
    """The broker disconnects a client from which it has received no complete packet for 1.5 times as long. It must be
    long enough for the largest message on a thin link. This side finds a dead connection sooner, whatever this value
    is; see :mod:`wire.mqtt.liveness`."""
    hints: Mapping[int, str] = field(default_factory=dict)
    """What the operator can do about some of the reason codes with which the broker refuses or ends a connection, or
    refuses a subscription."""
