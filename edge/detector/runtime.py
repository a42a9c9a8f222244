"""ONNX Runtime: what runs the model, on which processor."""

from collections.abc import Sequence

import onnxruntime
import structlog

_PROVIDERS = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
NAMES = tuple(_PROVIDERS)
"""What ``DETECT_PROVIDERS`` may name, best first."""
_ERROR = 3
"""ONNX Runtime's own log says no less: its warnings are about its choices, not about ours."""

_log = structlog.get_logger("model")


def session_of(model: bytes, providers: Sequence[str]) -> onnxruntime.InferenceSession:
    """Return a session that runs ``model`` on the first of ``providers`` that this machine has, and log which one.

    Each run takes one thread of the CPU; several runs may be under way at once.

    Args:
        model: ONNX.
        providers: «tensorrt», «cuda», «cpu», best first. What this ONNX Runtime lacks is passed over; the CPU comes
            last in any case.
    """
    onnxruntime.set_default_logger_severity(_ERROR)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERROR
    # Frames are searched side by side instead: two runs with a thread each get more done than one run with two.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    there = set(onnxruntime.get_available_providers())
    chosen = [_PROVIDERS[name] for name in (*providers, "cpu") if _PROVIDERS[name] in there]
    session = onnxruntime.InferenceSession(model, options, providers=list(dict.fromkeys(chosen)))
    _log.info("the model runs", on=session.get_providers()[0], onnxruntime=onnxruntime.__version__)
    return session
