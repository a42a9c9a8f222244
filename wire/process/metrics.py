"""Serves Prometheus metrics over HTTP if ``METRICS_PORT`` is set.

Each process has its own collector, in its module ``metrics``. The collector reads the counters of the process when
Prometheus requests them.
"""

from prometheus_client import CollectorRegistry, start_http_server

from wire.errors import ConfigurationError


def serve(port: int | None, registry: CollectorRegistry) -> None:
    """Serve the metrics of ``registry`` on ``port`` in a thread. If ``port`` is None, do nothing.

    Raises:
        ConfigurationError: the port is already in use.
    """
    if port is None:
        return
    try:
        start_http_server(port, registry=registry)
    except OSError as error:
        raise ConfigurationError(f"METRICS_PORT is '{port}': expected a free port ({error.strerror})") from None
