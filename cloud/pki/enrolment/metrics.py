"""The enrolment service's Prometheus metrics."""

from collections.abc import Iterable

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from cloud.pki.enrolment.service import ISSUED, UNFINISHED, Service
from wire.enrolment.messages import Refusal

RESULTS = (ISSUED, *Refusal, UNFINISHED)


class EnrolmentCollector(Collector):
    """Collects what became of the connections."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterable[Metric]:
        """Return both metrics."""
        connections = CounterMetricFamily(
            "facewire_enrolment_connections_total", "Connections by what became of them.", labels=["result"]
        )
        for result in RESULTS:
            connections.add_metric([result], self._service.results[result])
        yield connections
        yield GaugeMetricFamily(
            "facewire_enrolment_listening", "1 while a code is valid.", int(self._service.is_listening)
        )
