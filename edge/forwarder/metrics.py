"""The forwarder's metrics and its health."""

from edge.forwarder.forwarder import Forwarder
from edge.forwarder.relay import Relay
from wire.mqtt.certificate_expiry import certificate_expires
from wire.mqtt.session import Session
from wire.process.metrics import Metric, counter, gauge


def metrics_of(forwarder: Forwarder) -> list[Metric]:
    """Return what Prometheus is told of ``forwarder``."""
    return [
        *_metrics_of_lane("up", forwarder.up),
        *_metrics_of_lane("down", forwarder.down),
        _link_up("local", forwarder.local),
        _link_up("cloud", forwarder.cloud),
        certificate_expires(forwarder.certificate),
    ]


def _metrics_of_lane(name: str, relay: Relay) -> list[Metric]:
    counts = relay.counts
    return [
        counter("facewire_messages_forwarded_total", "Messages taken over.", lambda: counts.forwarded, direction=name),
        counter("facewire_messages_refused_total", "Messages refused.", lambda: counts.refused, direction=name),
        counter("facewire_messages_dropped_total", "QoS 0 without a way on.", lambda: counts.dropped, direction=name),
        gauge("facewire_messages_held", "Messages not yet acknowledged.", lambda: relay.held, direction=name),
    ]


def _link_up(name: str, session: Session) -> Metric:
    return gauge("facewire_link_up", "Whether the link to a broker is up.", lambda: session.connected, broker=name)


def health_problem(forwarder: Forwarder) -> str | None:
    """Return what hinders ``forwarder``; None where it makes progress."""
    sessions = (("local", forwarder.local), ("cloud", forwarder.cloud))
    dead = [f"no link to the {name} broker" for name, session in sessions if not session.connected]
    return ", ".join(dead) or None
