"""Checks of single messages: what arrives of them, and what the broker answers."""

import time

from wire.check_broker.client import CheckClient
from wire.check_broker.row import Answer
from wire.check_broker.trial import CannotTell, Check, Finding, Trial
from wire.errors import LinkLost, Refused
from wire.mqtt.connection import Message
from wire.mqtt.properties import Properties
from wire.mqtt.reason_codes import NO_MATCHING_SUBSCRIBERS, SUCCESS

FACE_PACKET_BYTES = 131_072
"""Size of the largest packet with a face."""
_LEVELS = 8
_PROPERTIES = Properties(
    content_type="image/jpeg",
    correlation_data=b"0190f5a2-0000-7000-8000-\x00\x01\xfe\xff",
    user_properties=(
        *((f"name-{number}", "value " * 5) for number in range(14)),
        ("twice", "1"),
        ("twice", "2"),
        ("empty", ""),
        ("text", "Grüße, 顔"),
    ),
)


def mqtt_5(trial: Trial) -> Finding:
    """Connect, and keep what the broker announces."""
    with trial.client(1) as client:
        trial.granted = client.granted
    return Answer.YES, f"connected to {trial.endpoint}", "all that Facewire sends is MQTT 5"


def rights(trial: Trial) -> Finding:
    """Find out whether this client may publish and receive."""
    topic = trial.topic("rights")
    trial.receives = False
    with trial.client(1, topic) as client:
        client.publish(topic, b"x")
        trial.receives = bool(client.await_messages(1))
    if not trial.receives:
        answer = Answer.NOT_PERMITTED
        return answer, "accepted, but nothing arrives", f"let this client publish and read {trial.topic('#')}"
    return Answer.YES, f"publish and receive below {trial.topic()}", "the other answers are the broker's own"


def properties(trial: Trial) -> Finding:
    """Compare the user properties of a message before and after the broker."""
    arrived = _echo(trial, "properties", b"x", _PROPERTIES).properties
    sent, got = _PROPERTIES.user_properties, arrived.user_properties
    if got == sent:
        return Answer.YES, f"{len(sent)} arrived, in order", "a face keeps its attributes"
    if sorted(got) == sorted(sent):
        return Answer.YES, f"{len(sent)} arrived, in another order", "a face keeps its attributes"
    lost = [name for name, value in sent if (name, value) not in got]
    return Answer.NO, f"changed or lost: {', '.join(lost[:5]) or 'others were added'}", "a face loses its attributes"


def correlation_data(trial: Trial) -> Finding:
    """Compare the correlation data, and the content type."""
    arrived = _echo(trial, "correlation", b"x", _PROPERTIES).properties
    if arrived.correlation_data != _PROPERTIES.correlation_data:
        return Answer.NO, f"arrived as {arrived.correlation_data!r}", "receipts do not reach their faces"
    if arrived.content_type != _PROPERTIES.content_type:
        return Answer.NO, f"the content type arrived as {arrived.content_type!r}", "the sink does not know what it is"
    return Answer.YES, "unchanged, as is the content type", "receipts reach their faces"


