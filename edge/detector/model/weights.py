"""The weights of YuNet, read from their file and checked."""

import hashlib
from pathlib import Path

from wire.errors import ConfigurationError, ExitCode

MODEL_PATH = Path(__file__).with_name("face_detection_yunet_2023mar.onnx")
MODEL_SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"


def weights_of(path: Path) -> bytes:
    """Return what is in ``path``: ONNX, as its authors have published it.

    Raises:
        ConfigurationError: the file is missing or not the one that belongs here.
    """
    try:
        weights = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"the model {path} cannot be read: {error.strerror}", ExitCode.BAD_DATA) from None
    found = hashlib.sha256(weights).hexdigest()
    if found != MODEL_SHA256:
        raise ConfigurationError(
            f"the model {path} is damaged: its SHA-256 is {found}, expected {MODEL_SHA256}", ExitCode.BAD_DATA
        )
    return weights
