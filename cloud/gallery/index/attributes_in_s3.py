"""Reads the attributes of a face from the metadata of its object in S3.

The sink writes only valid attributes. Others may have written the object, so an attribute that is missing or not valid
is not known, which is no error.
"""

import re
from collections.abc import Mapping

_SHARE = re.compile(r"(?:0(?:\.[0-9]{1,9})?|1(?:\.0{1,9})?)")
_TRACK = re.compile(r"[0-9]{1,9}")
_BOX = re.compile(r"(-?[0-9]{1,6}),(-?[0-9]{1,6}),([0-9]{1,6}),([0-9]{1,6})")
_FRAMESIZE = re.compile(r"([1-9][0-9]{0,5})x([1-9][0-9]{0,5})")


def confidence(attributes: Mapping[str, str]) -> float | None:
    """Return the confidence, 0 to 1."""
    text = attributes.get("confidence", "")
    return float(text) if _SHARE.fullmatch(text) else None


def quality(attributes: Mapping[str, str]) -> float | None:
    """Return the quality of the picture, 0 to 1."""
    text = attributes.get("quality", "")
    return float(text) if _SHARE.fullmatch(text) else None


def track(attributes: Mapping[str, str]) -> int | None:
    """Return the number of the track."""
    text = attributes.get("track", "")
    return int(text) if _TRACK.fullmatch(text) else None


def box(attributes: Mapping[str, str]) -> tuple[int, int, int, int] | None:
    """Return x, y, width and height in pixels of the frame."""
    found = _BOX.fullmatch(attributes.get("box", ""))
    return (int(found[1]), int(found[2]), int(found[3]), int(found[4])) if found else None


def framesize(attributes: Mapping[str, str]) -> tuple[int, int] | None:
    """Return width and height of the frame in pixels."""
    found = _FRAMESIZE.fullmatch(attributes.get("framesize", ""))
    return (int(found[1]), int(found[2])) if found else None
