"""``python -m cloud.gallery``: show the faces in S3 in a browser until asked to stop."""

import os
import sys
from collections.abc import Iterator

from prometheus_client import CollectorRegistry

from cloud.gallery.bucket import Bucket
from cloud.gallery.gallery import Gallery
from cloud.gallery.health import health_problem
from cloud.gallery.metrics import GalleryCollector
from cloud.gallery.settings import GallerySettings
from cloud.gallery.web.access.access import Access
from cloud.gallery.web.access.guard import guard
from cloud.gallery.web.app import make_app
from cloud.gallery.web.server import serve
from wire.mqtt.broker_check import try_broker
from wire.process import health, metrics
from wire.process.command import Check, Program
from wire.process.lifecycle import Stop, exit_now, spawn

GALLERY_NAME = "facewire.gallery"
"""The name in the gallery's certificate."""


def main(settings: GallerySettings, stop: Stop) -> None:
    """Open the index, connect, and serve the page."""
    access = Access.from_settings(settings)
    gallery = Gallery(settings, stop)
    registry = CollectorRegistry()
    registry.register(GalleryCollector(gallery))
    metrics.serve(settings.metrics_host, settings.metrics_port, registry)
    health.write_regularly("gallery", lambda: health_problem(gallery), stop)
    gallery.start()
    spawn("state", gallery.run, stop)
    serve(guard(make_app(gallery), access), settings, stop)
    gallery.close()


def checks(settings: GallerySettings) -> Iterator[Check]:
    """Yield what ``--check`` tries: the cloud's broker and the bucket."""
    yield Check("cloud broker", lambda: try_broker(settings.cloud_endpoint(), GALLERY_NAME))
    yield Check("bucket", lambda: _try_bucket(settings))


def _try_bucket(settings: GallerySettings) -> str:
    count = sum(1 for _ in Bucket(settings).cameras())
    return f"{settings.s3_bucket} has faces of {count} cameras"


PROGRAM = Program(
    "cloud.gallery",
    "Shows the faces in S3 in a browser, as they arrive.",
    GallerySettings,
    main,
    checks,
)

if __name__ == "__main__":
    exit_now(PROGRAM.run(sys.argv[1:], os.environ))
