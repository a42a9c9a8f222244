"""``python -m edge.forwarder``: forward messages between the two brokers until asked to stop."""

import os
import sys

from prometheus_client import CollectorRegistry

from edge.forwarder.forwarder import Forwarder
from edge.forwarder.health import health_problem
from edge.forwarder.metrics import ForwarderCollector
from edge.forwarder.settings import ForwarderSettings
from wire.mqtt.broker_check import try_broker
from wire.process import health, metrics
from wire.process.command import Check, Program
from wire.process.lifecycle import Stop, exit_now


def main(settings: ForwarderSettings, stop: Stop) -> None:
    """Run the forwarder."""
    registry = CollectorRegistry()
    forwarder = Forwarder(settings, stop, registry)
    registry.register(ForwarderCollector(forwarder))
    metrics.serve(settings.metrics_host, settings.metrics_port, registry)
    health.write_regularly("forwarder", lambda: health_problem(forwarder), stop)
    forwarder.run()


def checks(settings: ForwarderSettings) -> list[Check]:
    """Return the checks of ``--check``: both brokers."""
    return [
        Check("local broker", lambda: try_broker(settings.local_endpoint())),
        Check("cloud broker", lambda: try_broker(settings.cloud_endpoint(), settings.device_id)),
    ]


PROGRAM = Program(
    "edge.forwarder",
    "Forwards faces and status from the local broker to the cloud broker, and receipts back.",
    ForwarderSettings,
    main,
    checks,
)

if __name__ == "__main__":
    exit_now(PROGRAM.run(sys.argv[1:], os.environ))
