"""The authority's metrics and its health."""

from cloud.pki.authority import Authority
from cloud.pki.renewal import Renewal
from wire.mqtt.certificate_expiry import Expiry
from wire.process.metrics import Metric, gauge

EXPIRES = "facewire_certificate_expires_timestamp_seconds"


def metrics_of(authority: Authority) -> list[Metric]:
    """Return what Prometheus is told of ``authority``; each device's forwarder tells of its own certificate."""
    broker, sink = (Expiry(path) for path in authority.own_certificates)
    return [
        gauge(EXPIRES, "When a certificate expires.", lambda: broker.timestamp, certificate="broker"),
        gauge(EXPIRES, "When a certificate expires.", lambda: sink.timestamp, certificate="sink"),
    ]


def health_problem(renewal: Renewal) -> str | None:
    """Return what hinders ``keeper``; None where it makes progress."""
    return renewal.problem and f"cannot look after the certificates: {renewal.problem}"
