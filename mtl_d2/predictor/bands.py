"""Blend the dense answers of tiles, with no more than a row of tiles in memory beside the result."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from .network_input import Size

_ROWS = 64  # reduced at a time: what is made of them on the way, such as int64 labels, stays small


class BlendedMap:
    """One dense answer about an image, from those about its tiles: rows of tiles from top to bottom.

    Args:
        tile: height of a tile in pixels.
        size: H and W of the image.
        reduce: makes the result's rows (..., h, W) of blended values (C, h, W).

    Attributes:
        values: the result, (..., H, W); complete when all rows are finished.
    """

    values: Tensor

    def __init__(self, tile: int, size: Size, reduce: Callable[[Tensor], Tensor]) -> None:
        self.size = size
        self.reduce = reduce
        self.tile = tile
        self.top = 0
        self._band: Tensor | None = None  # made with the first tile, which tells the number of channels

    def add(self, values: Tensor, left: int, row_weights: np.ndarray, column_weights: np.ndarray) -> None:
        """Add a tile's values (C, h, w) by its weights (h,) and (w,); its rows begin where the unfinished ones do."""
        if self._band is None:
            self._band = torch.zeros(len(values), min(self.tile, self.size[0]), self.size[1])
        _, height, width = values.shape
        rows, columns = torch.from_numpy(row_weights)[:, None], torch.from_numpy(column_weights)
        target = self._band[:, :height, left : left + width]
        for channel, found in enumerate(values):  # by channel: little memory on the way
            target[channel] += found.float() * rows * columns

    def finish_rows(self, end: int) -> None:
        """Rows above ``end`` get no more tiles."""
        if self._band is None:
            return
        done = end - self.top
        for row in range(0, done, _ROWS):
            part = self.reduce(self._band[:, row : min(row + _ROWS, done)])
            if self.top + row == 0:
                self.values = part.new_empty((*part.shape[:-2], *self.size))
            self.values[..., self.top + row : self.top + row + part.shape[-2], :] = part
        left_over = self._band.shape[1] - done
        for row in range(left_over):  # moved up in place
            self._band[:, row] = self._band[:, row + done]
        self._band[:, left_over:] = 0
        self.top = end


def keep_logits(values: Tensor) -> Tensor:
    return values


def keep_labels(values: Tensor) -> Tensor:
    """(K, h, w) logits to (h, w) labels: uint8, int16 for more than 256 classes."""
    return values.argmax(dim=0).to(torch.uint8 if len(values) <= 256 else torch.int16)


def keep_channel(values: Tensor) -> Tensor:
    return values[0]


def keep_half_channel(values: Tensor) -> Tensor:
    return values[0].half()
