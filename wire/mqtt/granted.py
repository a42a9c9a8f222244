"""What a broker announces when it accepts a connection: the properties of its CONNACK packet."""

from dataclasses import dataclass
from typing import Any, Self

from wire.mqtt.publications import MAX_UNANSWERED


@dataclass(frozen=True, slots=True)
class Granted:
    """The broker's limits for a connection. The defaults hold for what a broker does not announce."""

    is_session_present: bool = False
    """Whether the broker has resumed a session."""
    receive_maximum: int = MAX_UNANSWERED
    """How many QoS 1 and 2 messages the broker allows to be unanswered."""
    max_packet_bytes: int = 0
    """Largest packet that the broker accepts; 0: it has announced none."""
    max_qos: int = 2
    has_retained: bool = True
    """Whether retained messages are available."""
    has_wildcards: bool = True
    """Whether filters may contain wildcards."""
    has_shared: bool = True
    """Whether shared subscriptions are available."""
    session_expiry_seconds: int | None = None
    """How long the broker keeps the session, if this is not what the client has asked for."""
    keepalive_seconds: int | None = None
    """The keepalive to use, if this is not what the client has asked for."""
    client_id: str | None = None
    """The client id that the broker has assigned."""

    @classmethod
    def of(cls, properties: Any, *, is_session_present: bool) -> Self:
        """Return what paho's properties of a CONNACK say. ``properties`` may be None."""

        def value(name: str, default: Any) -> Any:
            return getattr(properties, name, default)

        return cls(
            is_session_present=is_session_present,
            receive_maximum=value("ReceiveMaximum", MAX_UNANSWERED),
            max_packet_bytes=value("MaximumPacketSize", 0),
            max_qos=value("MaximumQoS", 2),
            has_retained=bool(value("RetainAvailable", 1)),
            has_wildcards=bool(value("WildcardSubscriptionAvailable", 1)),
            has_shared=bool(value("SharedSubscriptionAvailable", 1)),
            session_expiry_seconds=value("SessionExpiryInterval", None),
            keepalive_seconds=value("ServerKeepAlive", None),
            client_id=value("AssignedClientIdentifier", None),
        )
