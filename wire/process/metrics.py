"""Serves Prometheus metrics over HTTP where ``METRICS_PORT`` is set.

Each process has a collector of its own, in its module ``metrics``. A collector reads the counts of the process when
Prometheus asks for them.
"""

from prometheus_client import CollectorRegistry, start_http_server

from wire.errors import ConfigurationError


def serve(port: int | None, registry: CollectorRegistry) -> None:
    """Serve the metrics of ``registry`` on ``port``, in a thread; None: do not serve them.

    Raises:
        ConfigurationError: another process uses the port.
    """
    if port is None:
        return
    try:
        start_http_server(port, registry=registry)
    except OSError as error:
        raise ConfigurationError(f"METRICS_PORT is '{port}': expected a port that is free ({error.strerror})") from None
