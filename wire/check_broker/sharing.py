"""Checks of shared subscriptions: whether several sinks can share the work, and what a dead one costs."""

from wire.check_broker.client import CheckClient
from wire.check_broker.row import Answer
from wire.check_broker.trial import CannotTell, Check, Finding, Trial
from wire.errors import Refused

GROUP = "facewire-check"
_MESSAGES = 20
_SESSION_SECONDS = 60
_ONE_SINK = "set SINK_GROUP to nothing, and run one sink"
_UNSUPPORTED = (0x8F, 0x9E, 0xA1, 0xA2)
"""Reason codes of brokers without shared subscriptions."""


def shared(trial: Trial) -> Finding:
    """Let two members share what a third client publishes."""
    topic, group = _open(trial, "shared")
    with _member(trial, 2, group) as one, _member(trial, 3, group) as other, trial.client(1) as publisher:
        for payload in _payloads():  # one after the other: some brokers hand out many at once
            publisher.publish(topic, payload)
        _settle(one, other)
        parts = [[message.payload for message in member.messages] for member in (one, other)]
    together = [payload for part in parts for payload in part]
    shares = " and ".join(str(len(part)) for part in parts)
    if len(set(together)) < _MESSAGES:
        return Answer.NO, f"{len(set(together))} of {_MESSAGES} arrived", _ONE_SINK
    if len(together) > _MESSAGES:
        return Answer.NO, f"members got {shares} of {_MESSAGES}", f"each sink gets everything: {_ONE_SINK}"
    if not all(parts):
        return (
            Answer.PARTLY,
            f"members got {shares} of {_MESSAGES}",
            "a second sink takes over, and may help when there is much to do",
        )
    return Answer.YES, f"members got {shares} of {_MESSAGES}", "run as many sinks as you need"


def held_by_the_dead(trial: Trial) -> Finding:
    """End a member that has received messages and not acknowledged them, as if it had been killed."""
    topic, group = _open(trial, "dead")
    with _member(trial, 2, group) as living, trial.client(1) as publisher:
        dying = _member(trial, 3, group)
        dying.acknowledges = False
        for payload in _payloads():
            publisher.publish(topic, payload)
        _settle(living, dying)
        held = {message.payload for message in dying.messages}
        dying.abort()
        living.await_messages(_MESSAGES)
        handed_on = held & {message.payload for message in living.settle()}
    if not held:
        raise CannotTell(Answer.UNKNOWN, "the second member got nothing")
    if len(handed_on) == len(held):
        return Answer.YES, f"{len(held)} of {len(held)}", "another sink stores at once what a dead one held"
    meaning = "the outbox sends again what a dead sink held; pictures of other publishers may be lost"
    return Answer.NO, f"{len(handed_on)} of {len(held)}", meaning


def away_with_session(trial: Trial) -> Finding:
    """Publish while a member is away whose session is kept."""
    topic, group = _open(trial, "away")
    with _member(trial, 2, group) as living, trial.client(1) as publisher:
        trial.client(3, group, session_seconds=_SESSION_SECONDS).abort()
        publisher.publish_many(topic, _payloads())
        got = len({message.payload for message in living.settle()})
        trial.client(3).close()
    missing = _MESSAGES - got
    if not missing:
        return Answer.YES, f"{got} of {_MESSAGES} reach the others", "a sink that is away delays nothing"
    meaning = "they wait until it is back or its session ends after 12 s; outboxes send faces again after RESEND_AFTER"
    return Answer.NO, f"{missing} of {_MESSAGES} wait for it", meaning


def _open(trial: Trial, name: str) -> tuple[str, str]:
    """Return a topic and its shared filter."""
    trial.require_reading()
    if not trial.granted.has_shared:
        raise CannotTell(Answer.NO, "announced as not available")
    topic = trial.topic(name)
    return topic, f"$share/{GROUP}/{topic}"


def _member(trial: Trial, number: int, group: str) -> CheckClient:
    try:
        return trial.client(number, group)
    except Refused as error:
        if error.reason_code in _UNSUPPORTED:
            raise CannotTell(Answer.NO, str(error)) from None
        raise


def _payloads() -> list[bytes]:
    return [b"%d" % number for number in range(_MESSAGES)]


def _settle(*members: CheckClient) -> None:
    """Wait until no member receives anything."""
    for member in members:
        member.settle()


CHECKS = (
    Check("shared subscriptions", shared, failed=_ONE_SINK, hidden=f"give this client the rights, or {_ONE_SINK}"),
    Check("held by a dead member", held_by_the_dead, failed=_ONE_SINK, hidden="see «shared subscriptions»"),
    Check("member away with session", away_with_session, failed=_ONE_SINK, hidden="see «shared subscriptions»"),
)
