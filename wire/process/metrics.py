"""Prometheus metrics, served over HTTP by prometheus-client where ``METRICS_PORT`` is set.

A process keeps its own counts; a metric only says where to look when somebody asks.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from wire.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Metric:
    """One number of a process, or one for each value of a label."""

    name: str
    """By Prometheus's conventions: the unit in plural behind it, ``_total`` for a counter."""
    kind: Literal["counter", "gauge"]
    help: str
    value: Callable[[], float]
    label: tuple[str, str] | None = None
    """A label's name and value."""


def counter(name: str, meaning: str, value: Callable[[], float], **label: str) -> Metric:
    """Return a metric that only grows; ``label`` is none or one."""
    return Metric(name, "counter", meaning, value, next(iter(label.items()), None))


def gauge(name: str, meaning: str, value: Callable[[], float], **label: str) -> Metric:
    """Return a metric that comes and goes; ``label`` is none or one."""
    return Metric(name, "gauge", meaning, value, next(iter(label.items()), None))


def serve(port: int | None, metrics: Iterable[Metric], registry: CollectorRegistry) -> None:
    """Serve ``metrics`` and what else is in ``registry`` on ``port``, in a thread; None: not at all.

    Raises:
        ConfigurationError: somebody else has the port.
    """
    registry.register(_Counts(list(metrics)))
    if port is None:
        return
    try:
        start_http_server(port, registry=registry)
    except OSError as error:
        raise ConfigurationError(f"METRICS_PORT is '{port}': expected a port that is free ({error.strerror})") from None


class _Counts(Collector):
    """Reads the counts at the moment when Prometheus asks."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Family]:
        """Return each metric once, with all its labels."""
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        for metric in self._metrics:
            if metric.name not in families:
                family = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
                labels = [metric.label[0]] if metric.label else None
                families[metric.name] = family(metric.name, metric.help, labels=labels)
            families[metric.name].add_metric([metric.label[1]] if metric.label else [], metric.value())
        return families.values()
