"""Images one after the other, without end: shuffled epochs in which an image may come several times, or not at all."""

import numpy as np

Key = tuple[int, ...]


class ImageStream:
    """A function from a position to an image: epochs of a constant length, one after the other.

    An image with factor r comes r times an epoch: as often as the whole part of r says, and once more in a share of
    the epochs that is its fractional part. Which images these are is drawn for each epoch by systematic sampling
    (Madow 1949), so that every epoch has the same number of them: the sum of the fractional parts, rounded.
    Images are thus drawn by their factors up to half an image an epoch, and position p stands in epoch p // length.

    Args:
        images: (N,) indices of the images.
        factors: (N,) not negative, not all 0; None for ones.
        seed: not negative. Epoch e is drawn from (seed, e).
        branch: tells streams with one seed apart.

    Attributes:
        length: of an epoch, in images.
    """

    def __init__(
        self,
        images: np.ndarray,
        factors: np.ndarray | None = None,
        *,
        seed: int,
        branch: tuple[int, ...] = (),
    ) -> None:
        self.images = np.asarray(images, np.int64)
        self.seed, self.branch = seed, branch
        factors = np.ones(len(self.images)) if factors is None else np.asarray(factors, np.float64)
        self._whole = np.floor(factors).astype(np.int64)
        self._part = factors - self._whole
        least = 0 if self._whole.any() else 1
        self._extra = max(round(float(self._part.sum())), least) if self._part.any() else 0
        self.length = int(self._whole.sum()) + self._extra
        if self.length == 0:
            raise ValueError("factors: found no image, or none with a factor above 0, expected at least one.")
        self._cache = (-1, np.empty((0, 3), np.int64))

    def rows(self, start: int, count: int) -> np.ndarray:
        """Return (count, 3) int64 from position ``start`` on: epoch, index, and how often the epoch had it before."""
        parts, end = [], start + count
        while start < end:
            epoch, offset = divmod(start, self.length)
            part = self._epoch(epoch)[offset : offset + end - start]
            parts.append(part)
            start += len(part)
        return np.concatenate(parts) if parts else np.empty((0, 3), np.int64)

    def _epoch(self, epoch: int) -> np.ndarray:
        if self._cache[0] != epoch:
            rng = np.random.default_rng(np.random.SeedSequence((self.seed, epoch), spawn_key=self.branch))
            counts = self._whole + self._draw_extra(rng) if self._extra else self._whole
            index = np.repeat(self.images, counts)
            first = np.repeat(np.cumsum(counts) - counts, counts)
            rows = np.stack([np.full(len(index), epoch), index, np.arange(len(index)) - first], axis=1)
            self._cache = (epoch, rows[rng.permutation(len(rows))])
        return self._cache[1]

    def _draw_extra(self, rng: np.random.Generator) -> np.ndarray:
        order = rng.permutation(len(self._part))
        ticks = np.cumsum(self._part[order])
        ticks *= self._extra / ticks[-1]
        ticks[-1] = self._extra  # exactly: rounding must not lose one
        drawn = np.empty(len(order), np.int64)
        drawn[order] = np.diff(np.floor(ticks + rng.random()), prepend=0).astype(np.int64)
        return drawn


def as_keys(rows: np.ndarray) -> list[Key]:
    """Return rows as keys of samples: (epoch, index), and (epoch, index, n) for the n-th repeat within the epoch."""
    return [(epoch, index, repeat) if repeat else (epoch, index) for epoch, index, repeat in rows.tolist()]
