"""Checks of connections and sessions: limits, the last will, and who may have which client id."""

import secrets

from wire.check_broker.client import KEEPALIVE_SECONDS, CheckClient
from wire.check_broker.row import Answer
from wire.check_broker.trial import CannotTell, Check, Finding, Trial
from wire.errors import LinkLost, Refused
from wire.mqtt.connect_options import Will
from wire.mqtt.properties import Properties
from wire.mqtt.publications import MAX_UNANSWERED

_SESSION_SECONDS = 60
_MESSAGES = 30
_RECEIVE_MAXIMUM = 5
USEFUL_RECEIVE_MAXIMUM = 64
"""The default of OUTBOX_WINDOW: a detector has no more faces under way."""


def packet_limit(trial: Trial) -> Finding:
    """Tell the largest packet that the broker announces."""
    limit = trial.granted.max_packet_bytes
    if limit == 0:
        return Answer.NO, "none announced", "if there is one, larger messages may cost the connection"
    return Answer.YES, f"{limit} bytes", "the forwarder refuses larger messages itself"


def brokers_receive_maximum(trial: Trial) -> Finding:
    """Tell how many messages the broker takes without having answered them."""
    limit = trial.granted.receive_maximum
    meaning = "the forwarder keeps to it"
    if limit == MAX_UNANSWERED:
        return Answer.YES, "none announced, so 65535", meaning
    if limit < USEFUL_RECEIVE_MAXIMUM:
        return Answer.PARTLY, f"{limit} messages", f"{meaning}, and sends no more than {limit} faces per round trip"
    return Answer.YES, f"{limit} messages", meaning


def clients_receive_maximum(trial: Trial) -> Finding:
    """Receive without acknowledging, and count."""
    topic, limit = trial.topic("window"), _RECEIVE_MAXIMUM
    trial.require_reading()
    with trial.client(1) as publisher, trial.client(2, topic, receive_maximum=limit) as subscriber:
        subscriber.acknowledges = False
        publisher.publish_many(topic, [b"%d" % number for number in range(_MESSAGES)])
        subscriber.await_messages(limit)
        first = subscriber.settle()
        if first:
            subscriber.acknowledge(first[0])
        second = subscriber.settle()
    if not first:
        raise CannotTell(Answer.NO, "nothing arrived")
    if len(first) > limit:
        return Answer.NO, f"{len(first)} sent, {limit} allowed", "the sink's queues bound what it holds"
    if len(second) > limit + 1:
        more = len(second) - len(first)
        return Answer.PARTLY, f"{more} more after one acknowledgement", "the sink's queues bound what it holds"
    return Answer.YES, f"{limit} sent, {limit} allowed", "the sink gets no more than it asks for"


def session(trial: Trial) -> Finding:
    """End a client as if it had been killed, publish, and connect it again."""
    topic = trial.topic("session")
    trial.require_reading()
    with trial.client(1) as publisher:
        trial.client(2, topic, session_seconds=_SESSION_SECONDS).abort()
        publisher.publish_many(topic, [b"1", b"2", b"3"])
        with trial.client(2, topic, session_seconds=_SESSION_SECONDS) as subscriber:
            kept = subscriber.settle()
            granted = subscriber.granted
        trial.client(2).close()
    limit = granted.session_expiry_seconds
    noted = "" if limit is None else f"; at most {limit} s"
    if not granted.is_session_present:
        meaning = "what other publishers send while the sink is away is lost; outboxes send faces again"
        return Answer.NO, "not resumed", meaning
    payloads = sorted({message.payload for message in kept})
    if payloads != [b"1", b"2", b"3"]:
        meaning = "what other publishers send while the sink is away may be lost; outboxes send faces again"
        return Answer.PARTLY, f"resumed with {len(payloads)} of 3 messages{noted}", meaning
    return Answer.YES, f"resumed with its messages{noted}", "the sink gets what came while it was away"


def redelivery(trial: Trial) -> Finding:
    """Receive without acknowledging, end as if killed, and connect again."""
    topic = trial.topic("again")
    trial.require_reading()
    with trial.client(1) as publisher:
        subscriber = trial.client(2, topic, session_seconds=_SESSION_SECONDS)
        subscriber.acknowledges = False
        publisher.publish_many(topic, [b"1", b"2", b"3"])
        subscriber.await_messages(3)
        subscriber.abort()
        with trial.client(2, topic, session_seconds=_SESSION_SECONDS) as subscriber:
            again = {message.payload for message in subscriber.await_messages(3)}
        trial.client(2).close()
    if len(again) < 3:
        return Answer.NO, f"{len(again)} of 3", "what a killed process holds is lost; outboxes send faces again"
    return Answer.YES, "3 of 3", "what a killed process holds is delivered again"


