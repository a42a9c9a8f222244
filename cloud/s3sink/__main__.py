"""``python -m cloud.s3sink``: write faces to S3 until asked to stop."""

import os
from collections.abc import Mapping

import structlog

from cloud.s3sink.bucket import Bucket
from cloud.s3sink.settings import SinkSettings
from cloud.s3sink.sink import Sink
from wire.process import Stop, leave, run


def main(environ: Mapping[str, str], stop: Stop) -> None:
    """Parse the settings, log them, see whether the bucket is there and write."""
    settings = SinkSettings.from_environment(environ)
    settings.configure_logging()
    structlog.get_logger("s3sink").info("starting", **settings.resolved())
    bucket = Bucket(settings.s3_bucket, settings.s3_concurrency, stop)
    bucket.check()
    Sink(settings, bucket, stop).run()


if __name__ == "__main__":
    leave(run(main, os.environ))
