"""The sink's Prometheus metrics."""

from collections.abc import Iterable

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from cloud.s3sink.sink import Sink
from wire.mqtt.certificate_expiry import expiry_metric


class SinkCollector(Collector):
    """Collects the metrics of a sink. The bucket keeps the histogram of write times itself."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def collect(self) -> Iterable[Metric]:
        """Return every metric."""
        counts = self._sink.results.counts
        for name, meaning, value in (
            ("facewire_objects_written_total", "Faces and other images written to S3.", counts.written),
            ("facewire_objects_already_there_total", "Messages whose object existed already.", counts.already_there),
            ("facewire_objects_quarantined_total", "Messages put into quarantine.", counts.quarantined),
            (
                "facewire_objects_refused_total",
                "Messages that S3 will never accept, or whose key has another object. They got no receipt.",
                counts.refused,
            ),
            (
                "facewire_messages_damaged_total",
                "Faces that had changed on the way. They are in quarantine and got no receipt.",
                counts.damaged,
            ),
            (
                "facewire_messages_handed_back_total",
                "Messages that S3 did not accept while it accepted others. They got no receipt.",
                counts.handed_back,
            ),
            ("facewire_messages_dropped_total", "QoS 0 messages dropped from a full queue.", counts.dropped),
            (
                "facewire_messages_turned_away_total",
                "Messages turned away because their device's queue was full.",
                counts.turned_away,
            ),
            (
                "facewire_messages_over_budget_total",
                "Messages turned away because their device had used up its budget.",
                counts.over_budget,
            ),
            (
                "facewire_messages_over_budget_lost_total",
                "Those of them that are lost, because their publisher keeps no copy.",
                counts.over_budget_lost,
            ),
        ):
            yield CounterMetricFamily(name, meaning, value=value)
        loudest = GaugeMetricFamily(
            "facewire_loudest_device_messages",
            "Messages of the device that sent most of what was turned away or put into quarantine in the last 10 s.",
            labels=["device"],
        )
        if (share := self._sink.results.loudest.latest) is not None:
            loudest.add_metric([share.device], share.count)
        yield loudest
        yield GaugeMetricFamily(
            "facewire_writes_underway", "Messages received and not yet acknowledged.", value=self._sink.underway
        )
        yield GaugeMetricFamily(
            "facewire_writes_underway_bytes", "Memory of these messages.", value=self._sink.underway_bytes
        )
        yield GaugeMetricFamily(
            "facewire_s3_concurrency", "Maximum number of concurrent writes at present.", value=self._sink.concurrency
        )
        link = GaugeMetricFamily("facewire_link_up", "Whether the broker is connected.", labels=["broker"])
        link.add_metric(["cloud"], self._sink.connected)
        yield link
        yield expiry_metric(self._sink.certificate)
