"""``python -m scripts.convert_yunet``: make the models that the detector loads from YuNet's published file.

The published file fixes the input at 640 x 640 pixels, although nothing in the network requires it. For each of its
three grids it has four small heads on the same features: class, objectness, box and landmarks. Each head is a pointwise
and a depthwise convolution, followed by a transposition, a reshape and (for two of them) a sigmoid. The converted
models

- accept pictures of any size whose height and width are multiples of 32;
- have one head for each grid, with the four heads' channels side by side: two operations instead of twenty;
- leave the sigmoids to the decoder, which needs few of them.

Every output number stays the same. There are three models: the whole network, its first layers (the stem), and the
rest. A large picture passes the stem in strips that fit into the processor's caches.
"""

import argparse
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge.detector.model.inference import FEATURES, OUTPUTS, STRIDES
from edge.detector.model.weights import FOLDER, PUBLISHED, REST, STEM, WHOLE, Model
from wire.process.command import make_parser

_HEADS = ("cls", "obj", "bbox", "kps")

Nodes = dict[str, onnx.NodeProto]
"""Nodes by the name of their output, in the order of execution."""
Tensors = dict[str, onnx.TensorProto]


def convert(published: bytes) -> dict[Model, onnx.ModelProto]:
    """Return the converted models.

    Args:
        published: the content of YuNet's file from the OpenCV Zoo.
    """
    model = onnx.load_from_string(published)
    nodes: Nodes = {node.output[0]: node for node in model.graph.node}
    tensors: Tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for stride in STRIDES:
        heads = [_head(f"{name}_{stride}", nodes) for name in _HEADS]
        for head in heads:
            for output in head:
                nodes.pop(output)
        convolutions = [[node for node in head.values() if node.op_type == "Conv"] for head in heads]
        _merge(convolutions, stride, nodes, tensors)
    seam = list(nodes).index(FEATURES) + 1  # up to here each layer uses the output of the one before
    picture = _tensor("input", (1, 3, "height", "width"))
    features = _tensor(FEATURES, (1, 64, "rows_8", "columns_8"))
    cells = [
        _tensor(name, (1, 16, f"rows_{stride}", f"columns_{stride}"))
        for name, stride in zip(OUTPUTS, STRIDES, strict=True)
    ]
    chain = list(nodes.values())
    return {
        WHOLE: _model(model, chain, tensors, picture, cells),
        STEM: _model(model, chain[:seam], tensors, picture, [features]),
        REST: _model(model, chain[seam:], tensors, features, cells),
    }


def _head(output: str, nodes: Nodes) -> Nodes:
    """Return the nodes of one head, from its first convolution to ``output``."""
    head: Nodes = {}
    while sum(node.op_type == "Conv" for node in head.values()) < 2:
        head[output] = nodes[output]
        output = nodes[output].input[0]
    return dict(reversed(head.items()))


def _merge(heads: list[list[onnx.NodeProto]], stride: int, nodes: Nodes, tensors: Tensors) -> None:
    """Add one head that computes all of ``heads``, each of them a pointwise and a depthwise convolution."""
    source = heads[0][0].input[0]
    for index, (kind, output) in enumerate((("pointwise", f"between_{stride}"), ("depthwise", f"cells_{stride}"))):
        layer = [head[index] for head in heads]
        weights = np.concatenate([numpy_helper.to_array(tensors[node.input[1]]) for node in layer])
        biases = np.concatenate([numpy_helper.to_array(tensors[node.input[2]]) for node in layer])
        names = (f"{kind}_{stride}_weights", f"{kind}_{stride}_biases")
        for name, values in zip(names, (weights, biases), strict=True):
            tensors[name] = numpy_helper.from_array(values, name)
        merged = onnx.NodeProto()
        merged.CopyFrom(layer[0])
        merged.name = output
        merged.input[:] = [source, *names]
        merged.output[:] = [output]
        for attribute in merged.attribute:
            if attribute.name == "group" and kind == "depthwise":
                attribute.i = len(weights)
        nodes[output] = merged
        source = output


def _tensor(name: str, shape: Iterable[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


def _model(
    published: onnx.ModelProto,
    nodes: list[onnx.NodeProto],
    tensors: Tensors,
    source: onnx.ValueInfoProto,
    outputs: list[onnx.ValueInfoProto],
) -> onnx.ModelProto:
    used = {name for node in nodes for name in node.input}
    initializers = [tensor for name, tensor in tensors.items() if name in used]
    graph = helper.make_graph(nodes, published.graph.name, [source], outputs, initializers)
    model = helper.make_model(graph, opset_imports=published.opset_import, producer_name="facewire")
    model.ir_version = published.ir_version
    onnx.checker.check_model(model)
    return model


def main() -> None:
    """Convert the published file and write the models."""
    parser: argparse.ArgumentParser = make_parser("scripts.convert_yunet", (__doc__ or "").splitlines()[0])
    parser.add_argument("--to", type=Path, default=FOLDER, help="the folder for the models (default: %(default)s)")
    folder: Path = parser.parse_args().to
    for model, converted in convert(PUBLISHED.read()).items():
        (folder / model.name).write_bytes(converted.SerializeToString(deterministic=True))


if __name__ == "__main__":
    main()
