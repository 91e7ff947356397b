"""Pictures to a square size by averaging over areas, in NumPy alone."""

from __future__ import annotations

from typing import List, Tuple

import numpy as np


class AreaResize:
    """Resizes pictures of one shape; every new pixel is the mean of the area it covers.

    Old pixels that an area covers in part count by their share: OpenCV's INTER_AREA for smaller
    pictures. Larger ones become blocks.

    Args:
        shape: height, width and channels of the pictures.
        size: edge of the resized pictures, in pixels.
    """

    def __init__(self, shape: Tuple[int, int, int], size: int) -> None:
        height, width, channels = shape
        self._rows = [(index, share[:, None]) for index, share in _shares(height, size)]
        self._columns = [
            ((index[:, None] * channels + np.arange(channels)).ravel(), np.repeat(share, channels))
            for index, share in _shares(width, size)
        ]
        self._shape = (size, size, channels)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Resize uint8 or float32 of the shape, to (size, size, channels) of the same dtype."""
        # Few additions of whole rows and columns. As two matrix products it takes as long on one
        # core, and a threaded BLAS beside other work on the cores made it 60 times slower.
        lines = image.reshape(len(image), -1)
        (index, share), *others = self._rows
        rows = lines[index] * share
        for index, share in others:
            rows += lines[index] * share
        (index, share), *others = self._columns
        pixels = rows[:, index] * share
        for index, share in others:
            pixels += rows[:, index] * share
        if image.dtype == np.uint8:
            pixels += np.float32(0.5)  # the cast truncates
        return pixels.astype(image.dtype, copy=False).reshape(self._shape)


def _shares(old: int, new: int) -> List[Tuple[np.ndarray, np.ndarray]]:
    """Pairs (index (new,), share (new,)): new pixel i is the sum of share[i] * old[index[i]]."""
    # In units of 1 / (old * new) of the edge: old pixel j covers [j * new, (j + 1) * new], new
    # pixel i covers [i * old, (i + 1) * old].
    begin = np.arange(new) * old
    end = begin + old
    first = begin // new
    count = int(np.max(-(-end // new) - first))
    pairs = []
    for offset in range(count):
        index = first + offset
        covered = np.minimum(end, (index + 1) * new) - np.maximum(begin, index * new)
        share = np.maximum(covered, 0) / old
        pairs.append((np.minimum(index, old - 1), share.astype(np.float32)))
    return pairs
