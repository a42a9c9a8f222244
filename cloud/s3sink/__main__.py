"""``python -m cloud.s3sink``: write faces to S3 until asked to stop."""

import os
from collections.abc import Mapping

import structlog
from prometheus_client import CollectorRegistry

from cloud.s3sink.bucket import Bucket
from cloud.s3sink.metrics import health_problem, metrics_of
from cloud.s3sink.settings import SinkSettings
from cloud.s3sink.sink import Sink
from wire.process import health, metrics
from wire.process.lifecycle import Stop, leave, run


def main(environ: Mapping[str, str], stop: Stop) -> None:
    """Parse the settings, log them, see whether the bucket is there and write."""
    settings = SinkSettings.from_environment(environ)
    settings.configure_logging()
    structlog.get_logger("s3sink").info("starting", **settings.resolved())
    registry = CollectorRegistry()
    bucket = Bucket(settings, stop, registry)
    bucket.check()
    sink = Sink(settings, bucket, stop)
    metrics.serve(settings.metrics_port, metrics_of(sink), registry)
    health.write_regularly("s3sink", lambda: health_problem(sink, bucket), stop)
    sink.run()


if __name__ == "__main__":
    leave(run(main, os.environ))
