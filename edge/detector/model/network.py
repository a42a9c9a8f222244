"""YuNet's network as it is given to ONNX Runtime: for pictures of any size, with one head where there were four.

The published file fixes its input at 640 x 640 pixels, though nothing in the network does. And for each of its three
grids it has four small heads that look at the same features: class, objectness, box, landmarks; each a pointwise and a
depthwise convolution, then a transposition, a reshape, a sigmoid. The four are laid side by side here, which leaves two
convolutions of the twenty operations; every number comes out as before. Sigmoids are left to whoever reads the scores,
who needs few of them.

The network can be had in two parts as well: its first layers, which look no further than a few rows, and the rest. So a
large picture can go through the first layers in strips that stay in the processor's caches.

ONNX is protobuf, and little of it is needed: the fields of ``onnx.proto`` below.
"""

from collections.abc import Iterable, Iterator
from enum import Enum

import numpy as np
import numpy.typing as npt

STRIDES = (8, 16, 32)
"""Pixels of the picture from one cell of each grid to the next; height and width are whole multiples of the largest."""
OUTPUTS = [f"cells_{stride}" for stride in STRIDES]
"""Each 1 x 16 x height / stride x width / stride: the logits of class and objectness, 4 of the box, 10 of landmarks."""
FEATURES = "206"
"""What the stem hands to the rest: 1 x 64 x height / 8 x width / 8."""
_HEADS = ("cls", "obj", "bbox", "kps")

_MODEL_GRAPH = 7
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_OUTPUT = 1, 5, 11, 12
_GRAPH_INSIDE = 13
"""``value_info``, the shapes within the network: at 640 x 640, and wrong at any other size."""
_NODE_INPUT, _NODE_OUTPUT, _NODE_ATTRIBUTE = 1, 2, 5
_TENSOR_DIMS, _TENSOR_TYPE, _TENSOR_NAME, _TENSOR_RAW = 1, 2, 8, 9
_FLOAT = 1
_ATTRIBUTE_NAME, _ATTRIBUTE_INT = 1, 3

Fields = list[tuple[int, int | bytes]]
"""A message: number and value of each field, in their order."""


class Part(Enum):
    """Which part of the network."""

    WHOLE = "whole"
    """From ``input``, 1 x 3 x height x width, blue, green, red, 0 to 255, to :data:`OUTPUTS`."""
    STEM = "stem"
    """From ``input`` to :data:`FEATURES`."""
    REST = "rest"
    """From :data:`FEATURES` to :data:`OUTPUTS`."""


def network_of(weights: bytes, part: Part = Part.WHOLE) -> bytes:
    """Return ``part`` of the network in ``weights``, YuNet's published file, as ONNX."""
    model = _read(weights)
    graph = [field for number, value in model if number == _MODEL_GRAPH for field in _read(value)]
    nodes = {_texts(node, _NODE_OUTPUT)[0]: node for node in (_read(v) for n, v in graph if n == _GRAPH_NODE)}
    tensors = {
        _texts(tensor, _TENSOR_NAME)[0]: tensor for tensor in (_read(v) for n, v in graph if n == _GRAPH_INITIALIZER)
    }
    for stride in STRIDES:
        ways = [_way_to(f"{head}_{stride}", nodes) for head in _HEADS]
        for way in ways:
            for output in way:
                nodes.pop(output)
        _merge([[node for node in way.values() if _weighted(node)] for way in ways], stride, nodes, tensors)
    seam = list(nodes).index(FEATURES) + 1  # up to there each layer takes what the one before it gives
    first, last = (seam if part is Part.REST else 0), (seam if part is Part.STEM else len(nodes))
    chosen = list(nodes.values())[first:last]
    used = {name for node in chosen for name in _texts(node, _NODE_INPUT)}
    picture, features = _value("input", (1, 3, "height", "width")), _value(FEATURES, (1, 64, "rows_8", "columns_8"))
    cells = [
        _value(name, (1, 16, f"rows_{stride}", f"columns_{stride}"))
        for name, stride in zip(OUTPUTS, STRIDES, strict=True)
    ]
    rebuilt: Fields = [
        *((_GRAPH_NODE, _write(node)) for node in chosen),
        *((_GRAPH_INITIALIZER, _write(tensor)) for name, tensor in tensors.items() if name in used),
        (_GRAPH_INPUT, features if part is Part.REST else picture),
        *((_GRAPH_OUTPUT, value) for value in ([features] if part is Part.STEM else cells)),
        *((n, v) for n, v in graph if n not in _REBUILT),
    ]
    return _write([(n, _write(rebuilt) if n == _MODEL_GRAPH else v) for n, v in model])


