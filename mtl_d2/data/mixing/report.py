"""What a training will see, in sentences for the log."""

from collections.abc import Sequence

import numpy as np

from .mixture import Mixture
from .sizes import padding_share


def describe_datasets(names: Sequence[str], tasks: Sequence[str], dataset_ids: np.ndarray, labels: np.ndarray) -> str:
    """Return the number of images of each dataset, and of those labelled for each task."""
    parts = []
    for number, name in enumerate(names):
        members = labels[dataset_ids == number]
        parts.append(f"{name} {len(members)} ({_numbers(tasks, members.sum(axis=0))})")
    return f"Training on {len(labels)} images: {'; '.join(parts)}."


def describe_batches(
    mixture: Mixture, names: Sequence[str], tasks: Sequence[str], dataset_ids: np.ndarray, labels: np.ndarray
) -> str:
    """Return how many images of each dataset, and labelled for each task, a batch has in the mean."""
    size = mixture.batch_size
    draws = np.zeros(len(labels))  # of each image, for one batch
    for stream, count in zip(mixture.streams, mixture.counts, strict=True):
        epoch = stream.rows(0, stream.length)[:, 1]
        draws += np.bincount(epoch, minlength=len(draws)) * (count / sum(mixture.counts) * size / len(epoch))
    drawn = np.bincount(dataset_ids, draws, minlength=len(names))
    return (
        f"Of the {size} images of a batch in the mean: {_numbers([*tasks, *names], np.append(draws @ labels, drawn))}."
    )


def describe_padding(mixture: Mixture, sizes: np.ndarray) -> str:
    """Return the padding of the first round's batches, with size buckets and without."""
    without = Mixture(mixture.streams, mixture.counts, mixture.batch_size, seed=mixture.seed)
    shares = [padding_share(sizes[x.compose_round(0)[:, 1]], x.batch_size) for x in (mixture, without)]
    return "By size buckets, {:.1%} of the pixels of a batch are padding instead of {:.1%}.".format(*shares)


def _numbers(names: Sequence[str], numbers: np.ndarray) -> str:
    return ", ".join(f"{name} {round(number, 2):g}" for name, number in zip(names, numbers.tolist(), strict=True))
