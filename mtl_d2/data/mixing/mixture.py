"""Global batches as a function of the seed and the batch's number."""

from collections.abc import Sequence

import numpy as np

from .quota import spread_labels
from .sizes import order_by_bucket
from .stream import ImageStream, Key, as_keys


class Mixture:
    """Global batch k of one stream of images, or of several in fixed proportions.

    Batches are composed in rounds: a round takes the next ``counts[s]`` images of every stream s, shuffles which
    stream comes when, forms batches by size bucket and exchanges images until the quota holds. Both a round's place in
    the streams and a batch's place in its round follow from the batch's number: nothing has to be replayed.

    Args:
        streams: S streams of disjoint images.
        counts: (S,) images of each in a round; their sum is a multiple of ``batch_size``.
        batch_size: of the global batch, in images.
        seed: not negative.
        buckets: (N,) int size bucket of each of all N images; None to leave sizes out of account.
        labels: (N, T) bool tasks for which batches 0, quota_steps, 2 * quota_steps, ... have a labelled image.
        quota_steps: divides the number of batches of a round; 0 for no quota.
    """

    def __init__(
        self,
        streams: Sequence[ImageStream],
        counts: Sequence[int] | np.ndarray,
        batch_size: int,
        *,
        seed: int,
        buckets: np.ndarray | None = None,
        labels: np.ndarray | None = None,
        quota_steps: int = 0,
    ) -> None:
        self.streams = list(streams)
        self.counts = [int(count) for count in counts]
        self.batch_size = batch_size
        self.batches_per_round = sum(self.counts) // batch_size
        self.seed = seed
        self.buckets = buckets
        self.labels = labels if quota_steps else None
        self.quota_steps = quota_steps
        self._cache = (-1, np.empty((0, 3), np.int64))

    def __call__(self, number: int) -> list[Key]:
        """Return the keys of global batch ``number``: (epoch, index), or (epoch, index, repeat) of a repeated image."""
        if len(self.streams) == 1 and self.buckets is None and self.labels is None:
            return as_keys(self.streams[0].rows(number * self.batch_size, self.batch_size))
        number, batch = divmod(number, self.batches_per_round)
        if self._cache[0] != number:
            self._cache = (number, self.compose_round(number))
        return as_keys(self._cache[1][batch * self.batch_size : (batch + 1) * self.batch_size])

    def compose_round(self, number: int) -> np.ndarray:
        """Return the rows of a round's images in the order of its batches, (batches_per_round * batch_size, 3)."""
        turns = np.repeat(np.arange(len(self.streams)), self.counts)
        if len(self.streams) > 1:
            branch = (len(self.streams),)  # the streams have those below
            turns = np.random.default_rng(np.random.SeedSequence((self.seed, number), spawn_key=branch)).permutation(
                turns
            )
        rows = np.empty((len(turns), 3), np.int64)
        for i, (stream, count) in enumerate(zip(self.streams, self.counts, strict=True)):
            rows[turns == i] = stream.rows(number * count, count)
        if self.buckets is not None:
            rows = rows[order_by_bucket(self.buckets[rows[:, 1]], self.batch_size)]
        if self.labels is not None:
            buckets = None if self.buckets is None else self.buckets[rows[:, 1]]
            rows = rows[spread_labels(self.labels[rows[:, 1]], self.batch_size, self.quota_steps, buckets)]
        return rows
