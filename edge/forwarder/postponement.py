"""Decides which faces are published again a little later because the other broker limits the rate."""

import structlog

from edge.forwarder.held import Held
from wire.errors import Refused
from wire.mqtt.reason_codes import NOT_AUTHORIZED, QUOTA_EXCEEDED

MAX_POSTPONED = 60
"""How often a face is published again because the other broker limits the rate: for about a minute."""
MAX_ACCEPTED_TOPICS = 64
"""How many topics that the other broker has accepted are remembered."""

_log = structlog.get_logger("forwarder")


class Postponement:
    """What one broker refuses for now, as opposed to what it refuses for good.

    Otherwise each face beyond the rate would wait for its detector to send it again. A plugin of Mosquitto 2.0 can only
    answer «not authorized». If faces of the topic were accepted before, that means the rate.
    """

    def __init__(self, relay: str) -> None:
        """``relay`` is the name of the relay, for the log."""
        self._relay = relay
        self._accepted_topics: set[str] = set()
        """Topics of faces that the other broker has accepted."""
        self._has_logged = False

    def note_accepted(self, held: Held) -> None:
        """Note that the other broker has accepted a message."""
        if held.key is not None and len(self._accepted_topics) < MAX_ACCEPTED_TOPICS:
            self._accepted_topics.add(held.topic)

    def covers(self, held: Held, error: Refused) -> bool:
        """Return whether a message that was refused is to be published again, and count that."""
        if held.key is None or held.postponed >= MAX_POSTPONED:
            return False
        is_limit = error.reason_code == QUOTA_EXCEEDED or (
            error.reason_code == NOT_AUTHORIZED and held.topic in self._accepted_topics
        )
        if not is_limit:
            return False
        held.postponed += 1
        if not self._has_logged:
            self._has_logged = True
            _log.warning("the broker limits the rate, waiting", relay=self._relay)
        return True
