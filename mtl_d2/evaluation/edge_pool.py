"""Images scored in other processes, while the caller goes on."""

import multiprocessing
import os
import sys
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from typing import Any

from tqdm import tqdm

from .._orphans import end_with_parent

_BACKLOG = 4  # images waiting for each scoring process, before the caller has to wait


class ScoringPool:
    """Calls by name, and what they returned.

    Args:
        workers: processes; 0 makes each call at once in this one.
    """

    def __init__(self, workers: int) -> None:
        if workers < 0:
            raise ValueError(f"The number of scoring processes must be 0 or more, found {workers}.")
        self.results: dict[str, Any] = {}
        self._workers = workers
        self._pool: ProcessPoolExecutor | None = None
        self._pending: dict[Future, str] = {}

    def submit(self, name: str, call: Callable[..., Any], *args: Any) -> None:
        """Make a call some time; waits where too many are waiting. An error of an earlier one is raised here."""
        if self._workers == 0:
            self.results[name] = call(*args)
            return
        if self._pool is None:
            self._pool = _start(self._workers)
        self._pending[self._pool.submit(call, *args)] = name
        while len(self._pending) > _BACKLOG * self._workers:
            self._collect()

    def finish(self) -> dict[str, Any]:
        """Wait for all calls, with a progress bar; ``{name: what it returned}``."""
        try:
            with tqdm(total=len(self._pending), desc="edge scores", disable=None, leave=False) as progress:
                while self._pending:
                    progress.update(self._collect())
        finally:
            self.close()
        return self.results

    def close(self) -> None:
        """Drop the calls that have not begun, and end the processes."""
        self._pending.clear()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def _collect(self) -> int:
        done = wait(self._pending, return_when=FIRST_COMPLETED).done
        for future in [future for future in self._pending if future in done]:  # of several errors, the first call's
            name = self._pending.pop(future)
            self.results[name] = future.result()
        return len(done)


def default_workers(ranks: int = 1) -> int:
    """A scoring process for each core, shared among the ranks of this machine; 0 where there may be none."""
    if multiprocessing.current_process().daemon:  # may not have children
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // ranks)


def _start(workers: int) -> ProcessPoolExecutor:
    # Forked, as PyTorch's data loader workers are: a spawned process would import torch, and the caller's
    # script, which takes seconds. What runs there is numpy and scipy, without threads and without CUDA.
    # Elsewhere than on Linux a fork is not safe.
    method = "fork" if sys.platform == "linux" else "spawn"
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context(method), initializer=end_with_parent)
