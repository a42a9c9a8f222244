"""``python -m edge.forwarder``: forward until asked to stop."""

import os
from collections.abc import Mapping

import structlog
from prometheus_client import CollectorRegistry

from edge.forwarder.forwarder import Forwarder
from edge.forwarder.metrics import health_problem, metrics_of
from edge.forwarder.settings import ForwarderSettings
from wire.process import health, metrics
from wire.process.lifecycle import Stop, leave, run


def main(environ: Mapping[str, str], stop: Stop) -> None:
    """Parse the settings, log them and forward."""
    settings = ForwarderSettings.from_environment(environ)
    settings.configure_logging()
    structlog.get_logger("forwarder").info("starting", **settings.resolved())
    forwarder = Forwarder(settings, stop)
    metrics.serve(settings.metrics_port, metrics_of(forwarder), CollectorRegistry())
    health.write_regularly("forwarder", lambda: health_problem(forwarder), stop)
    forwarder.run()


if __name__ == "__main__":
    leave(run(main, os.environ))
