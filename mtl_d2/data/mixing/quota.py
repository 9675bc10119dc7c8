"""Task quota: every so many batches, an image that is labelled for each task."""

import numpy as np


def needed_images(carriers: np.ndarray, due_batches: int) -> np.ndarray:
    """Return how many images of each task a round must have for :func:`spread_labels` to succeed, (T,) int64.

    One for each due batch. Where a task shares its images with m > 1 others, m: those placed for the others may all
    lie in batches that have the task's label already.

    Args:
        carriers: (K, T) bool, whether the images of a group are labelled for a task.
        due_batches: of a round.
    """
    together = carriers.T.astype(np.int64) @ carriers > 0
    return due_batches * np.maximum(together.sum(axis=1) - 1, 1)


def spread_labels(labels: np.ndarray, batch_size: int, steps: int, buckets: np.ndarray | None = None) -> np.ndarray:
    """Return an order of a round's images in which batches 0, steps, 2 * steps, ... have every label.

    From the rarest task on: a due batch that has the label keeps one such image for good; the others exchange one of
    their images for a labelled one of another batch, of their own bucket where there is one.

    Args:
        labels: (M, T) bool, the tasks that an image is labelled for; at least :func:`needed_images` of each.
        batch_size: divides M, at least T.
        steps: divides the number of batches.
        buckets: (M,) int size bucket of each image.

    Returns:
        (M,) int64, a permutation.
    """
    order = np.arange(len(labels))
    kept = np.zeros((len(labels) // batch_size, batch_size), bool)
    buckets = np.zeros(len(labels), np.int64) if buckets is None else buckets
    for task in np.argsort(labels.sum(axis=0), kind="stable"):
        _place(order, kept, labels[:, task], steps, buckets)
    return order


def _place(order: np.ndarray, kept: np.ndarray, label: np.ndarray, steps: int, buckets: np.ndarray) -> None:
    size = kept.shape[1]
    due = np.arange(0, len(kept), steps)
    labelled = label[order].reshape(kept.shape)
    has = labelled[due].any(axis=1)
    to_keep = due[has & ~(labelled & kept)[due].any(axis=1)]
    kept[to_keep, labelled[to_keep].argmax(axis=1)] = True
    lacking = due[~has]
    free = kept[lacking].argmin(axis=1)
    donors = np.flatnonzero(labelled & ~kept)
    takers = lacking * size + free
    donors = donors[_match(buckets[order[takers]], buckets[order[donors]])]
    order[takers], order[donors] = order[donors], order[takers]
    kept[lacking, free] = True


def _match(wanted: np.ndarray, offered: np.ndarray) -> np.ndarray:
    """Return for each wanted value a different index into ``offered``, of the same value while there are any."""
    chosen = np.full(len(wanted), -1)
    for value in np.unique(wanted):
        takers, donors = np.flatnonzero(wanted == value), np.flatnonzero(offered == value)
        pairs = min(len(takers), len(donors))
        chosen[takers[:pairs]] = donors[np.arange(pairs) * len(donors) // max(pairs, 1)]
    rest = np.setdiff1d(np.arange(len(offered)), chosen)
    missing = np.flatnonzero(chosen < 0)
    chosen[missing] = rest[np.arange(len(missing)) * len(rest) // max(len(missing), 1)]
    return chosen
