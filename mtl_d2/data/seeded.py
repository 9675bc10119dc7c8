"""A dataset whose random augmentations depend on the sample's key alone, and that replaces broken samples."""

import logging
import random
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from .images import BrokenSampleError

logger = logging.getLogger(__name__)


@contextmanager
def seeded(*key: int) -> Iterator[None]:
    """Seed Python's, numpy's and torch's (CPU) global generators with ``key``, and restore them at the end.

    Args:
        key: integers, not negative; every one of them matters, so does their order.
    """
    python_state, numpy_state, torch_state = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    seeds = np.random.SeedSequence(key).generate_state(3)
    random.seed(int(seeds[0]))
    np.random.seed(seeds[1])  # noqa: NPY002  Detectron2's augmentations draw from numpy's global generator
    # Not torch.manual_seed, which seeds every device and so reaches into CUDA from a forked worker.
    torch.default_generator.manual_seed(int(seeds[2]))
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)  # noqa: NPY002
        torch.set_rng_state(torch_state)


class SeededDataset(Dataset[dict[str, Any]]):
    """Map records under a random state that is a function of the seed and the sample's key.

    A key is (epoch, index), or (epoch, index, n) for the n-th repeat of an image within an epoch. A broken sample
    (:class:`BrokenSampleError`) is replaced by another record, drawn from the seed and the key too, of its own group as
    long as that has one which was not tried; the replacement's "skipped_files" lists the file names of the records that
    it stands for.

    Args:
        records: what can be indexed by 0 to len - 1.
        mapper: record -> model input.
        seed: not negative.
        max_attempts: records that are tried for one sample.
        groups: (N,) int, such as the labels that a record has; None for one group.
    """

    def __init__(
        self,
        records: Sequence[dict[str, Any]] | Dataset,
        mapper: Callable[[dict[str, Any]], dict[str, Any]],
        *,
        seed: int,
        max_attempts: int = 5,
        groups: np.ndarray | None = None,
    ) -> None:
        self.records = records
        self.mapper = mapper
        self.seed = seed
        self.max_attempts = max_attempts
        self.groups = np.zeros(len(self), np.int64) if groups is None else groups

    def __len__(self) -> int:
        return len(self.records)  # type: ignore[arg-type]  # a map-style dataset has a length

    def __getitem__(self, key: tuple[int, ...]) -> dict[str, Any]:
        """
        Args:
            key: epoch, index and, if the image comes again in its epoch, which repeat it is.

        Raises:
            BrokenSampleError: as many records as were tried are broken.
        """
        index = key[1]
        rng = np.random.default_rng((self.seed, *key))
        tried: dict[int, str] = {}
        while True:
            record = self.records[index]
            try:
                with seeded(self.seed, *key, len(tried)):
                    sample = self.mapper(record)
            except BrokenSampleError as error:
                tried[index] = record["file_name"]
                if len(tried) == min(self.max_attempts, len(self)):
                    raise _too_many(tried, error) from error
                logger.warning("Replaced a broken sample: %s", error)
                index = self._draw_replacement(index, tried, rng)
                continue
            if tried:
                sample["skipped_files"] = list(tried.values())
            return sample

    def _draw_replacement(self, index: int, tried: Container[int], rng: np.random.Generator) -> int:
        candidates = np.flatnonzero(self.groups == self.groups[index])
        if all(candidate in tried for candidate in candidates.tolist()):
            candidates = np.arange(len(self))
        while index in tried:
            index = int(candidates[rng.integers(len(candidates))])
        return index


def _too_many(tried: dict[int, str], error: BrokenSampleError) -> BrokenSampleError:
    return BrokenSampleError(
        f"{', '.join(tried.values())}: {len(tried)} broken samples in a row, stopped; the last one is {error}"
    )
