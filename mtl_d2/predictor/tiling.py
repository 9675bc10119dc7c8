"""Where the tiles of a large image lie, and what each of them answers for."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .network_input import Size


@dataclass(frozen=True)
class Tiling:
    """Tiles whose origins lie on the grid of the network's coarsest stride, so that each sees what the whole sees.

    A cell is ``stride`` pixels of the network's input and a whole number of pixels of the image: the scale at
    which the image is resized is ``stride / cell``.

    Attributes:
        tile, overlap: side and least overlap of the tiles in pixels of the image, multiples of ``cell``.
        cell: pixels of the image.
        stride: pixels of the network's input.
    """

    tile: int
    overlap: int
    cell: int
    stride: int

    @classmethod
    def fit(cls, tile: int, overlap: int, *, tile_test_size: int, stride: int) -> "Tiling":
        """Round tile and overlap up to whole cells, at the scale that the config resizes a tile by.

        Args:
            tile, overlap: in pixels of the image.
            tile_test_size: side of an image of tile x tile pixels after the config's test-time resize.
            stride: coarsest of the backbone.
        """
        cell = max(1, round(stride * tile / tile_test_size))
        overlap = _round_up(overlap, cell)
        return cls(max(_round_up(tile, cell), 2 * overlap), overlap, cell, stride)

    def axis(self, length: int) -> "Axis":
        """The tiles along a side of the image: evenly spread, the last one ends with the image or within a cell."""
        if length <= self.tile:
            return Axis((0,), (length,), self.overlap)
        count = 1 + -(-(length - self.tile) // max(self.tile - self.overlap, self.cell))
        last = _round_up(length - self.tile, self.cell)
        origins = tuple(i * (last // self.cell) // (count - 1) * self.cell for i in range(count))
        return Axis(origins, tuple(min(origin + self.tile, length) for origin in origins), self.overlap)

    def test_size(self, size: Size) -> Size:
        """What a tile of that height and width is resized to."""
        height, width = (max(1, round(side * self.stride / self.cell)) for side in size)
        return height, width


@dataclass(frozen=True)
class Axis:
    """Tiles along one side of an image: they start at ``starts`` and end before ``ends``, in pixels."""

    starts: tuple[int, ...]
    ends: tuple[int, ...]
    overlap: int

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def length(self) -> int:
        return self.ends[-1]

    @property
    def spans(self) -> list[tuple[int, int]]:
        """Start and end of each."""
        return list(zip(self.starts, self.ends, strict=True))

    @cached_property
    def borders(self) -> list[float]:
        """The middles of the overlaps, between the sides of the image: tile i's core is from [i] to [i + 1]."""
        middles = [(start + end) / 2 for start, end in zip(self.starts[1:], self.ends[:-1], strict=True)]
        return [0.0, *middles, float(self.length)]

    @cached_property
    def weights(self) -> list[np.ndarray]:
        """For each tile, float32 weights of its pixels, which sum to 1 over the tiles.

        Within an overlap they fall linearly from 1 to 0 over its middle half: the outer quarter, where the
        network saw a border that is none, has no say.
        """
        ramps = [np.ones(end - start) for start, end in self.spans]
        for i in range(len(self) - 1):
            shared = self.ends[i] - self.starts[i + 1]
            if shared:
                rise = np.clip(2 * (np.arange(shared) + 0.5) / shared - 0.5, 0, 1)
                ramps[i + 1][:shared] = np.minimum(ramps[i + 1][:shared], rise)
                ramps[i][-shared:] = np.minimum(ramps[i][-shared:], 1 - rise)
        total = np.zeros(self.length)
        for start, end, ramp in zip(self.starts, self.ends, ramps, strict=True):
            total[start:end] += ramp
        return [
            (ramp / total[start:end]).astype(np.float32)
            for start, end, ramp in zip(self.starts, self.ends, ramps, strict=True)
        ]


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def check_tile(tile: int, overlap: int) -> None:
    """Raise ValueError where the tile is empty, or the overlap is below 0 or above half a tile."""
    if tile < 1 or not 0 <= overlap <= tile // 2:
        raise ValueError(
            f"tile={tile}, tile_overlap={overlap}: expected a tile of 1 pixel or more and an overlap "
            "from 0 to half a tile."
        )
