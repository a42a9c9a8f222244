"""The checks of ``python -m edge.detector --check``: camera, model, outbox and local broker."""

from edge.detector.camera.source import open_camera
from edge.detector.delivery.outbox_file import inspect
from edge.detector.model.yunet import MODEL, FaceDetector
from edge.detector.selection.scene import Scene
from edge.detector.settings import DetectorSettings
from wire.errors import ConfigurationError
from wire.exit_codes import ExitCode
from wire.mqtt.broker_check import try_broker
from wire.process.command import Check
from wire.process.credentials import without_credentials
from wire.process.lifecycle import Stop


def checks(settings: DetectorSettings) -> list[Check]:
    """Return the checks, in the order in which they run."""
    return [
        Check("camera", lambda: _try_camera(settings)),
        Check("model", lambda: _try_model(settings)),
        Check("outbox", lambda: inspect(settings.outbox_path) if settings.mqtt_qos else "not used with MQTT_QOS=0"),
        Check("local broker", lambda: try_broker(settings.local_endpoint())),
    ]


def _try_camera(settings: DetectorSettings) -> str:
    source = without_credentials(settings.camera_source)
    stop = Stop()
    frame = next(open_camera(settings.camera_source, loop=False).frames(stop), None)
    stop.set()
    if frame is None:
        raise ConfigurationError(f"CAMERA_SOURCE is '{source}': expected at least one frame", ExitCode.BAD_DATA)
    height, width = frame.image.shape[:2]
    return f"{source} gives frames of {width}x{height}"


def _try_model(settings: DetectorSettings) -> str:
    model = FaceDetector(settings.detect_size, settings.face_confidence, providers=settings.detect_providers.split(","))
    Scene(settings).load()
    return f"{MODEL} runs on {model.provider}"
