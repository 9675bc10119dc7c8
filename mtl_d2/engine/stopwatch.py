"""What a part of a step costs, without a wait for the GPU."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Stopwatch:
    """Adds up the seconds of its blocks; ``float(watch)`` reads them.

    On a GPU they are those between events in its queue: a host clock would see how long it takes to fill the queue, or,
    in a block that reads a result, all that was queued before. Reading waits for the last event, timing for none.

    Args:
        device: that does the work.
    """

    def __init__(self, device: torch.device | str) -> None:
        self._is_cuda = torch.device(device).type == "cuda"
        self._seconds = 0.0
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        if self._is_cuda:
            first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            first.record()
            yield
            last.record()
            self._events.append((first, last))
        else:
            start = time.perf_counter()
            yield
            self._seconds += time.perf_counter() - start

    def __float__(self) -> float:
        for _, last in self._events:
            last.synchronize()
        return self._seconds + sum(first.elapsed_time(last) for first, last in self._events) / 1000
