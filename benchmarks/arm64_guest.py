"""Search pictures on an emulated arm64 processor: the program that ``benchmarks.arm64_instructions`` starts in QEMU.

``python -m benchmarks.arm64_guest PROVIDER PICTURE...``. QEMU's plugin prints how many
instructions have been executed whenever this program closes a file descriptor that cannot exist, see :func:`_mark`.
The last line is a JSON document with the boxes found in each picture and what ran the network.
"""

import contextlib
import json
import os
import sys
from typing import Any

import cv2

from edge.detector.model.inference import load_network
from edge.detector.model.yunet import FaceDetector

CONFIDENCE = 0.7
FIRST_MARK = 1_000_000
"""The plugin knows this number too."""


def main() -> None:
    """Mark the begin and the end of each run of the network, and of each search."""
    provider, *paths = sys.argv[1:]
    detector, network = FaceDetector(640, CONFIDENCE, [provider]), load_network([provider])
    pictures: list[Any] = [cv2.imread(path) for path in paths]
    network.run(pictures[0])  # the first run allocates and initialises
    found = []
    for number, picture in enumerate(pictures):
        _mark(3 * number)
        network.run(picture)
        _mark(3 * number + 1)
        detector.detect(picture)
        _mark(3 * number + 2)
        found.append([[*face.box, face.confidence] for face in detector.detect(picture)])
    print(json.dumps({"runtime": network.runtime, "provider": network.provider, "found": found}))


def _mark(number: int) -> None:
    with contextlib.suppress(OSError):
        os.close(FIRST_MARK + number)


if __name__ == "__main__":
    main()
