"""Convert an ONNX model to the two files that ncnn loads: the layers as text, and the weights.

It knows the few operations of YuNet and refuses all others. ncnn computes an activation within the convolution before
it, and wants a layer of its own where several layers read the same tensor.
"""

from collections import Counter

import numpy as np
import onnx
from onnx import numpy_helper

_MAGIC = "7767517"
_FLOAT32 = bytes(4)
"""Written before a layer's weights: the numbers that follow are of 32 bits."""


def to_ncnn(model: onnx.ModelProto) -> tuple[str, bytes]:
    """Return the text of the layers, and the weights in their order.

    Raises:
        ValueError: the model has an operation or an attribute that this conversion does not know.
    """
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    activated = {node.input[0]: node.output[0] for node in model.graph.node if node.op_type == "Relu"}
    nodes = [node for node in model.graph.node if node.op_type != "Relu"]
    readers = Counter(name for node in nodes for name in node.input if name not in weights)
    lines: list[str] = []
    tensors: list[str] = []
    copies: dict[str, list[str]] = {}
    numbers = b""

    def add(kind: str, sources: list[str], output: str, parameters: str = "") -> None:
        sources = [copies[name].pop(0) if name in copies else name for name in sources]
        lines.append(" ".join([kind, output, str(len(sources)), "1", *sources, output, parameters]).rstrip())
        tensors.append(output)
        if readers[output] > 1:
            copies[output] = [f"{output}_{number}" for number in range(readers[output])]
            lines.append(" ".join(["Split", f"split_{output}", "1", str(readers[output]), output, *copies[output]]))
            tensors.extend(copies[output])

    for source in model.graph.input:
        add("Input", [], source.name)
    for node in nodes:
        sources = [name for name in node.input if name and name not in weights]
        output = activated.get(node.output[0], node.output[0])
        attributes = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
        match node.op_type:
            case "Conv":
                kernel, bias = weights[node.input[1]], weights[node.input[2]]
                groups = attributes.get("group", 1)
                layer = {0: len(kernel), 1: kernel.shape[2], 3: _same(attributes["strides"])}
                layer |= {4: _same(attributes["pads"]), 5: 1, 6: kernel.size}
                layer |= {7: groups} if groups > 1 else {}
                layer |= {9: 1} if node.output[0] in activated else {}
                parameters = " ".join(f"{key}={value}" for key, value in layer.items())
                add("ConvolutionDepthWise" if groups > 1 else "Convolution", sources, output, parameters)
                numbers += _FLOAT32 + kernel.astype("<f4").tobytes() + bias.astype("<f4").tobytes()
            case "MaxPool":
                size, stride = _same(attributes["kernel_shape"]), _same(attributes["strides"])
                add("Pooling", sources, output, f"0=0 1={size} 2={stride} 5=1")
            case "Resize" if attributes["mode"] == b"nearest":
                height, width = weights[node.input[2]][2:].tolist()
                add("Interp", sources, output, f"0=1 1={height} 2={width}")
            case "Add":
                add("BinaryOp", sources, output, "0=0")
            case operation:
                raise ValueError(f"no conversion for {operation}")
    return "\n".join([_MAGIC, f"{len(lines)} {len(tensors)}", *lines, ""]), numbers


def _same(values: list[int]) -> int:
    """Return the value that all of ``values`` have."""
    if len(set(values)) != 1:
        raise ValueError(f"no conversion for different values in {values}")
    return int(np.unique(values)[0])
