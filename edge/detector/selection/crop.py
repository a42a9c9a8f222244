"""Cuts a face out of its frame, and makes a JPEG of it that fits into a message."""

import cv2

from edge.detector.camera.frame import Image

_QUALITY_STEP = 10
_MIN_QUALITY = 30
_SHRINK = 0.75


def clamp(box: tuple[float, float, float, float], width: int, height: int) -> tuple[int, int, int, int]:
    """Return the part of ``box`` that lies in a frame of ``width`` x ``height`` pixels; at least one pixel of it.

    Args:
        box: x, y, width, height.
        width: of the frame, in pixels.
        height: of the frame, in pixels.
    """
    left = min(max(round(box[0]), 0), width - 1)
    top = min(max(round(box[1]), 0), height - 1)
    right = min(max(round(box[0] + box[2]), left + 1), width)
    bottom = min(max(round(box[1] + box[3]), top + 1), height)
    return left, top, right - left, bottom - top


def crop(image: Image, box: tuple[float, float, float, float], margin: float) -> Image:
    """Cut ``box`` out of ``image``, with ``margin`` of its size added on each side, clamped to the frame."""
    x, y, width, height = box
    grown = (x - margin * width, y - margin * height, width * (1 + 2 * margin), height * (1 + 2 * margin))
    left, top, wide, high = clamp(grown, image.shape[1], image.shape[0])
    return image[top : top + high, left : left + wide]


def encode_jpeg(image: Image, quality: int, max_bytes: int) -> bytes:
    """Encode ``image`` as JPEG of at most ``max_bytes``: quality gives way first, then size.

    Args:
        image: height x width x 3, blue, green, red.
        quality: JPEG quality to begin with, 1 to 100.
        max_bytes: the most that the JPEG may have.
    """
    while True:
        for attempt in (quality, *range(quality - _QUALITY_STEP, _MIN_QUALITY - 1, -_QUALITY_STEP)):
            encoded, jpeg = cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, attempt))
            if encoded and len(jpeg) <= max_bytes:
                return jpeg.tobytes()
        height, width = image.shape[:2]
        smaller = (max(1, int(width * _SHRINK)), max(1, int(height * _SHRINK)))
        image = cv2.resize(image, smaller, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
