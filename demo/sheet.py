"""Draws a contact sheet: faces side by side, each with its capture time, its confidence and its track."""

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self, TypeVar

from PIL import Image, ImageDraw, ImageFont, ImageOps

from wire.timestamps import parse_time

MAX_FACES = 54
"""Maximum number of faces on a sheet. From more, this many are chosen evenly."""

_MIN_COLUMNS, _MAX_COLUMNS = 6, 9
_PICTURE = (168, 210)
"""Width and height of a picture, in pixels, like all lengths here."""
_CAPTION = 58
"""Height of the text under a picture."""
_GAP, _EDGE, _HEADER = 16, 40, 96
_PAPER, _MAT, _INK, _GREY = "#15181d", "#0c0e11", "#f2f4f7", "#98a2b0"

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Portrait:
    """A face read back from S3."""

    jpeg: bytes
    captured_at: datetime
    """UTC."""
    confidence: str
    """0 to 1, from the object's metadata; a dash if it has none."""
    track: str
    """Number of the track; a dash if there is none."""

    @classmethod
    def of_object(cls, metadata: Mapping[str, str], body: bytes) -> Self:
        """Create a portrait from an object's metadata and content.

        Raises:
            BadMessage: the metadata contain no time.
        """
        captured_at = parse_time(metadata.get("time", ""))
        return cls(body, captured_at, metadata.get("confidence", "-"), metadata.get("track", "-"))

    @property
    def clock(self) -> str:
        """Time of day of the capture, UTC, with milliseconds."""
        return f"{self.captured_at:%H:%M:%S}.{self.captured_at.microsecond // 1000:03d}"


def evenly(items: Sequence[Item], max_items: int) -> list[Item]:
    """Return at most ``max_items`` of ``items``, evenly chosen, including the first and the last."""
    if len(items) <= max_items:
        return list(items)
    return [items[round(place * (len(items) - 1) / (max_items - 1))] for place in range(max_items)]


def draw(portraits: Sequence[Portrait], title: str, lines: Sequence[str]) -> Image.Image:
    """Draw a contact sheet.

    Args:
        portraits: at least one, in the order of the sheet.
        title: large text at the top.
        lines: one or two lines of small text beside the title.

    Raises:
        PIL.UnidentifiedImageError: a picture cannot be read.
    """
    columns = min(_MAX_COLUMNS, max(_MIN_COLUMNS, math.ceil(math.sqrt(1.6 * len(portraits)))))
    rows = math.ceil(len(portraits) / columns)
    step = (_PICTURE[0] + _GAP, _PICTURE[1] + _CAPTION)
    sheet = Image.new("RGB", (2 * _EDGE + columns * step[0] - _GAP, _HEADER + rows * step[1] + _EDGE // 2), _PAPER)
    pen = ImageDraw.Draw(sheet)
    _head(pen, sheet.width, title, lines)
    for place, portrait in enumerate(portraits):
        row, column = divmod(place, columns)
        _cell(sheet, pen, (_EDGE + column * step[0], _HEADER + row * step[1]), portrait)
    return sheet


def _head(pen: ImageDraw.ImageDraw, width: int, title: str, lines: Sequence[str]) -> None:
    large, small = ImageFont.load_default(34), ImageFont.load_default(17)
    pen.text((_EDGE, _HEADER // 2), title, _INK, large, anchor="lm")
    room = width - 3 * _EDGE - pen.textlength(title, large)
    for place, line in enumerate(lines):
        fitting = line
        while pen.textlength(fitting, small) > room:
            fitting = fitting.removesuffix("...")[:-1] + "..."
        middle = _HEADER / 2 + (place - (len(lines) - 1) / 2) * 24
        pen.text((width - _EDGE, middle), fitting, _GREY, small, anchor="rm")


def _cell(sheet: Image.Image, pen: ImageDraw.ImageDraw, at: tuple[int, int], portrait: Portrait) -> None:
    left, top = at
    right, bottom = left + _PICTURE[0], top + _PICTURE[1]
    with Image.open(io.BytesIO(portrait.jpeg)) as picture:
        fitted = ImageOps.contain(picture.convert("RGB"), _PICTURE, Image.Resampling.LANCZOS)
    pen.rectangle((left, top, right - 1, bottom - 1), fill=_MAT)
    sheet.paste(fitted, (left + (_PICTURE[0] - fitted.width) // 2, top + (_PICTURE[1] - fitted.height) // 2))
    pen.text((left, bottom + 8), portrait.clock, _INK, ImageFont.load_default(17), anchor="la")
    small = ImageFont.load_default(14)
    pen.text((left, bottom + 30), f"confidence {portrait.confidence}", _GREY, small, anchor="la")
    pen.text((right, bottom + 30), f"track {portrait.track}", _GREY, small, anchor="ra")
