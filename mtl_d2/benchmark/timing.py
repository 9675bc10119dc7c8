"""How long things take beside each other: interleaved in one process, compared by the ratio of their medians."""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import bootstrap
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

Run = Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """A ratio of two medians, and its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def verdict(self, goal: float) -> str:
        """Of a ratio that should be at most ``goal``: "met" or "missed" where the whole interval says so, or "open"."""
        if self.high <= goal:
            return "met"
        return "missed" if self.low > goal else "open"


def measure(
    runs: Mapping[str, Run], *, rounds: int, device: torch.device | str, title: str = ""
) -> dict[str, list[float]]:
    """Seconds of each run in each round.

    Every round runs all of them, each in another order, so that whatever else the machine does, or the one before
    leaves behind, meets all alike. A first round warms up and is not counted.

    Args:
        runs: ``{name: what is timed}``.
        rounds: counted rounds, at least 2.
        device: on "cpu" the CPU seconds of this process are taken, so that other processes count for little; on
            "cuda" the seconds between two events on the stream, idle gaps included.
        title: of the progress bar.

    Raises:
        ValueError: fewer than two rounds: they have no interval.
    """
    if rounds < 2:
        raise ValueError(f"--rounds {rounds}: expected 2 or more")
    clock = cuda_seconds if torch.device(device).type == "cuda" else cpu_seconds
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for i in tqdm(range(rounds + 1), desc=title, unit="round", disable=None):
        for name in random.Random(i).sample(list(runs), len(runs)):
            seconds[name].append(clock(runs[name]))
    return {name: values[1:] for name, values in seconds.items()}


def cpu_seconds(run: Run) -> float:
    """CPU seconds, user and system, that this process spends on one call."""
    start = time.process_time()
    run()
    return time.process_time() - start


def cuda_seconds(run: Run) -> float:
    """Seconds from the start of one call to the end of its work on the GPU."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    run()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1000


def ratio_of_medians(numerator: Sequence[float], denominator: Sequence[float]) -> Ratio:
    """median(numerator) / median(denominator), with a percentile bootstrap interval over the rounds.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.

    Args:
        numerator, denominator: one value of each per round; the two of a round stay together.
    """

    def statistic(a: np.ndarray, b: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.median(a, axis=axis) / np.median(b, axis=axis)

    a, b = np.asarray(numerator, float), np.asarray(denominator, float)
    interval = bootstrap(
        (a, b), statistic, paired=True, method="percentile", random_state=np.random.default_rng(0)
    ).confidence_interval
    return Ratio(value=float(statistic(a, b)), low=float(interval.low), high=float(interval.high))


def count_flops(run: Run) -> int:
    """Floating point operations of the matrix products and convolutions of one call, the backward pass included."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()
