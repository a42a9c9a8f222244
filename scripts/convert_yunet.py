"""``python -m scripts.convert_yunet``: make the models that the detector loads from YuNet's published file.

The published file fixes the input at 640 x 640 pixels, although nothing in the network requires it. For each of its
three grids it has four small heads on the same features: class, objectness, box and landmarks. Each head is a pointwise
and a depthwise convolution, followed by a transposition, a reshape and (for two of them) a sigmoid. The converted model

- accepts pictures of any size whose height and width are multiples of 32;
- reads the bytes of the pixels as OpenCV stores them, blue, green and red in turn, as one channel of three times the
  width. Its first convolution steps over six numbers instead of two pixels. Nobody has to take the pixels apart;
- has one head for each grid, with the four heads' channels side by side: two operations instead of twenty;
- leaves the sigmoids to the decoder, which needs few of them;
- has one output for the cells of all three grids.

Every output number stays the same. ncnn gets the same model in a form of its own, with the first convolution and the
three outputs as they were: there, this costs fewer instructions.
"""

import argparse
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge.detector.model.network import STRIDES
from edge.detector.model.weights import CONVERTED, FOLDER, NCNN_LAYERS, NCNN_WEIGHTS, PUBLISHED, Model
from scripts.ncnn_model import to_ncnn
from wire.process.command import make_parser

_HEADS = ("bbox", "kps", "cls", "obj")

Nodes = dict[str, onnx.NodeProto]
"""Nodes by the name of their output, in the order of execution."""
Tensors = dict[str, onnx.TensorProto]


def convert(published: bytes) -> dict[Model, bytes]:
    """Return the content of each model file that the detector loads.

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
    planes = _tensor("input", (1, 3, "height", "width"), TensorProto.FLOAT)
    grids = [
        _tensor(f"cells_{stride}", (1, 16, f"rows_{stride}", f"columns_{stride}"), TensorProto.FLOAT)
        for stride in STRIDES
    ]
    layers, weights = to_ncnn(_model(model, list(nodes.values()), tensors, planes, grids))
    _interleave(next(iter(nodes.values())), tensors)
    picture = _tensor("input", (1, 1, "height", "three_times_width"), TensorProto.UINT8)
    cells = _tensor("cells", (16, "cells"), TensorProto.FLOAT)
    convert_pixels = helper.make_node("Cast", ["input"], ["pixels"], "pixels", to=TensorProto.FLOAT)
    converted = _model(model, [convert_pixels, *nodes.values(), *_join(tensors)], tensors, picture, [cells])
    return {
        CONVERTED: converted.SerializeToString(deterministic=True),
        NCNN_LAYERS: layers.encode(),
        NCNN_WEIGHTS: weights,
    }


def _interleave(first: onnx.NodeProto, tensors: Tensors) -> None:
    """Change the first convolution, 3 x 3 pixels with a step of 2, so that it reads pixels instead of planes."""
    weights = numpy_helper.to_array(tensors[first.input[1]])
    filters, colors, rows, columns = weights.shape
    one_channel = weights.transpose(0, 2, 3, 1).reshape(filters, 1, rows, columns * colors)
    tensors[first.input[1]] = numpy_helper.from_array(np.ascontiguousarray(one_channel), first.input[1])
    first.input[0] = "pixels"
    del first.attribute[:]
    # The size is even, so the filter never reaches beyond the bottom or the right edge.
    layout = {"kernel_shape": [rows, columns * colors], "strides": [2, 2 * colors], "pads": [1, colors, 0, 0]}
    first.attribute.extend(helper.make_attribute(name, value) for name, value in layout.items())


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


def _join(tensors: Tensors) -> list[onnx.NodeProto]:
    """Return the nodes that make one output of those of the three heads."""
    tensors["flat"] = numpy_helper.from_array(np.array([16, -1]), "flat")
    flat = [f"flat_{stride}" for stride in STRIDES]
    return [
        *(
            helper.make_node("Reshape", [f"cells_{stride}", "flat"], [name], name)
            for stride, name in zip(STRIDES, flat, strict=True)
        ),
        helper.make_node("Concat", flat, ["cells"], "cells", axis=1),
    ]


def _tensor(name: str, shape: Iterable[int | str], kind: TensorProto.DataType) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, list(shape))


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
    for model, content in convert(PUBLISHED.read()).items():
        (folder / model.name).write_bytes(content)


if __name__ == "__main__":
    main()
