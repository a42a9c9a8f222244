"""The table of attacks. Each is a function that runs until the broker ends its connection, and is then called again."""

import contextlib
import itertools
from collections.abc import Callable, Iterator
from functools import partial

from tests.thief import ways_of_connecting, ways_of_publishing, ways_of_subscribing
from tests.thief.faces import small_faces
from tests.thief.link import Thief

Way = Callable[[Thief], None]
Stream = Callable[[Thief], Iterator[bytes]]

_PAUSE_SECONDS = 0.02
"""Time for the broker to read what was sent before the connection is closed."""


def _send(stream: Stream, *, reads: bool = True, stays: bool = False) -> Way:
    """Return an attack that sends a stream of packets on one connection."""
    return lambda thief: thief.connect(reads=reads, stays=stays).send_all(stream(thief))


def _send_each(*streams: Stream) -> Way:
    """Return an attack that sends short streams, each on a connection of its own."""

    def attack(thief: Thief) -> None:
        for stream in itertools.cycle(streams):
            with contextlib.suppress(OSError):
                link = thief.connect()
                link.send_all(stream(thief))
                thief.pause(_PAUSE_SECONDS)
                link.close()

    return attack


_STREAMS: dict[str, Stream] = {
    "filters": ways_of_subscribing.deep_filters,
    "filters-again": ways_of_subscribing.allowed_filter,
    "unsubscribes": ways_of_subscribing.unsubscribes,
    "pings": ways_of_connecting.pings,
    "properties-0": partial(ways_of_publishing.many_properties, qos=0),
    "properties-1": partial(ways_of_publishing.many_properties, qos=1),
    "properties-2": partial(ways_of_publishing.many_properties, qos=2),
    "large-qos-0": partial(ways_of_publishing.large_messages, qos=0),
    "large-qos-1": partial(ways_of_publishing.large_messages, qos=1),
    "large-qos-2": partial(ways_of_publishing.large_messages, qos=2),
    "tiny-qos-0": partial(ways_of_publishing.tiny_messages, qos=0),
    "tiny-qos-1": partial(ways_of_publishing.tiny_messages, qos=1),
    "junk": ways_of_publishing.junk,
    "faces": small_faces,
    "same-face": ways_of_publishing.the_same_face,
    "statuses": ways_of_publishing.statuses,
    "long-topics": ways_of_publishing.long_topics,
    "foreign-topics": ways_of_publishing.foreign_topics,
}


def _send_mixture(thief: Thief, *, forwarder: bool) -> None:
    """Send a packet of each stream in turn, with one of the two client ids."""
    streams = [stream(thief) for stream in _STREAMS.values()]
    link = thief.connect(forwarder=forwarder, stays=True)
    link.send_all(next(stream) for stream in itertools.cycle(streams))


WAYS: dict[str, Way] = {
    **{name: _send(stream, stays=True) for name, stream in _STREAMS.items()},
    "never-reads": _send(ways_of_subscribing.faces_and_receipts, reads=False),
    "never-acknowledges": _send(ways_of_subscribing.faces_and_receipts, stays=True),
    "absent": ways_of_subscribing.be_absent,
    "escapes": _send_each(*(partial(ways_of_publishing.forged_texts, text=text) for text in ways_of_publishing.TEXTS)),
    "aliases": _send_each(*(partial(ways_of_publishing.aliases, last=last) for last in (0, 11, 65535))),
    "retained": _send_each(ways_of_publishing.retained),
    "idle-sockets": ways_of_connecting.open_idle_sockets,
    "half-connects": ways_of_connecting.send_half_of_connect,
    "handshakes": ways_of_connecting.make_handshakes,
    "reconnects": ways_of_connecting.reconnect,
    "wills": ways_of_connecting.leave_large_wills,
    "wills-of-faces": ways_of_connecting.leave_faces_as_wills,
    "long-names": ways_of_connecting.send_long_names,
    "malformed": ways_of_connecting.send_malformed_packets,
    "oversized": ways_of_connecting.send_oversized_packets,
    "auth": ways_of_connecting.send_auth,
    "mixture": partial(_send_mixture, forwarder=False),
    "mixture-2": partial(_send_mixture, forwarder=True),
}
AT_ONCE = ("mixture", "mixture-2", "idle-sockets", "half-connects", "handshakes", "long-names", "auth")
"""The ways of the attack in all ways at once. The others would end the connection of the mixture."""
QUICK = ("filters", "half-connects", "properties-1", "large-qos-0", "long-topics", "junk", "reconnects")
"""The ways that broke the most, each in another manner."""
NAMELESS = ("idle-sockets", "handshakes", "half-connects")
"""The ways in which the thief sends no CONNECT, and perhaps no certificate. Then the logs tell its address."""
