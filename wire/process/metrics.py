"""Serves Prometheus metrics over HTTP if ``METRICS_PORT`` is set.

Each process has its own collector, in its module ``metrics``. The collector reads the counters of the process when
Prometheus requests them.
"""

from prometheus_client import CollectorRegistry, start_http_server

from wire.errors import ConfigurationError


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
