"""YuNet's network, run by ONNX Runtime."""

import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from edge.detector.camera.frame import Image
from edge.detector.model.network import Numbers, padded
from edge.detector.model.weights import CONVERTED, FOLDER

PROVIDERS = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
"""Names of ONNX Runtime's providers, by their names in ``DETECT_PROVIDERS``."""
_LOG_ERRORS_ONLY = 3


class OnnxNetwork:
    """The network on the first of some providers that this ONNX Runtime has. The CPU is always the last choice."""

    runtime = f"ONNX Runtime {onnxruntime.__version__}"

    def __init__(self, providers: Sequence[str], folder: Path = FOLDER) -> None:
        """Load the network; ``providers`` are keys of :data:`PROVIDERS`, the preferred one first.

        Raises:
            ConfigurationError: the model file is missing or damaged.
        """
        available = set(onnxruntime.get_available_providers())
        chosen = [PROVIDERS[name] for name in (*providers, "cpu") if PROVIDERS[name] in available]
        self._session = make_session(CONVERTED.read(folder), list(dict.fromkeys(chosen)))
        self.provider: str = self._session.get_providers()[0]
        self._of_thread = threading.local()

    def run(self, picture: Image) -> Numbers:
        """See :class:`edge.detector.model.network.Network`."""
        (cells,) = self._session.run(["cells"], {"input": self._input(picture)})
        return cells  # type: ignore[no-any-return]

    def _input(self, picture: Image) -> Image:
        """Return the picture as 1 x 1 x height x 3 width, with a black margin at its right and at its bottom.

        The buffer belongs to the thread and is used again: its margin stays black.
        """
        height, width = picture.shape[:2]
        if getattr(self._of_thread, "size", None) != (height, width):
            self._of_thread.size = (height, width)
            self._of_thread.buffer = np.zeros((1, 1, padded(height), 3 * padded(width)), np.uint8)
        buffer: Image = self._of_thread.buffer
        buffer[0, 0, :height, : 3 * width] = picture.reshape(height, 3 * width)
        return buffer


def make_session(model: bytes, providers: list[str], *, runs_often: bool = True) -> Any:
    """Return an ``onnxruntime.InferenceSession`` for ``model`` on the first of ``providers`` that works.

    A model that does not run often is not optimized: that saves more memory than it is worth in time.
    """
    onnxruntime.set_default_logger_severity(_LOG_ERRORS_ONLY)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _LOG_ERRORS_ONLY
    # One thread for each run: two frames in parallel with one thread each are faster than with two threads each.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # One block of memory for all intermediate results costs more memory and no less time than single blocks.
    options.enable_mem_pattern = False
    if not runs_often:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    _register_arena()
    options.add_session_config_entry("session.use_env_allocators", "1")
    return onnxruntime.InferenceSession(model, options, providers=providers)


@cache
def _register_arena() -> None:
    """Let the memory of all sessions grow by what they need. By default, ONNX Runtime doubles it."""
    arena, default = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, onnxruntime.OrtMemType.DEFAULT
    memory = onnxruntime.OrtMemoryInfo("Cpu", arena, 0, default)
    as_requested = {"arena_extend_strategy": 1, "initial_chunk_size_bytes": -1, "max_dead_bytes_per_chunk": -1}
    settings = onnxruntime.OrtArenaCfg(as_requested | {"initial_growth_chunk_size_bytes": -1, "max_mem": 0})
    onnxruntime.create_and_register_allocator(memory, settings)
