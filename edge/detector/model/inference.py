"""Inference: runs the network with ONNX Runtime, on the best processor that is available."""

import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import structlog

from edge.detector.camera.frame import Image
from edge.detector.model.weights import FOLDER, REST, STEM, WHOLE

STRIDES = (8, 16, 32)
"""Pixels between two cells of each grid. Height and width of the input are multiples of the largest."""
OUTPUTS = [f"cells_{stride}" for stride in STRIDES]
"""Each 1 x 16 x height / stride x width / stride: logits of class and objectness, 4 of the box, 10 of the landmarks."""
FEATURES = "206"
"""Output of the stem, input of the rest: 1 x 64 x height / 8 x width / 8."""

_PROVIDERS = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
_CPU = _PROVIDERS["cpu"]
_LOG_ERRORS_ONLY = 3

_STRIP_ROWS = 192
_STRIPS_ABOVE_PIXELS = 640 * 640
"""On a CPU, the stem processes larger pictures in strips, so that its intermediate results fit into the caches."""
_HALO_ROWS = 24
"""Rows beyond a strip that the stem depends on: 1 + 2 x 1 + 4 x 4, rounded up to whole cells."""
_MAX_BUFFERS = 4

_log = structlog.get_logger("model")

Numbers = npt.NDArray[np.float32]


class Network:
    """YuNet's network. Several threads can run it at once; each run uses one thread of the CPU."""

    def __init__(self, providers: Sequence[str], folder: Path = FOLDER) -> None:
        """Load the network and log the provider that runs it.

        ``providers`` are «tensorrt», «cuda», «cpu», the preferred one first. Those that this ONNX Runtime lacks are
        skipped; the CPU is always the last choice.

        Raises:
            ConfigurationError: a model file is missing or damaged.
        """
        available = set(onnxruntime.get_available_providers())
        chosen = [_PROVIDERS[name] for name in (*providers, "cpu") if _PROVIDERS[name] in available]
        self._folder = folder
        self._whole = make_session(WHOLE.read(folder), list(dict.fromkeys(chosen)))
        self.provider: str = self._whole.get_providers()[0]
        """The provider that runs the network, by its name in ONNX Runtime."""
        self._of_thread = threading.local()
        _log.info("model loaded", runs_on=self.provider, onnxruntime=onnxruntime.__version__)

    def run(self, picture: Image) -> Sequence[Numbers]:
        """Return the network's output for each grid; see :data:`OUTPUTS`."""
        height, width = (-(-size // STRIDES[-1]) * STRIDES[-1] for size in picture.shape[:2])
        if height * width > _STRIPS_ABOVE_PIXELS and self.provider == _CPU:
            return list(self._parts[1].run(OUTPUTS, {FEATURES: self._run_stem_in_strips(picture, height, width)}))
        return list(self._whole.run(OUTPUTS, {"input": self._blob(picture, 0, height, width)}))

    @cached_property
    def _parts(self) -> tuple[Any, Any]:
        """The stem and the rest, loaded when the first large picture arrives."""
        stem, rest = (make_session(model.read(self._folder), [_CPU]) for model in (STEM, REST))
        return stem, rest

    def _run_stem_in_strips(self, picture: Image, height: int, width: int) -> Numbers:
        """Return the stem's output for ``picture``, computed strip by strip: the same numbers in half the memory."""
        cell = STRIDES[0]
        features = self._buffer((1, 64, height // cell, width // cell))
        for top in range(0, height, _STRIP_ROWS):
            bottom = min(top + _STRIP_ROWS, height)
            above, below = max(top - _HALO_ROWS, 0), min(bottom + _HALO_ROWS, height)
            blob = self._blob(picture, above, below, width)
            strip = self._parts[0].run([FEATURES], {"input": blob})[0]
            features[:, :, top // cell : bottom // cell] = strip[:, :, (top - above) // cell : (bottom - above) // cell]
        return features

    def _blob(self, picture: Image, top: int, bottom: int, width: int) -> Numbers:
        """Return rows of ``picture`` as 1 x 3 x rows x width; pixels beyond its edges are black."""
        rows = picture[top:bottom]
        blob = self._buffer((1, 3, bottom - top, width))
        blob[0, :, : rows.shape[0], : rows.shape[1]] = rows.transpose(2, 0, 1)
        blob[0, :, rows.shape[0] :] = 0
        blob[0, :, :, rows.shape[1] :] = 0
        return blob

    def _buffer(self, shape: tuple[int, ...]) -> Numbers:
        """Return a buffer of this thread, reused for each run: allocating new memory costs more than the copy."""
        buffers: dict[tuple[int, ...], Numbers] = self._of_thread.__dict__.setdefault("buffers", {})
        if shape not in buffers:
            if len(buffers) >= _MAX_BUFFERS:  # the size of the frames has changed
                buffers.clear()
            buffers[shape] = np.empty(shape, np.float32)
        return buffers[shape]


def make_session(model: bytes, providers: list[str]) -> Any:
    """Return an ``onnxruntime.InferenceSession`` for ``model`` on the first of ``providers`` that works."""
    onnxruntime.set_default_logger_severity(_LOG_ERRORS_ONLY)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _LOG_ERRORS_ONLY
    # One thread for each run: two frames in parallel with one thread each are faster than with two threads each.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=providers)
