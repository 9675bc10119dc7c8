import numpy as np
import pytest

from mtl_d2.data.mixing.quota import needed_images, spread_labels


def due_batches_have_all(labels, batch_size, steps):
    return labels.reshape(-1, batch_size, labels.shape[1]).any(axis=1)[::steps].all()


def draw_labels(rng, groups, counts):
    return rng.permutation(np.repeat(groups, counts, axis=0))


@pytest.mark.parametrize("seed", range(200))
def test_the_least_number_of_images_suffices_for_any_overlap_of_the_tasks(seed):
    rng = np.random.default_rng(seed)
    tasks, due = (int(n) for n in rng.integers(1, 6, 2))
    batch_size = tasks + int(rng.integers(3))
    groups = np.unique(rng.random((int(rng.integers(1, 7)), tasks)) < 0.5, axis=0)
    groups = np.concatenate([groups, np.eye(tasks, dtype=bool)])  # every task has images of its own, too
    needs = needed_images(groups, due)
    counts = np.zeros(len(groups), int)
    while ((counts @ groups) < needs).any():  # no more than what one task or another needs
        counts[rng.choice(np.flatnonzero(groups[:, (counts @ groups) < needs].any(axis=1)))] += 1
    steps = -(-int(counts.sum()) // (due * batch_size))
    total = due * steps * batch_size
    labels = np.concatenate([draw_labels(rng, groups, counts), np.zeros((total - counts.sum(), tasks), bool)])
    order = spread_labels(labels, batch_size, steps)
    assert sorted(order) == list(range(total))
    assert due_batches_have_all(labels[order], batch_size, steps)


def test_tasks_with_images_of_their_own_need_one_for_each_due_batch():
    assert needed_images(np.eye(3, dtype=bool), 7).tolist() == [7, 7, 7]
    assert needed_images(np.array([[True, True, True, False], [False, False, False, True]]), 7).tolist() == [14] * 3 + [
        7
    ]


def test_batches_that_hold_their_quota_stay_as_they_are():
    labels = np.tile([[True, False], [False, True], [False, False]], (8, 1))
    assert spread_labels(labels, 3, 2).tolist() == list(range(24))


def test_an_image_is_exchanged_within_its_bucket_where_there_is_one():
    label = np.array([0, 0, 0, 0, 1, 0, 1, 0], bool)[:, None]
    buckets = np.array([7, 7, 5, 5, 5, 5, 7, 7])
    order = spread_labels(label, 2, 2, buckets)  # due are images 0 and 1, of bucket 7, and 4 and 5
    assert label[order].ravel()[:2].any()
    assert buckets[order].tolist() == buckets.tolist()
    order = spread_labels(label[:6], 2, 3, np.array([7, 7, 5, 5, 5, 5]))  # none in bucket 7: then another one
    assert label[order].ravel()[:2].any()
