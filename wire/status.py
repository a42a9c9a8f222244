"""The status of a process: retained JSON on ``status/<process>/<name>``, with «offline» as the last will.

A status expires, and is published again before that, so a retained status is never old. The last will does not expire.
"""

import json
from typing import Any

from wire.errors import BadMessage
from wire.mqtt.properties import Properties

OFFLINE = b'{"online":false}'
REPEAT_SECONDS = 30.0
"""Interval at which a status is published again, even if it has not changed."""
PROPERTIES = Properties(message_expiry_seconds=60)
"""The properties with which a status is published."""


def encode(**stats: Any) -> bytes:
    """Return the status of a process that is online."""
    return json.dumps({"online": True, **stats}, separators=(",", ":")).encode()


def decode(payload: bytes) -> dict[str, Any]:
    """Parse a status.

    Raises:
        BadMessage: the payload is not a JSON object with a boolean ``online``.
    """
    try:
        stats = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise BadMessage(f"the status is not JSON: {error}") from None
    if not isinstance(stats, dict) or not isinstance(stats.get("online"), bool):
        raise BadMessage("the status is not an object with online, true or false")
    return stats
