"""Interleaving, the ratio and its interval, and the count of floating point operations."""

import itertools

import pytest
import torch

from mtl_d2.benchmark import timing
from mtl_d2.benchmark.timing import count_flops, measure, ratio_of_medians


@pytest.fixture
def calls(monkeypatch):
    """The runs in the order of their calls; a clock that counts them stands in for the CPU's."""
    calls = []

    def clock(run):
        run()
        return float(len(calls))

    monkeypatch.setattr(timing, "cpu_seconds", clock)
    return calls


def test_every_round_has_all_in_an_order_of_its_own_and_the_first_does_not_count(calls):
    runs = {name: lambda name=name: calls.append(name) for name in "abc"}
    seconds = measure(runs, rounds=20, device="cpu")
    rounds = ["".join(calls[i : i + 3]) for i in range(0, len(calls), 3)]
    assert len(rounds) == 21 and {*map("".join, itertools.permutations("abc"))} == {*rounds}
    assert seconds == {name: [3 * i + order.index(name) + 1 for i, order in enumerate(rounds) if i] for name in "abc"}


def test_one_round_is_refused():
    with pytest.raises(ValueError, match="--rounds 1: expected 2 or more"):
        measure({"a": int}, rounds=1, device="cpu")


def test_cpu_seconds_count_work_and_not_waiting():
    import time

    def work():
        end = time.process_time() + 0.05
        while time.process_time() < end:
            pass

    assert timing.cpu_seconds(lambda: time.sleep(0.2)) < 0.05 <= timing.cpu_seconds(work)


def test_ratio_is_that_of_the_medians_within_its_interval():
    ratio = ratio_of_medians([1.0, 2.0, 9.0], [4.0, 8.0, 5.0])
    assert ratio.value == 2.0 / 5.0
    assert ratio.low < ratio.value < ratio.high
    assert (ratio.low, ratio.high) == (0.25, 1.8)  # of samples that are one round thrice


def test_rounds_that_are_slow_for_both_leave_no_doubt():
    slow = [1.0, 7.0, 2.0, 5.0, 3.0]
    ratio = ratio_of_medians(slow, [2 * seconds for seconds in slow])
    assert (ratio.low, ratio.value, ratio.high) == (0.5, 0.5, 0.5)


def test_flops_of_a_product_and_of_its_gradients():
    a, b = torch.ones(2, 3, requires_grad=True), torch.ones(3, 4, requires_grad=True)
    forward = 2 * 2 * 3 * 4
    assert count_flops(lambda: a @ b) == forward
    assert count_flops(lambda: (a @ b).sum().backward()) == 3 * forward


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_seconds_wait_for_the_device():
    short, long = (timing.cuda_seconds(lambda n=n: torch.cuda._sleep(n)) for n in (10**6, 10**8))
    assert 0 < 10 * short < long
