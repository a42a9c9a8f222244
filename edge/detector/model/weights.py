"""The model files: YuNet's published file, the models converted from it, and their hashes."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from wire.errors import ConfigurationError
from wire.exit_codes import ExitCode

FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Model:
    """One file of a model."""

    name: str
    sha256: str

    def read(self, folder: Path = FOLDER) -> bytes:
        """Return the content of the file.

        Raises:
            ConfigurationError: the file is missing, or its hash differs.
        """
        path = folder / self.name
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ConfigurationError(f"the model {path} cannot be read: {error.strerror}", ExitCode.BAD_DATA) from None
        found = hashlib.sha256(content).hexdigest()
        if found != self.sha256:
            raise ConfigurationError(
                f"the model {path} is damaged: its SHA-256 is {found}, expected {self.sha256}", ExitCode.BAD_DATA
            )
        return content


PUBLISHED = Model(
    "face_detection_yunet_2023mar.onnx", "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"
)
"""As its authors published it. The detector does not load it; the files below are made from it."""
CONVERTED = Model("yunet_converted.onnx", "345efa880e8acfc68f7c9d323f9afb7a80db81cfb26c68a184466a5247948f58")
"""From ``input``, 1 x 1 x height x 3 width the bytes of blue, green and red of each pixel, to ``cells``."""
NCNN_LAYERS = Model("yunet.ncnn.param", "90967e9a68f6507c877eedd31b72de67387aaca19055a9aeb25ff1c7955bef7a")
"""The same for ncnn, as text: the layers, from ``input``, 3 x height x width, to one output for each grid."""
NCNN_WEIGHTS = Model("yunet.ncnn.bin", "5f1c991e3c1c5027bbaef3280eaf314f24a9f88d0228bce85b823b6c3d0ed4fd")
"""The weights of these layers, in their order."""
VERIFICATION = Model("face_verification.onnx", "79895dcc58a8216ce43c8acd46dcc18cf8c1aa9f985375e08cba4ed774bbdc3c")
"""From ``patches``, n x 48 x 48 x 3 the bytes of blue, green and red, to ``log_odds``, the mean over the patches."""