_REBUILT = frozenset((_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_OUTPUT, _GRAPH_INSIDE))


def _way_to(output: str, nodes: dict[str, Fields]) -> dict[str, Fields]:
    """Return the nodes of one head by their outputs, from its first convolution to ``output``."""
    way: dict[str, Fields] = {}
    while sum(_weighted(node) for node in way.values()) < 2:
        way[output] = nodes[output]
        output = _texts(nodes[output], _NODE_INPUT)[0]
    return dict(reversed(way.items()))


def _weighted(node: Fields) -> bool:
    """Tell whether a node is a convolution: input, weights, biases."""
    return len(_texts(node, _NODE_INPUT)) == 3


def _merge(heads: list[list[Fields]], stride: int, nodes: dict[str, Fields], tensors: dict[str, Fields]) -> None:
    """Put one head in the place of ``heads``, a pointwise and a depthwise convolution each."""
    taken = _texts(heads[0][0], _NODE_INPUT)[0]
    for index, (part, given) in enumerate((("pointwise", f"between_{stride}"), ("depthwise", f"cells_{stride}"))):
        layer = [head[index] for head in heads]
        names = [_texts(node, _NODE_INPUT)[1:] for node in layer]
        weights = np.concatenate([_numbers(tensors[name]) for name, _ in names])
        biases = np.concatenate([_numbers(tensors[name]) for _, name in names])
        inputs = (taken, f"{part}_{stride}_weights", f"{part}_{stride}_biases")
        tensors |= {inputs[1]: _tensor(inputs[1], weights), inputs[2]: _tensor(inputs[2], biases)}
        made: Fields = [
            *((_NODE_INPUT, name.encode()) for name in inputs),
            (_NODE_OUTPUT, given.encode()),
            *((n, v) for n, v in layer[0] if n not in (_NODE_INPUT, _NODE_OUTPUT, _NODE_ATTRIBUTE)),
        ]
        for attribute in (_read(v) for n, v in layer[0] if n == _NODE_ATTRIBUTE):
            grouped = part == "depthwise" and (_ATTRIBUTE_NAME, b"group") in attribute
            changed = [(n, len(weights) if grouped and n == _ATTRIBUTE_INT else v) for n, v in attribute]
            made.append((_NODE_ATTRIBUTE, _write(changed)))
        nodes[given] = made
        taken = given


def _numbers(tensor: Fields) -> npt.NDArray[np.float32]:
    """Return what a tensor of floats holds, in its shape."""
    shape = [value for number, value in tensor if number == _TENSOR_DIMS]
    raw = next(value for number, value in tensor if number == _TENSOR_RAW)
    return np.frombuffer(raw, "<f4").reshape(shape)  # type: ignore[arg-type]


def _tensor(name: str, numbers: npt.NDArray[np.float32]) -> Fields:
    """Return a ``TensorProto``."""
    head: Fields = [*((_TENSOR_DIMS, size) for size in numbers.shape), (_TENSOR_TYPE, _FLOAT)]
    return [*head, (_TENSOR_NAME, name.encode()), (_TENSOR_RAW, numbers.tobytes())]


def _value(name: str, shape: Iterable[int | str]) -> bytes:
    """Return a ``ValueInfoProto`` of floats: a size is a number, or a name where it is open."""
    sizes: Fields = [(1, _write([(1, size) if isinstance(size, int) else (2, size.encode())])) for size in shape]
    tensor = _write([(1, _FLOAT), (2, _write(sizes))])
    return _write([(1, name.encode()), (2, _write([(1, tensor)]))])


def _texts(message: Fields, wanted: int) -> list[str]:
    """Return the texts in one field of a message."""
    return [value.decode() for number, value in message if number == wanted and isinstance(value, bytes)]


def _read(message: int | bytes) -> Fields:
    """Return the fields of a protobuf message; YuNet's file has numbers (varints), texts and messages, and no other."""
    assert isinstance(message, bytes)  # noqa: S101 (the file's hash says so)
    return list(_fields(message))


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, at = _varint(message, at)
        if tag & 7 == 0:
            yield tag >> 3, number
        else:
            yield tag >> 3, message[at : at + number]
            at += number


def _varint(message: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = message[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return number, at


def _write(message: Iterable[tuple[int, int | bytes]]) -> bytes:
    """Return a protobuf message of fields."""
    parts = []
    for number, value in message:
        if isinstance(value, int):
            parts.append(_packed(number << 3) + _packed(value))
        else:
            parts.append(_packed(number << 3 | 2) + _packed(len(value)) + value)
    return b"".join(parts)


def _packed(number: int) -> bytes:
    packed = bytearray()
    while number > 0x7F:
        packed.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*packed, number))