def last_will(trial: Trial) -> Finding:
    """End a client with a last will as if it had been killed."""
    topic = trial.topic("will")
    trial.require_reading()
    properties = Properties("text/plain", None, (("name", "value"),))
    will = Will(topic, b"offline", retain=False, properties=properties, delay_seconds=1)
    with trial.client(1, topic) as watcher:
        trial.client(2, will=will, session_seconds=_SESSION_SECONDS).abort()  # as a forwarder
        arrived = watcher.await_messages(1)
        if not arrived:
            trial.client(2).close()
            return (
                Answer.NO,
                "not sent when a connection is lost",
                "a device that is gone shows as offline when its status is too old",
            )
        trial.client(2, will=will, session_seconds=_SESSION_SECONDS).close()
        both = watcher.await_messages(2)
        trial.client(2).close()
    if len(both) < 2:
        return (
            Answer.PARTLY,
            "not sent after DISCONNECT with reason 0x04",
            "a device that is stopped shows as offline when its status is too old",
        )
    if arrived[0].properties != will.properties:
        return Answer.YES, "sent, without its properties", "it shows that a device is gone"
    return Answer.YES, "sent, with its properties", "it shows that a device is gone"


def second_client(trial: Trial) -> Finding:
    """Connect two clients with different ids at the same time."""
    with trial.client(1) as first:
        try:
            second = trial.client(2)
        except (Refused, LinkLost) as error:
            trial.has_many_clients = False
            meaning = "an id belongs to a certificate or an account, and nobody takes over another's session"
            return Answer.NOT_PERMITTED, f"{trial.id_of(2)}: {error}", meaning
        with second:
            first_has_ended = _is_alone(first, second)
    if first_has_ended:
        trial.has_many_clients = False
        return Answer.NOT_PERMITTED, "the second ends the first", "the broker takes the client id from the certificate"
    return Answer.YES, "connected at the same time", "one certificate or account may have many clients"


def client_id_and_certificate(trial: Trial) -> Finding:
    """Connect with a client id that no rule can know."""
    certificate = trial.endpoint.tls is not None and trial.endpoint.tls.cert_file is not None
    with_what = "certificate" if certificate else "account" if trial.endpoint.username else "address"
    name = f"another-{secrets.token_hex(6)}"
    try:
        with CheckClient(trial.endpoint, name) as client:
            given = client.granted.client_id
    except (Refused, LinkLost) as error:
        return Answer.YES, f"{error}", "nobody takes over the session of another client"
    if given:
        return Answer.YES, f"the broker gives the id {given}", "nobody takes over the session of another client"
    if not trial.has_many_clients:
        raise CannotTell(Answer.YES, "the broker replaces the client id")
    meaning = "whoever may connect may end another's session: bind ids to certificates at the broker if you can"
    return Answer.NO, f"any client id with the same {with_what}", meaning


def takeover(trial: Trial) -> Finding:
    """Connect twice with the same client id."""
    with trial.client(1) as first, trial.client(1):
        if not first.await_end():
            return Answer.NO, "both stay connected", "a forwarder that hangs keeps its session from the next one"
        return Answer.YES, "the older connection ends", "a restarted process gets its session at once"


def retained(trial: Trial) -> Finding:
    """Publish a retained message and remove it."""
    topic = trial.topic("retained")
    if not trial.granted.has_retained:
        return Answer.NO, "announced as not available", "not needed: nothing is retained in the cloud"
    trial.require_reading()
    with trial.client(1) as publisher:
        publisher.publish(topic, b"x", retain=True)
        try:
            with trial.client(2 if trial.has_many_clients else 1, topic) as subscriber:
                is_kept = bool(subscriber.settle())
        finally:
            if publisher.end_reason is None:
                publisher.publish(topic, b"", retain=True)
    if not is_kept:
        return Answer.NO, "not kept", "not needed: nothing is retained in the cloud"
    return Answer.YES, "kept", "not needed: nothing is retained in the cloud"


def keepalive(trial: Trial) -> Finding:
    """Tell the keepalive that the broker asks for."""
    seconds = trial.granted.keepalive_seconds
    if seconds is None:
        return Answer.YES, "as the client asks", "a face may take long on a thin link"
    if seconds < KEEPALIVE_SECONDS:
        return Answer.PARTLY, f"{seconds} s", "on a thin link a large face may take longer: see docs/brokers.md"
    return Answer.YES, f"{seconds} s", "a face may take long on a thin link"


def _is_alone(first: CheckClient, second: CheckClient) -> bool:
    """Return whether only the second of two clients is connected."""
    first.settle()
    return first.end_reason is not None and second.end_reason is None


FIRST_CHECKS = (
    Check("two clients at once", second_client, failed="the broker permits one connection"),
    Check("client id and certificate", client_id_and_certificate, failed="nobody takes over another's session"),
    Check("same client id twice", takeover, failed="a restarted process may wait for its session"),
)
CHECKS = (
    Check("maximum packet size", packet_limit),
    Check("broker's receive maximum", brokers_receive_maximum),
    Check("client's receive maximum", clients_receive_maximum, failed="the sink's queues bound what it holds"),
    Check("keepalive", keepalive),
    Check("session", session, failed="what other publishers send while the sink is away is lost"),
    Check("delivered again", redelivery, failed="what a killed process holds is lost; outboxes send faces again"),
    Check("last will", last_will, failed="a device that is gone shows as offline when its status is too old"),
    Check("retained messages", retained, failed="not needed: nothing is retained in the cloud"),
)
