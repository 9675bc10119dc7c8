from itertools import islice

import pytest

from mtl_d2.data import MultiTaskBatchSampler


def batches(count, size=7, batch_size=2, **kwargs):
    return list(islice(MultiTaskBatchSampler(size, batch_size, seed=3, **kwargs), count))


def test_every_epoch_is_a_permutation_and_they_differ():
    keys = [key for batch in batches(7) for key in batch]
    epochs = [[index for epoch, index in keys if epoch == e] for e in (0, 1)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(7))
    assert epochs[0] != epochs[1]
    assert [epoch for epoch, _ in keys] == [0] * 7 + [1] * 7


def test_the_ranks_parts_are_the_global_batch_in_order():
    whole = batches(9, batch_size=6)
    parts = [batches(9, batch_size=2, rank=rank, num_ranks=3) for rank in range(3)]
    assert whole == [sum(ranks, []) for ranks in zip(*parts, strict=True)]


@pytest.mark.parametrize("start", [0, 1, 5, 23])
def test_starting_at_a_batch_equals_having_consumed_those_before(start):
    uninterrupted = batches(30, rank=1, num_ranks=2)
    assert batches(30 - start, rank=1, num_ranks=2, start_batch=start) == uninterrupted[start:]


def test_a_late_start_costs_nothing_and_small_datasets_wrap_within_a_batch():
    assert len(batches(1, start_batch=10**12)[0]) == 2
    (batch,) = batches(1, size=2, batch_size=5)
    assert [epoch for epoch, _ in batch] == [0, 0, 1, 1, 2]


def test_the_seed_decides_the_order():
    orders = [next(iter(MultiTaskBatchSampler(50, 50, seed=seed))) for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]


def test_batches_of_ones_own_are_shared_among_the_ranks():
    options = {"seed": 0, "num_ranks": 2, "start_batch": 5, "batches": lambda k: [(k, i) for i in range(4)]}
    parts = [next(iter(MultiTaskBatchSampler(9, 2, rank=rank, **options))) for rank in (0, 1)]
    assert parts == [[(5, 0), (5, 1)], [(5, 2), (5, 3)]]


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"size": 0}, "size"),
        ({"batch_size": 0}, "batch_size"),
        ({"start_batch": -1}, "start_batch"),
        ({"rank": 2}, "rank"),
    ],
)
def test_arguments_out_of_range_are_named(wrong, name):
    with pytest.raises(ValueError, match=f"^{name}: found"):
        MultiTaskBatchSampler(**{"size": 4, "batch_size": 1, "seed": 0, **wrong})
