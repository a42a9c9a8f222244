"""``python -m edge.detector``: detect faces in a camera's frames until the camera ends or until asked to stop."""

import os
import sys

import cv2
from prometheus_client import CollectorRegistry

from edge.detector.camera.source import open_camera
from edge.detector.checks import checks
from edge.detector.delivery.delivery import make_delivery
from edge.detector.detector import Detector
from edge.detector.health import health_problem
from edge.detector.metrics import DetectorCollector
from edge.detector.model.yunet import FaceDetector
from edge.detector.selection.scene import WEAK_CONFIDENCE
from edge.detector.settings import DetectorSettings
from wire.process import health, metrics
from wire.process.command import Program
from wire.process.lifecycle import Stop, exit_now


def main(settings: DetectorSettings, stop: Stop) -> None:
    """Open the outbox and run the detector."""
    cv2.setNumThreads(1)  # DETECT_THREADS sets the parallelism
    confidence = min(settings.face_confidence, WEAK_CONFIDENCE)
    detector = Detector(
        settings,
        lambda: open_camera(settings.camera_source, settings.camera_loop),
        lambda: FaceDetector(settings.detect_size, confidence, providers=settings.detect_providers.split(",")),
        make_delivery(settings, stop),
        stop,
    )
    registry = CollectorRegistry()
    registry.register(DetectorCollector(detector))
    metrics.serve(settings.metrics_host, settings.metrics_port, registry)
    health.write_regularly("detector", lambda: health_problem(detector), stop)
    detector.run()


PROGRAM = Program(
    "edge.detector",
    "Detects faces in a camera's frames, and sends each to the local broker until its receipt arrives.",
    DetectorSettings,
    main,
    checks,
)

if __name__ == "__main__":
    exit_now(PROGRAM.run(sys.argv[1:], os.environ))
