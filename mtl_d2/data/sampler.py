"""This rank's part of every global batch, from any batch on."""

from collections.abc import Callable, Iterator
from itertools import count

import numpy as np
from torch.utils.data import Sampler

from .mixing import ImageStream, Key, Mixture


class MultiTaskBatchSampler(Sampler[list[Key]]):
    """Yield this rank's part of every global batch, without end, as lists of keys (see :class:`SeededDataset`).

    Global batch k is a function of k and the seed, and rank r takes the r-th part of it. Nothing is remembered
    between batches: a run that goes on after k batches is ``start_batch=k``, at no cost. Detectron2's aspect-ratio
    grouping holds samples back until their group is full, so that its state is more than a number: not used.

    By default, epoch e visits the samples in a permutation drawn from (seed, e). The permutations one after the other
    are a stream; global batch k is its k-th run of ``num_ranks * batch_size`` keys (a batch may lie across two
    epochs, so that no sample is dropped).

    Args:
        size: number of samples.
        batch_size: of this rank, in images.
        seed: not negative.
        rank, num_ranks: this process and how many there are.
        start_batch: number of batches that were consumed before.
        batches: the keys of a global batch, ``num_ranks * batch_size`` of them, by its number; None for the default.

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
        batches: Callable[[int], list[Key]] | None = None,
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
        if batches is None:
            total = batch_size * num_ranks
            batches = Mixture([ImageStream(np.arange(size), seed=seed)], [total], total, seed=seed)
        self.batches = batches
        self.batch_size = batch_size
        self.rank = rank
        self.start_batch = start_batch

    def __iter__(self) -> Iterator[list[Key]]:
        first = self.rank * self.batch_size
        for number in count(self.start_batch):
            yield self.batches(number)[first : first + self.batch_size]
