"""The options of an MQTT connection."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Will:
    """The message that the broker publishes when the connection ends, for whatever reason."""

    topic: str
    payload: bytes
    retain: bool = True


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
