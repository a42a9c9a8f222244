"""``python -m edge.forwarder``: forward messages between the brokers until asked to stop."""

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
from wire.process.lifecycle import Stop, leave


def main(settings: ForwarderSettings, stop: Stop) -> None:
    """Connect to both brokers and forward."""
    forwarder = Forwarder(settings, stop)
    registry = CollectorRegistry()
    registry.register(ForwarderCollector(forwarder))
    metrics.serve(settings.metrics_port, registry)
    health.write_regularly("forwarder", lambda: health_problem(forwarder), stop)
    forwarder.run()


def checks(settings: ForwarderSettings) -> list[Check]:
    """Return what ``--check`` tries: both brokers."""
    return [
        Check("local broker", lambda: try_broker(settings.local_endpoint())),
        Check("cloud broker", lambda: try_broker(settings.cloud_endpoint())),
    ]


PROGRAM = Program(
    "edge.forwarder",
    "Forwards faces and status from the local broker to the cloud's broker, and receipts back.",
    ForwarderSettings,
    main,
    checks,
)

if __name__ == "__main__":
    leave(PROGRAM.run(sys.argv[1:], os.environ))
