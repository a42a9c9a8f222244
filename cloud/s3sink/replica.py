"""The sink's MQTT session: one that several sinks share the work with, or one of its own.

The members of a group have the same shared subscription. The broker sends each message to one of them, also to one that
is away as long as it keeps its session, and does not pass on what a member has not acknowledged (mosquitto#2662). So
the session of a member ends soon after the member has gone, and at once when it has finished.
"""

import hashlib
import re
import socket

from wire import topics
from wire.mqtt.connect_options import ConnectOptions
from wire.mqtt.reason_codes import NO_SHARED_SUBSCRIPTIONS, SESSION_TAKEN_OVER

CLIENT_ID = "facewire-s3sink"
"""The client id of a sink without a group. A member of a group adds its name."""
MAX_UNACKNOWLEDGED = 10_000
"""Maximum number of unacknowledged messages from the broker. It is larger than the queue of one device, so that a
device that floods the sink does not hold up the messages of others in the broker's queue, and larger than what arrives
while the sink holds one message."""
KEPT_SECONDS = 86400
"""How long the broker keeps messages of publishers without an outbox while a sink without a group is disconnected."""
MEMBER_SECONDS = 12
"""How long the broker keeps the session of a member that is disconnected: long enough to start it again. Meanwhile it
gets its share of the messages. Together with the keepalive and the intervals at which Mosquitto 2.0 checks both, this
is less than 30 s, after which a detector sends a face again: it goes to another member."""
MEMBER_KEEPALIVE_SECONDS = 6
MAX_NAME = 48
_DIGEST = 8
NOT_SHARED = "set SINK_GROUP to nothing, and run only one sink"
_HINTS = {SESSION_TAKEN_OVER: "expected another SINK_NAME for each sink", NO_SHARED_SUBSCRIPTIONS: NOT_SHARED}


def name_of_host() -> str:
    """Return the name of this host as the name of a sink: letters, digits and hyphens, not too long.

    A container has the same host name when Docker starts it again.
    """
    host = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname()) or "unnamed"
    if len(host) <= MAX_NAME:
        return host
    digest = hashlib.sha256(host.encode()).hexdigest()[:_DIGEST]
    return f"{host[: MAX_NAME - _DIGEST - 1]}-{digest}"


def connect_options(group: str, name: str) -> ConnectOptions:
    """Return how the sink connects, as a member of a group or, if ``group`` is empty, without one."""
    if not group:
        return ConnectOptions(
            CLIENT_ID, receive_maximum=MAX_UNACKNOWLEDGED, session_expiry_seconds=KEPT_SECONDS, hints=_HINTS
        )
    return ConnectOptions(
        f"{CLIENT_ID}-{name}",
        receive_maximum=MAX_UNACKNOWLEDGED,
        session_expiry_seconds=MEMBER_SECONDS,
        keepalive_seconds=MEMBER_KEEPALIVE_SECONDS,
        hints=_HINTS,
    )


def subscription(group: str) -> str:
    """Return the filter of the sink's subscription."""
    return topics.shared(group, topics.ALL_DEVICES_FACES) if group else topics.ALL_DEVICES_FACES
