"""What a process says of itself: retained JSON on ``status/<process>/<name>``, and «offline» as its last will."""

import json
from typing import Any

from wire.errors import BadMessage

OFFLINE = b'{"online":false}'


def encode(**stats: Any) -> bytes:
    """Return the status of a process that is online."""
    return json.dumps({"online": True, **stats}, separators=(",", ":")).encode()


def decode(payload: bytes) -> dict[str, Any]:
    """Read a status.

    Raises:
        BadMessage: it is not a JSON object with ``online`` in it.
    """
    try:
        stats = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise BadMessage(f"the status is not JSON: {error}") from None
    if not isinstance(stats, dict) or not isinstance(stats.get("online"), bool):
        raise BadMessage("the status is not an object with online, true or false")
    return stats
