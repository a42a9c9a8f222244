"""Serves Prometheus metrics over HTTP if ``METRICS_PORT`` is set.

Each process has its own collector, in its module ``metrics``. The collector reads the counters of the process when
Prometheus requests them.
"""

from prometheus_client import CollectorRegistry, start_http_server

from wire.errors import ConfigurationError

AGE_BUCKETS = (
    *(0.001, 0.0015, 0.002, 0.0025, 0.003, 0.004, 0.005, 0.006, 0.008),
    *(0.01, 0.0125, 0.015, 0.0175, 0.02, 0.025, 0.03, 0.04, 0.05, 0.06, 0.08),
    *(0.1, 0.125, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75),
    *(1, 2, 5, 10, 30, 60, 300, 3600, 86400),
)
"""Bounds of the buckets of a histogram of latencies, in seconds: close together up to a second, as most end there, and
far apart up to a day, for what waits while the link is down."""


def serve(host: str, port: int | None, registry: CollectorRegistry) -> None:
    """Serve the metrics of ``registry`` at ``host`` and ``port`` in a thread. If ``port`` is None, do nothing.

    Raises:
        ConfigurationError: the port is already in use, or the host is none of this machine.
    """
    if port is None:
        return
    try:
        server, _ = start_http_server(port, addr=host, registry=registry)
    except OSError as error:
        raise ConfigurationError(
            f"METRICS_PORT is '{port}', METRICS_HOST is '{host}': expected a free port at an address of this machine "
            f"({error.strerror})"
        ) from None
    # Otherwise whoever breaks a connection off writes a traceback on standard error.
    server.handle_error = lambda request, client_address: None  # type: ignore[method-assign]
