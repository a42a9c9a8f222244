"""The authority's Prometheus metrics."""

from collections import Counter
from collections.abc import Iterable

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from cloud.pki.authority import Authority
from cloud.pki.clients import Role
from wire.mqtt.certificate_expiry import CertificateExpiry


class AuthorityCollector(Collector):
    """Collects when the certificates of broker, sink and gallery expire, and how many certificates are in force.

    Each device reports when its own certificate expires, through its forwarder.
    """

    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        self._certificates = {role: CertificateExpiry(file) for role, file in authority.service_certificates.items()}

    def collect(self) -> Iterable[Metric]:
        """Return both metrics, each with a label."""
        expires = GaugeMetricFamily(
            "facewire_certificate_expires_timestamp_seconds", "When a certificate expires.", labels=["certificate"]
        )
        for role, certificate in self._certificates.items():
            expires.add_metric([role], certificate.timestamp)
        yield expires
        in_force = GaugeMetricFamily(
            "facewire_certificates_in_force", "Certificates that the broker admits.", labels=["role"]
        )
        counts = Counter(client.role for client in self._authority.clients())
        for role in Role:
            in_force.add_metric([role], counts[role])
        yield in_force
