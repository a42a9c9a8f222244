"""``python -m edge.detector``: watch a camera until it ends, or until asked to stop."""

import os
from collections.abc import Mapping

import cv2
import structlog
from prometheus_client import CollectorRegistry

from edge.detector.camera.source import open_camera
from edge.detector.delivery.delivery import make_delivery
from edge.detector.detector import Detector
from edge.detector.metrics import health_problem, metrics_of
from edge.detector.model.yunet import FaceDetector
from edge.detector.selection.scene import WEAK_CONFIDENCE
from edge.detector.settings import DetectorSettings
from wire.process import health, metrics
from wire.process.lifecycle import Stop, leave, run


def main(environ: Mapping[str, str], stop: Stop) -> None:
    """Parse the settings, log them, open what they name and detect."""
    settings = DetectorSettings.from_environment(environ)
    settings.configure_logging()
    structlog.get_logger("detector").info("starting", **settings.resolved())
    camera = open_camera(settings.camera_source, settings.camera_loop)
    cv2.setNumThreads(1)  # DETECT_THREADS says how many there are
    model = FaceDetector(
        settings.detect_size,
        min(settings.face_confidence, WEAK_CONFIDENCE),
        providers=settings.detect_providers.split(","),
    )
    detector = Detector(settings, camera, model, make_delivery(settings, stop), stop)
    metrics.serve(settings.metrics_port, metrics_of(detector), CollectorRegistry())
    health.write_regularly("detector", lambda: health_problem(detector), stop)
    detector.run()


if __name__ == "__main__":
    leave(run(main, os.environ))
