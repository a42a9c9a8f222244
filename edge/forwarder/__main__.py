"""``python -m edge.forwarder``: forward until asked to stop."""

import os
from collections.abc import Mapping

import structlog

from edge.forwarder.forwarder import Forwarder
from edge.forwarder.settings import ForwarderSettings
from wire.process import Stop, leave, run


def main(environ: Mapping[str, str], stop: Stop) -> None:
    """Parse the settings, log them and forward."""
    settings = ForwarderSettings.from_environment(environ)
    settings.configure_logging()
    structlog.get_logger("forwarder").info("starting", **settings.resolved())
    Forwarder(settings, stop).run()


if __name__ == "__main__":
    leave(run(main, os.environ))
