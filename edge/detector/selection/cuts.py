"""Finds cuts: places where a frame shows another shot, or another camera, than the frame before.

Blocks of the new thumbnail are searched near their places in the one before. In a pan, neighbouring blocks have moved
alike, and behind somebody who walks past they have not moved. After a cut, hardly two neighbours agree. Brightness and
contrast have no effect on the comparison, so a change of light is no cut. A flash or a fade leaves too few patterns to
compare; then the next frame with enough of them is compared with the frames before.
"""

import math
from collections import deque
from typing import Any

import cv2
import numpy as np

_MIN_CHANGE = 12.0
"""Mean change of the pixels, in levels of grey, below which there is no cut."""
_MAX_SIMILARITY = 0.7
"""Correlation of two whole thumbnails from which there is no cut. Successive frames of one shot usually have 0.9."""
_MAX_AGREEING = 0.22
"""Share of agreeing blocks from which there is no cut: at most 0.21 over a cut, mostly 0.6 or more in a fast pan."""
_MIN_SHADES_DISTANCE = 0.12
"""Distance of the histograms, 0 to 1, below which there is no cut. A pan too fast for the blocks is below it."""
_BLOCK_PIXELS = 10
"""Width and height of a block of the halved thumbnail, which is at most 80 pixels wide and high."""
_REACH_PIXELS = (14, 7)
"""Maximum horizontal and vertical movement of a block from frame to frame."""
_MIN_BLOCK_SIMILARITY = 0.7
"""Correlation from which a block is found."""
_MAX_DISAGREEMENT_PIXELS = 1.5
"""Maximum difference between the movements of two neighbouring blocks that agree."""
_MIN_DEVIATION = 4.0
"""Standard deviation of a block, in levels of grey, from which it has a pattern."""
_MIN_PATTERNED = 0.3
"""Share of the blocks that must have a pattern. A frame with fewer is left out: it is dark, white or empty."""
_REMEMBERED_FRAMES = 8
"""Number of earlier frames to which the picture may return, after a flash or somebody close to the camera."""
_BINS = 32


class CutDetector:
    """Compares the thumbnails of successive frames. Frames in which nothing has changed may be left out."""

    def __init__(self) -> None:
        self._earlier: deque[Any] = deque(maxlen=_REMEMBERED_FRAMES)
        """The last halved thumbnails of this shot, the newest last."""

    def reset(self) -> None:
        """Forget the frames so far, as the next one begins a new scene anyway."""
        self._earlier.clear()

    def is_cut(self, thumbnail: Any) -> bool:
        """Return whether this thumbnail, height x width in grey, shows another shot than those before."""
        height, width = thumbnail.shape
        small = cv2.resize(thumbnail, (max(1, width // 2), max(1, height // 2)), interpolation=cv2.INTER_AREA)
        if self._earlier and self._earlier[-1].shape != small.shape:
            self._earlier.clear()
        is_cut = False
        if self._earlier and _is_unlike(self._earlier[-1], small):
            blocks = _patterned_blocks(small)
            if not blocks:
                return False
            is_cut = all(_is_other_shot(before, small, blocks) for before in reversed(self._earlier))
        if is_cut:
            self._earlier.clear()
        self._earlier.append(small)
        return is_cut


def _is_unlike(before: Any, now: Any) -> bool:
    """Return whether two images differ so much that a comparison of their blocks is worth its time."""
    if cv2.norm(before, now, cv2.NORM_L1) < _MIN_CHANGE * now.size:
        return False
    return bool(cv2.matchTemplate(before, now, cv2.TM_CCOEFF_NORMED)[0, 0] < _MAX_SIMILARITY)


def _is_other_shot(before: Any, now: Any, blocks: list[tuple[int, int]]) -> bool:
    distance = float(np.abs(_shades(before) - _shades(now)).sum()) / 2
    return distance > _MIN_SHADES_DISTANCE and _share_agreeing(before, now, blocks) < _MAX_AGREEING


def _shades(small: Any) -> Any:
    """Return the histogram of grey: shares with the sum 1."""
    return cv2.calcHist([small], [0], None, [_BINS], [0, 256]).ravel() / small.size


def _patterned_blocks(small: Any) -> list[tuple[int, int]]:
    """Return the row and column of each block that has a pattern and a neighbour with one; none if these are few."""
    rows, columns = small.shape[0] // _BLOCK_PIXELS, small.shape[1] // _BLOCK_PIXELS
    blocks = [(row, column) for row in range(rows) for column in range(columns)]
    patterned = {block for block in blocks if cv2.meanStdDev(_pixels(small, block))[1][0, 0] >= _MIN_DEVIATION}
    beside = [block for block in patterned if any(neighbour in patterned for neighbour in _neighbours(block))]
    return beside if len(beside) >= _MIN_PATTERNED * len(blocks) else []


def _pixels(small: Any, block: tuple[int, int]) -> Any:
    top, left = block[0] * _BLOCK_PIXELS, block[1] * _BLOCK_PIXELS
    return small[top : top + _BLOCK_PIXELS, left : left + _BLOCK_PIXELS]


def _share_agreeing(before: Any, now: Any, blocks: list[tuple[int, int]]) -> float:
    """Return the share of the blocks of ``now``, 0 to 1, that are found in ``before``, moved like a neighbour."""
    moved: dict[tuple[int, int], tuple[int, int]] = {}
    for block in blocks:
        top, left = block[0] * _BLOCK_PIXELS, block[1] * _BLOCK_PIXELS
        y, x = max(0, top - _REACH_PIXELS[1]), max(0, left - _REACH_PIXELS[0])
        bottom, right = top + _BLOCK_PIXELS + _REACH_PIXELS[1], left + _BLOCK_PIXELS + _REACH_PIXELS[0]
        matches = cv2.matchTemplate(before[y:bottom, x:right], _pixels(now, block), cv2.TM_CCOEFF_NORMED)
        _, similarity, _, (match_x, match_y) = cv2.minMaxLoc(matches)
        if similarity > _MIN_BLOCK_SIMILARITY:
            moved[block] = (y + match_y - top, x + match_x - left)
    return sum(_agrees(moved, block) for block in moved) / len(blocks)


def _agrees(moved: dict[tuple[int, int], tuple[int, int]], block: tuple[int, int]) -> bool:
    """Return whether a block has moved like one of its neighbours."""
    return any(
        math.dist(moved[block], moved[neighbour]) <= _MAX_DISAGREEMENT_PIXELS
        for neighbour in _neighbours(block)
        if neighbour in moved
    )


def _neighbours(block: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    row, column = block
    return (row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)
