"""ONNX Runtime: runs the network on pictures, on the best processor that is there."""

import threading
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import structlog

from edge.detector.camera.frame import Image
from edge.detector.model.network import FEATURES, OUTPUTS, STRIDES, Part, network_of

_PROVIDERS = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
_CPU = _PROVIDERS["cpu"]
_QUIET = 3
"""ONNX Runtime's own log says errors and no less: its warnings are about its choices, not about ours."""

_STRIP_ROWS = 192
_STRIPS_ABOVE_PIXELS = 640 * 640
"""Larger pictures are taken in strips by a CPU: what is between the first layers would not fit into its caches."""
_HALO_ROWS = 24
"""What the stem looks at beyond a strip: 1 + 2 x 1 + 4 x 4 rows, in whole cells."""
_MAX_BUFFERS = 4

_log = structlog.get_logger("model")

Numbers = npt.NDArray[np.float32]


class Network:
    """YuNet's network; several threads may run it at once, and each run takes one thread of the CPU."""

    def __init__(self, weights: bytes, providers: Sequence[str]) -> None:
        """Load the network, and log what it runs on.

        Args:
            weights: YuNet's published file.
            providers: «tensorrt», «cuda», «cpu», best first. What this ONNX Runtime lacks is passed over; the CPU comes
                last in any case.
        """
        there = set(onnxruntime.get_available_providers())
        chosen = [_PROVIDERS[name] for name in (*providers, "cpu") if _PROVIDERS[name] in there]
        self._weights = weights
        self._whole = session_of(network_of(weights), list(dict.fromkeys(chosen)))
        self.provider: str = self._whole.get_providers()[0]
        """What it runs on, as ONNX Runtime calls it."""
        self._of_thread = threading.local()
        _log.info("the model is loaded", runs_on=self.provider, onnxruntime=onnxruntime.__version__)

    def run(self, picture: Image) -> Sequence[Numbers]:
        """Return for each grid what the network sees in ``picture``; see :data:`edge.detector.model.network.OUTPUTS`."""
        height, width = (-(-size // STRIDES[-1]) * STRIDES[-1] for size in picture.shape[:2])
        if height * width > _STRIPS_ABOVE_PIXELS and self.provider == _CPU:
            return list(self._parts[1].run(OUTPUTS, {FEATURES: self._in_strips(picture, height, width)}))
        return list(self._whole.run(OUTPUTS, {"input": self._blob(picture, 0, height, width)}))

    @cached_property
    def _parts(self) -> tuple[Any, Any]:
        """The stem and the rest, which only large pictures need."""
        stem, rest = (session_of(network_of(self._weights, part), [_CPU]) for part in (Part.STEM, Part.REST))
        return stem, rest

    def _in_strips(self, picture: Image, height: int, width: int) -> Numbers:
        """Return what the stem makes of ``picture``, strip by strip: the same numbers, in half the memory."""
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
        """Return rows of ``picture`` as the network takes them, 1 x 3 x rows x width; black beyond its edges."""
        rows = picture[top:bottom]
        blob = self._buffer((1, 3, bottom - top, width))
        blob[0, :, : rows.shape[0], : rows.shape[1]] = rows.transpose(2, 0, 1)
        blob[0, :, rows.shape[0] :] = 0
        blob[0, :, :, rows.shape[1] :] = 0
        return blob

    def _buffer(self, shape: tuple[int, ...]) -> Numbers:
        """Return memory of this thread's own, kept from run to run: fresh memory costs more than writing to it."""
        buffers: dict[tuple[int, ...], Numbers] = self._of_thread.__dict__.setdefault("buffers", {})
        if shape not in buffers:
            if len(buffers) >= _MAX_BUFFERS:  # frames of another size
                buffers.clear()
            buffers[shape] = np.empty(shape, np.float32)
        return buffers[shape]


def session_of(model: bytes, providers: list[str]) -> Any:
    """Return an ``onnxruntime.InferenceSession`` for ``model`` with the first of ``providers`` that works."""
    onnxruntime.set_default_logger_severity(_QUIET)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _QUIET
    # Frames are searched side by side instead: two runs with a thread each get more done than one run with two.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=providers)
