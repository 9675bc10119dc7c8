"""Which share of the images to draw from each group of images."""

from collections.abc import Sequence

import numpy as np

Margin = tuple[np.ndarray, np.ndarray]
_ITERATIONS, _TOLERANCE = 10_000, 1e-6


def rake(natural: np.ndarray, margins: Sequence[Margin]) -> np.ndarray:
    """Return the shares that have all margins and are otherwise nearest to the natural ones.

    Iterative proportional fitting ("On a Least Squares Adjustment of a Sampled Frequency Table When the Expected
    Marginal Totals are Known", Deming and Stephan 1940), whose limit has the least relative entropy.

    Args:
        natural: (K,) positive sizes of K groups.
        margins: each a partition of the groups and the share of each of its P parts: (K,) int part of a group, and
            (P,) shares that sum to 1.

    Returns:
        (K,) shares that sum to 1.

    Raises:
        ValueError: no shares have all margins.
    """
    shares = natural / natural.sum()
    for _ in range(_ITERATIONS):
        worst = 0.0
        for part, target in margins:
            found = np.bincount(part, shares, minlength=len(target))
            worst = max(worst, float(np.abs(found - target).max()))
            shares = shares * np.divide(target, found, out=np.zeros_like(found), where=found > 0)[part]
        if worst < _TOLERANCE:
            return shares
    raise ValueError("margins: found shares that contradict each other.")


def shares_with_minimum(
    natural: np.ndarray, margins: Sequence[Margin], carriers: np.ndarray, minimum: np.ndarray
) -> np.ndarray:
    """Return :func:`rake` of the margins, with each task's share raised to its minimum where it is below.

    Args:
        carriers: (K, T) bool, whether the images of a group are labelled for a task.
        minimum: (T,) shares.

    Raises:
        ValueError: no shares have all margins and minima.
    """
    if (minimum > 1).any():
        raise ValueError(f"minimum: found {minimum.tolist()}, expected shares up to 1.")
    margins, raised = list(margins), set[int]()
    while True:
        shares = rake(natural, margins)
        short = [t for t in range(len(minimum)) if shares[carriers[:, t]].sum() < minimum[t] - _TOLERANCE]
        if raised.issuperset(short):
            return shares
        for task in set(short) - raised:
            margins.append((carriers[:, task].astype(np.int64), np.array([1 - minimum[task], minimum[task]])))
        raised.update(short)


def apportion(shares: np.ndarray, total: int, carriers: np.ndarray, needs: np.ndarray) -> np.ndarray:
    """Return whole numbers in the proportion of the shares: at least 1 for each, and what each task needs.

    By the largest remainders; then single images are moved until every task has its number.

    Args:
        shares: (K,) that sum to 1; a group with share 0 gets none.
        total: sum of the result.
        carriers: (K, T) bool, whether the images of a group are labelled for a task.
        needs: (T,) least number of images that are labelled for a task.

    Raises:
        ValueError: the total is too small for what the tasks need.
    """
    exact = shares * total
    counts = np.maximum(np.floor(exact), shares > 0).astype(np.int64)
    while counts.sum() < total:
        counts[np.argmax(exact - counts)] += 1
    while counts.sum() > total:
        counts[np.argmax(np.where(counts > 1, counts - exact, -np.inf))] -= 1
    for task, need in enumerate(needs):
        while counts[carriers[:, task]].sum() < need:
            surplus = counts @ carriers - needs
            spare = (counts > 1) & ~carriers[:, task] & ~(carriers & (surplus <= 0)).any(axis=1)
            if not spare.any():
                raise ValueError(f"total: found {total}, too few for the least numbers {needs.tolist()}.")
            counts[np.argmax(np.where(spare, counts, 0))] -= 1
            counts[np.argmax(np.where(carriers[:, task], counts, 0))] += 1
    return counts
