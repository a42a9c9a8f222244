"""``python -m edge.detector``: detect faces in a camera's frames until the camera ends or until asked to stop."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor

import cv2

from edge.detector.camera.source import open_camera
from edge.detector.checks import checks
from edge.detector.delivery.delivery import make_delivery
from edge.detector.detector import Detector
from edge.detector.health import health_problem
from edge.detector.model.yunet import FaceDetector
from edge.detector.selection.scene import WEAK_CONFIDENCE
from edge.detector.settings import DetectorSettings
from edge.detector.stages import ignore_age
from wire.process import health
from wire.process.command import Program
from wire.process.lifecycle import Stop, exit_now


def main(settings: DetectorSettings, stop: Stop) -> None:
    """Open the outbox and run the detector. Meanwhile the model is loaded."""
    cv2.setNumThreads(1)  # DETECT_THREADS sets the parallelism
    metrics = None
    if settings.metrics_port is not None:
        from edge.detector.metrics import DetectorMetrics  # noqa: PLC0415 (Prometheus' client is slow to import)

        metrics = DetectorMetrics()
    observe_age = metrics.observe_age if metrics else ignore_age
    confidence = min(settings.face_confidence, WEAK_CONFIDENCE)
    loader = ThreadPoolExecutor(1, thread_name_prefix="model")
    model = loader.submit(FaceDetector, settings.detect_size, confidence, settings.detect_providers.split(","))
    loader.shutdown(wait=False)  # its thread ends when the model is loaded
    detector = Detector(
        settings,
        lambda: open_camera(settings.camera_source, settings.camera_loop),
        model.result,
        make_delivery(settings, stop, observe_age),
        stop,
        observe_age,
    )
    if metrics and settings.metrics_port is not None:
        metrics.serve(detector, settings.metrics_host, settings.metrics_port)
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
