"""The forwarder's Prometheus metrics."""

from collections.abc import Iterable
from functools import partial

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from edge.forwarder.forwarder import Forwarder
from wire.mqtt.certificate_expiry import expiry_metric


class ForwarderCollector(Collector):
    """Collects the metrics of a forwarder."""

    def __init__(self, forwarder: Forwarder) -> None:
        self._forwarder = forwarder

    def collect(self) -> Iterable[Metric]:
        """Return every metric."""
        labels = ["direction"]
        counter = partial(CounterMetricFamily, labels=labels)
        forwarded = counter("facewire_messages_forwarded_total", "Messages accepted by the other broker.")
        refused = counter("facewire_messages_refused_total", "Messages refused by the other broker.")
        dropped = counter("facewire_messages_dropped_total", "QoS 0 messages dropped while the link was down.")
        copies = counter(
            "facewire_messages_copies_total", "Copies of a message that was still held, which were not forwarded."
        )
        held = GaugeMetricFamily("facewire_messages_held", "Messages received and not yet acknowledged.", labels=labels)
        held_bytes = GaugeMetricFamily(
            "facewire_messages_held_bytes", "Size of the messages received and not yet acknowledged.", labels=labels
        )
        for direction, relay in (("up", self._forwarder.up), ("down", self._forwarder.down)):
            forwarded.add_metric([direction], relay.counts.forwarded)
            refused.add_metric([direction], relay.counts.refused)
            dropped.add_metric([direction], relay.counts.dropped)
            copies.add_metric([direction], relay.counts.copies)
            held.add_metric([direction], relay.unacknowledged)
            held_bytes.add_metric([direction], relay.held_bytes)
        link = GaugeMetricFamily("facewire_link_up", "Whether the broker is connected.", labels=["broker"])
        link.add_metric(["local"], self._forwarder.local.connected)
        link.add_metric(["cloud"], self._forwarder.cloud.connected)
        window = GaugeMetricFamily(
            "facewire_window_bytes",
            "Size of the congestion window towards the cloud. Two messages may always be under way.",
            value=self._forwarder.up.window.bytes,
        )
        expiry = expiry_metric(self._forwarder.certificate)
        return (forwarded, refused, dropped, copies, held, held_bytes, link, window, expiry)
