"""YuNet's network, run by ncnn: on arm64, it needs about half of the instructions that ONNX Runtime needs."""

from pathlib import Path

import cv2
import ncnn
import numpy as np

from edge.detector.camera.frame import Image
from edge.detector.model.network import STRIDES, Numbers, padded
from edge.detector.model.weights import FOLDER, NCNN_LAYERS, NCNN_WEIGHTS


class NcnnNetwork:
    """The network on the CPU. See :class:`edge.detector.model.network.Network`."""

    provider = "ncnn"
    runtime = f"ncnn {ncnn.__version__}"

    def __init__(self, folder: Path = FOLDER) -> None:
        """Load the network.

        Raises:
            ConfigurationError: a model file is missing or damaged.
        """
        layers = NCNN_LAYERS.read(folder).decode()
        NCNN_WEIGHTS.read(folder)  # ncnn reads the file itself: weights in memory would have to outlive the network
        self._net = ncnn.Net()
        options = self._net.opt
        options.num_threads = 1  # for each run: see edge.detector.model.onnx_network
        # Numbers of 16 bits, which some arm64 processors calculate with, would change the boxes.
        options.use_fp16_packed = options.use_fp16_storage = options.use_fp16_arithmetic = False
        if self._net.load_param_mem(layers) or self._net.load_model(str(folder / NCNN_WEIGHTS.name)):
            raise RuntimeError(f"ncnn {ncnn.__version__} does not load the model")

    def run(self, picture: Image) -> Numbers:
        """See :class:`edge.detector.model.network.Network`."""
        rows, columns = picture.shape[:2]
        height, width = padded(rows), padded(columns)
        framed = cv2.copyMakeBorder(picture, 0, height - rows, 0, width - columns, cv2.BORDER_CONSTANT)
        extractor = self._net.create_extractor()
        # This copies the pixels. A ncnn.Mat of a NumPy array does not, and does not keep the array alive either.
        extractor.input("input", ncnn.Mat.from_pixels(framed, ncnn.Mat.PixelType.PIXEL_BGR, width, height))
        return np.concatenate([_grid(extractor, stride) for stride in STRIDES], axis=1)


def _grid(extractor: ncnn.Extractor, stride: int) -> Numbers:
    """Return 16 x cells."""
    failed, grid = extractor.extract(f"cells_{stride}")
    if failed:
        raise MemoryError("ncnn has not enough memory for this picture")
    return np.asarray(grid, np.float32).reshape(16, -1)
