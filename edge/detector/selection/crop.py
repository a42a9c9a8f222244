"""Crops faces, and encodes them as JPEGs of a limited size."""

import cv2

from edge.detector.camera.frame import Image

_QUALITY_STEP = 10
_MIN_QUALITY = 30
_SHRINK_FACTOR = 0.75


def clamp(box: tuple[float, float, float, float], width: int, height: int) -> tuple[int, int, int, int]:
    """Return the part of ``box`` within a frame of this size, at least one pixel, as x, y, width, height."""
    left = min(max(round(box[0]), 0), width - 1)
    top = min(max(round(box[1]), 0), height - 1)
    right = min(max(round(box[0] + box[2]), left + 1), width)
    bottom = min(max(round(box[1] + box[3]), top + 1), height)
    return left, top, right - left, bottom - top


def crop(image: Image, box: tuple[float, float, float, float], margin: float) -> Image:
    """Return a view of ``box`` in ``image``, with ``margin`` of its size added on each side, clamped to the image."""
    x, y, width, height = box
    expanded = (x - margin * width, y - margin * height, width * (1 + 2 * margin), height * (1 + 2 * margin))
    left, top, crop_width, crop_height = clamp(expanded, image.shape[1], image.shape[0])
    return image[top : top + crop_height, left : left + crop_width]


def encode_jpeg(image: Image, quality: int, max_bytes: int) -> bytes:
    """Encode ``image`` as a JPEG of at most ``max_bytes``; ``quality`` is the initial one, 1 to 100.

    Quality is reduced first, then resolution, until the JPEG fits.
    """
    while True:
        for attempt in (quality, *range(quality - _QUALITY_STEP, _MIN_QUALITY - 1, -_QUALITY_STEP)):
            encoded, jpeg = cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, attempt))
            if encoded and len(jpeg) <= max_bytes:
                return jpeg.tobytes()
        height, width = image.shape[:2]
        smaller = (max(1, int(width * _SHRINK_FACTOR)), max(1, int(height * _SHRINK_FACTOR)))
        image = cv2.resize(image, smaller, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
