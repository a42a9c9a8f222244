"""The model files: YuNet's published file, the models converted from it, and their hashes."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from wire.errors import ConfigurationError
from wire.exit_codes import ExitCode

FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Model:
    """One ONNX file."""

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
"""As its authors published it. The detector does not load it; the models below are made from it."""
WHOLE = Model("yunet_whole.onnx", "3f1424994bbb719b477d58fcf4239369be2ade7d92e9556ac08ebbba72f01b08")
"""From ``input`` to the outputs: 1 x 3 x height x width, blue, green, red, 0 to 255."""
STEM = Model("yunet_stem.onnx", "832324b0d4863bb5ad474729b8d8c86e4fc5c99ca3aabfb7a50dc5e215793a85")
"""The first layers: from ``input`` to the features."""
REST = Model("yunet_rest.onnx", "254288ab161d9b67b7115f00de131b2ccc9f3ed59c1fdc769f860101f5b2f203")
"""The other layers: from the features to the outputs."""
