"""The settings to use with a broker, and whether it can carry Facewire."""

from collections.abc import Sequence

from wire.check_broker.row import Answer, Row
from wire.check_broker.sessions import USEFUL_RECEIVE_MAXIMUM
from wire.mqtt.granted import Granted


def verdict(rows: Sequence[Row]) -> tuple[bool, str]:
    """Return whether the broker can carry Facewire, and a line that says so."""
    required = [row for row in rows if row.is_required]
    missing = [row.check for row in required if row.answer in (Answer.NO, Answer.PARTLY)]
    hidden = [row.check for row in required if row.answer in (Answer.NOT_PERMITTED, Answer.UNKNOWN)]
    if missing:
        return False, f"This broker cannot carry Facewire: {', '.join(missing)}."
    if hidden:
        return False, f"Whether this broker can carry Facewire cannot be told: {', '.join(hidden)} not permitted."
    return True, "This broker can carry Facewire."


def settings(rows: Sequence[Row], granted: Granted) -> list[tuple[str, str, str]]:
    """Return process, setting and reason for each setting that matters with this broker."""
    answers = {row.check: row.answer for row in rows}
    found = [
        ("forwarder", "RECEIPTS=sink", "a face leaves the outbox when it is in S3"),
        ("forwarder, sink", "MQTT_QOS=1", "a face is sent again until its receipt arrives, so QoS 2 adds nothing"),
    ]
    if granted.receive_maximum < USEFUL_RECEIVE_MAXIMUM:
        reason = f"it takes {granted.receive_maximum} unanswered messages of a device: so many faces per round trip"
        found.append(("the broker", f"a receive maximum of {USEFUL_RECEIVE_MAXIMUM}", reason))
    if answers.get("shared subscriptions") in (Answer.YES, Answer.PARTLY):
        found.append(("sink", "SINK_GROUP=s3sink", "the default: sinks share the work"))
    elif answers.get("shared subscriptions") is Answer.NOT_PERMITTED:
        found.append(("sink", "SINK_GROUP=s3sink", "the default; empty if the broker has no shared subscriptions"))
    else:
        found.append(("sink", "SINK_GROUP=", "empty: one sink, with a subscription of its own"))
    return found
