"""Average precision of labels of whole images."""

import numpy as np


def average_precision(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """The area under the precision-recall curve as a sum of rectangles: sum over n of (R_n - R_{n-1}) P_n.

    The thresholds are the scores that occur, so that images of one score are ranked together; nothing is interpolated.

    Args:
        scores: (N,), higher for images that rather have the class.
        labels: (N,), 1 for images that have it, 0 for the others.
        weights: (B, N), how often each image counts, in B draws; None for one draw of each once.

    Returns:
        (B,) in 0..1, or a scalar without weights; NaN where no image has the class.
    """
    if weights is None:
        return average_precision(scores, labels, np.ones((1, len(scores))))[0]
    order = np.argsort(-scores, kind="stable")
    ranked, counts = scores[order], weights[:, order].astype(np.float64)
    last = np.append(ranked[1:] != ranked[:-1], True)[: len(ranked)]  # of each group of equal scores
    found = np.cumsum(counts * labels[order], axis=1)[:, last]
    taken = np.cumsum(counts, axis=1)[:, last]
    gained = np.diff(found, axis=1, prepend=0)
    precision = np.divide(found, taken, out=np.zeros_like(found), where=taken > 0)
    total = (weights * labels).sum(axis=1)
    return np.divide((gained * precision).sum(axis=1), total, out=np.full(len(weights), np.nan), where=total > 0)


def mean_average_precision(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean over the classes that an image has, (B,) in 0..100, of each draw; NaN where no image has any.

    Args:
        scores, labels: (N, K); a label below 0 is unknown, and its image takes no part for that class.
        weights: (B, N), see :func:`average_precision`.
    """
    of_class = [
        average_precision(scores[known, k], labels[known, k], weights[:, known])
        for k, known in enumerate((labels >= 0).T)
    ]
    by_class = np.array(of_class).reshape(-1, len(weights))
    defined = ~np.isnan(by_class)
    count = defined.sum(axis=0)
    total = np.where(defined, by_class, 0).sum(axis=0)
    return 100 * np.divide(total, count, out=np.full(len(weights), np.nan), where=count > 0)