def packet_of_128_kib(trial: Trial) -> Finding:
    """Send a packet as large as the largest with a face."""
    topic = trial.topic("large")
    overhead = 1 + 3 + 2 + len(topic) + 2 + len(_PROPERTIES.pack())
    payload = bytes(range(256)) * (FACE_PACKET_BYTES // 256)
    arrived = _echo(trial, "large", payload[: FACE_PACKET_BYTES - overhead], _PROPERTIES)
    if arrived.payload != payload[: FACE_PACKET_BYTES - overhead]:
        return Answer.NO, "the payload has changed", "faces arrive damaged"
    return Answer.YES, f"{FACE_PACKET_BYTES} bytes arrived unchanged", "every face fits"


def topic_levels(trial: Trial) -> Finding:
    """Send to a topic of 8 levels; Facewire's own have at most 5."""
    levels = trial.topic("levels").count("/") + 1
    topic = trial.topic("levels", *(str(number) for number in range(levels + 1, _LEVELS + 1)))
    wildcard = trial.topic("+", "#")
    with trial.client(1, wildcard) as client:
        trial.require_reading()
        client.publish(topic, b"x")
        if not client.await_messages(1):
            return Answer.NO, "nothing arrives through wildcards", "the sink cannot subscribe to all devices"
    return Answer.YES, f"{_LEVELS} levels, and filters with + and #", "the sink subscribes to all devices at once"


def qos_2(trial: Trial) -> Finding:
    """Send a message at QoS 2."""
    if trial.granted.max_qos < 2:
        return Answer.NO, f"at most QoS {trial.granted.max_qos}", "MQTT_QOS=2 is not possible, and not needed"
    arrived = _echo(trial, "qos2", b"x", Properties(), qos=2)
    if arrived.qos != 2:
        return Answer.PARTLY, f"arrived at QoS {arrived.qos}", "MQTT_QOS=2 has no use"
    return Answer.YES, "arrived at QoS 2", "MQTT_QOS=2 is possible, and not needed"


def no_subscriber(trial: Trial) -> Finding:
    """Publish where nobody has subscribed, and as a comparison where somebody has."""
    with trial.client(1, trial.topic("heard")) as client:
        heard = client.publish(trial.topic("heard"), b"x")
        unheard = client.publish(trial.topic("unheard"), b"x")
    if unheard == NO_MATCHING_SUBSCRIBERS and heard == SUCCESS:
        return Answer.YES, "0x10", "the forwarder sends no face before a sink has subscribed"
    if unheard == NO_MATCHING_SUBSCRIBERS:
        return Answer.PARTLY, "0x10, whether somebody has subscribed or not", "RECEIPTS=sink waits for ever"
    meaning = "without a sink, faces are sent and discarded; the outbox sends them again"
    return Answer.NO, f"answers 0x{unheard:02x}, or somebody has subscribed to everything", meaning


def refusals(trial: Trial) -> Finding:
    """Publish to a topic that a broker with rules would not permit."""
    topic = f"facewire-check/{trial.topic().rpartition('/')[2]}/forbidden"
    not_told = "a face that the broker refuses counts as delivered to it; its outbox sends it again"
    with trial.client(1) as client:
        try:
            code = client.publish(topic, b"x")
        except Refused as error:
            return Answer.YES, str(error), "the forwarder logs what the broker refuses"
        except LinkLost as error:
            return Answer.NO, f"the broker disconnects: {error}", "one refused message costs the connection"
    try:
        with trial.client(1, topic) as client:
            client.publish(topic, b"x")
            is_delivered = bool(client.settle())
    except Refused:
        is_delivered = False
    if is_delivered:
        return Answer.UNKNOWN, f"the broker permits {topic.partition('/')[0]}/#", "this client may do anything"
    return Answer.UNKNOWN, f"answers 0x{code:02x}; delivered to nobody", not_told


def expiry(trial: Trial) -> Finding:
    """Let a message expire while its subscriber is away."""
    topic = trial.topic("expiry")
    trial.require_reading()
    with trial.client(1) as publisher:
        trial.client(2, topic, session_seconds=60).close()
        publisher.publish(topic, b"short", properties=Properties(message_expiry_seconds=1))
        publisher.publish(topic, b"long", properties=Properties(message_expiry_seconds=600))
        time.sleep(2.0)  # until it has expired
        with trial.client(2, topic, session_seconds=60) as subscriber:
            arrived = subscriber.settle()
        trial.client(2).close()
    payloads = [message.payload for message in arrived]
    left = next((message.properties.message_expiry_seconds for message in arrived if message.payload == b"long"), None)
    if b"long" not in payloads:
        return Answer.UNKNOWN, "no message was kept", "see «session»"
    if b"short" in payloads:
        return Answer.NO, "an expired message was delivered", "old probes reach the sink, which ignores them"
    return Answer.YES, f"not delivered; the other one had {left} of 600 s left", "probes and old status disappear"


def _echo(trial: Trial, name: str, payload: bytes, sent: Properties, *, qos: int = 1) -> Message:
    """Publish a message and return it as it arrives."""
    topic = trial.topic(name)
    with trial.client(1, topic) as client:
        client.publish(topic, payload, qos=qos, properties=sent)
        trial.require_reading()
        return _first(client)


def _first(client: CheckClient) -> Message:
    arrived = client.await_messages(1)
    if not arrived:
        raise CannotTell(Answer.NO, client.end_reason or "accepted, but it did not arrive")
    return arrived[0]


CHECKS = (
    Check("MQTT 5", mqtt_5, is_required=True, failed="Facewire needs MQTT 5"),
    Check("rights", rights, is_required=True, failed="nothing can be sent"),
    Check("user properties", properties, is_required=True, failed="a face is not carried"),
    Check("correlation data", correlation_data, is_required=True, failed="a face is not carried"),
    Check("packets of 128 KiB", packet_of_128_kib, is_required=True, failed="large faces are refused"),
    Check("topics and wildcards", topic_levels, is_required=True, failed="the sink cannot subscribe"),
    Check("QoS 2", qos_2, failed="MQTT_QOS=2 is not possible, and not needed"),
    Check("no subscriber is told", no_subscriber, failed="see «rights»"),
    Check("refusals are told", refusals, failed="see «rights»"),
    Check("message expiry", expiry, failed="old probes reach the sink, which ignores them"),
)
