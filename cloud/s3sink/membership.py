"""Takes a sink out of its group while S3 accepts nothing from it, so that the other sinks get its share.

The messages that it holds are tried again meanwhile. Whether S3 accepts objects is found out with an object of the
sink's own, so that no device can take a sink out of its group with messages that S3 does not accept.
"""

import time
from collections.abc import Callable

import structlog

from cloud.s3sink.answers import TemporaryFailure
from cloud.s3sink.bucket import Bucket
from wire.mqtt.session import Session
from wire.process.lifecycle import Stop

STEP_SECONDS = 5.0
TROUBLE_STEPS = 4
"""How many steps in a row S3 must have accepted nothing, although messages wait, before the sink leaves its group."""
ANSWER_SECONDS = 5.0
"""How long the broker may take to answer."""

_log = structlog.get_logger("s3sink")


class Membership:
    """Whether the sink is in its group."""

    def __init__(self, session: Session, bucket: Bucket, count_held: Callable[[], int], stop: Stop) -> None:
        """``count_held`` returns how many messages the sink holds."""
        self._session, self._bucket, self._count_held, self._stop = session, bucket, count_held, stop
        self._is_away = False
        self._troubled_steps = 0
        self._stepped_at = time.monotonic()

    def run(self) -> None:
        """Leave and join until the process is asked to stop."""
        while not self._stop.wait(STEP_SECONDS):
            self.step()

    def step(self) -> None:
        """Leave or join if it is time."""
        has_accepted = self._bucket.acceptance.accepted_at >= self._stepped_at
        self._stepped_at = time.monotonic()
        if not self._is_away:
            is_troubled = self._bucket.problem and self._count_held() and not has_accepted
            self._troubled_steps = self._troubled_steps + 1 if is_troubled else 0
            if self._troubled_steps < TROUBLE_STEPS:
                return
        try:
            self._bucket.try_to_write()
        except TemporaryFailure as error:
            if not self._is_away and self._session.unsubscribe(ANSWER_SECONDS):
                self._is_away = True
                _log.warning("left the group of sinks until S3 accepts objects again", reason=str(error))
            return
        self._troubled_steps = 0
        if self._is_away and not self._stop:
            self._is_away = False
            self._session.subscribe_again()
            _log.info("joined the group of sinks again")
