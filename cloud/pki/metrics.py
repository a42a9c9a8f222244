"""The authority's Prometheus metrics."""

from collections.abc import Iterable

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from cloud.pki.authority import Authority
from wire.mqtt.certificate_expiry import CertificateExpiry


class AuthorityCollector(Collector):
    """Collects when the certificates of the broker and of the sink expire.

    Each device reports its own certificate, through its forwarder.
    """

    def __init__(self, authority: Authority) -> None:
        names = ("broker", "sink")
        self._certificates = dict(zip(names, map(CertificateExpiry, authority.service_certificates), strict=True))

    def collect(self) -> Iterable[Metric]:
        """Return the one metric, with a label for each certificate."""
        expires = GaugeMetricFamily(
            "facewire_certificate_expires_timestamp_seconds", "When a certificate expires.", labels=["certificate"]
        )
        for name, certificate in self._certificates.items():
            expires.add_metric([name], certificate.timestamp)
        yield expires
