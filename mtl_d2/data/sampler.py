"""Which samples make up which batch, as a function of the seed and the batch's number."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

Key = tuple[int, int]


class MultiTaskBatchSampler(Sampler[list[Key]]):
    """Yield this rank's part of every global batch, without end, as lists of (epoch, index).

    Epoch e visits the samples in a permutation drawn from (seed, e). The permutations one after the other are
    a stream; global batch k is its k-th run of ``num_ranks * batch_size`` keys (a batch may lie across two
    epochs, so that no sample is dropped), and rank r takes the r-th part of it. Nothing is remembered between
    batches: a run that goes on after k batches is ``start_batch=k``, at no cost. Detectron2's aspect-ratio
    grouping holds samples back until their group is full, so that its state is more than a number: not used.

    Args:
        size: number of samples.
        batch_size: of this rank, in images.
        seed: not negative.
        rank, num_ranks: this process and how many there are.
        start_batch: number of batches that were consumed before.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        *,
        seed: int,
        rank: int = 0,
        num_ranks: int = 1,
        start_batch: int = 0,
    ) -> None:
        for name, value, least in (
            ("size", size, 1),
            ("batch_size", batch_size, 1),
            ("seed", seed, 0),
            ("start_batch", start_batch, 0),
        ):
            if value < least:
                raise ValueError(f"{name}: found {value}, expected {least} or more.")
        if not 0 <= rank < num_ranks:
            raise ValueError(f"rank: found {rank}, expected 0 to {num_ranks - 1}.")
        self.size = size
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.num_ranks = num_ranks
        self.start_batch = start_batch

    def __iter__(self) -> Iterator[list[Key]]:
        position = (self.start_batch * self.num_ranks + self.rank) * self.batch_size
        epoch, order = -1, np.empty(0, np.int64)
        while True:
            keys = []
            for p in range(position, position + self.batch_size):
                if p // self.size != epoch:
                    epoch = p // self.size
                    order = self.permutation(epoch)
                keys.append((epoch, int(order[p % self.size])))
            yield keys
            position += self.num_ranks * self.batch_size

    def permutation(self, epoch: int) -> np.ndarray:
        """Return the order of the samples in an epoch, (size,) int64."""
        return np.random.default_rng((self.seed, epoch)).permutation(self.size)
