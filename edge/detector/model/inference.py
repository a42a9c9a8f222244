"""Inference: loads the network on the best processor that is available."""

from collections.abc import Sequence
from pathlib import Path

import onnxruntime
import structlog

from edge.detector.model.network import Network
from edge.detector.model.onnx_network import PROVIDERS, OnnxNetwork
from edge.detector.model.weights import FOLDER

_NCNN = "ncnn"

_log = structlog.get_logger("model")


def load_network(providers: Sequence[str], folder: Path = FOLDER) -> Network:
    """Load the network and log what runs it.

    ``providers`` are those of ``DETECT_PROVIDERS``, the preferred one first. Unavailable ones are skipped; ONNX Runtime
    on the CPU is always the last choice.

    Raises:
        ConfigurationError: a model file is missing or damaged.
    """
    network = next(found for name in (*providers, "cpu") if (found := _load(name, providers, folder)))
    _log.info("model loaded", runs_on=network.provider, runtime=network.runtime)
    return network


def _load(name: str, providers: Sequence[str], folder: Path) -> Network | None:
    """Return the network on the provider ``name``, or nothing if that one is not available."""
    if name == _NCNN:
        try:
            from edge.detector.model.ncnn_network import NcnnNetwork  # noqa: PLC0415 - not every machine has ncnn
        except ImportError:
            return None
        return NcnnNetwork(folder)
    if PROVIDERS[name] not in onnxruntime.get_available_providers():
        return None
    onnx = OnnxNetwork([name, *(other for other in providers if other != _NCNN)], folder)
    return onnx if onnx.provider == PROVIDERS[name] else None
