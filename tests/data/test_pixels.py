import numpy as np
import pytest
import torch

from mtl_d2.data import MultiTaskDatasetMapper, get_records
from mtl_d2.data.pixels import limit_pixels
from mtl_d2.data.seeded import seeded
from mtl_d2.testing import tiny_cfg, toy_dataset


def limited(sem_seg, limit, *key):
    with seeded(*(key or (0,))):
        return limit_pixels(sem_seg, limit, 255)


def test_each_class_keeps_at_most_so_many_pixels_where_it_had_them():
    sem_seg = np.full((13, 17), 255, np.uint8)
    sem_seg[:5], sem_seg[5:7, :3], sem_seg[12, 16] = 0, 1, 7
    result = limited(sem_seg, 6)
    assert [(result == c).sum() for c in (0, 1, 7)] == [6, 6, 1]
    assert (result[result != 255] == sem_seg[result != 255]).all()
    assert (sem_seg == 0).sum() == 85  # the map itself stays


def test_the_pixels_are_drawn_from_the_samples_state_and_all_alike():
    sem_seg = np.zeros((9, 11), np.uint8)
    assert np.array_equal(limited(sem_seg, 20, 1), limited(sem_seg, 20, 1))
    kept = np.mean([limited(sem_seg, 20, key) == 0 for key in range(1000)], axis=0)
    assert np.abs(kept - 20 / 99).max() < 0.06


def test_an_empty_map_and_one_of_void_stay():
    for sem_seg in (np.zeros((0, 5), np.uint8), np.full((3, 4), 255, np.uint8)):
        assert np.array_equal(limited(sem_seg, 1), sem_seg)


def test_a_negative_limit_is_named():
    with pytest.raises(ValueError, match="PIXELS_PER_CLASS: found -5, expected a number of pixels, 0 for all"):
        MultiTaskDatasetMapper(tiny_cfg(**{"MODEL.MTL.SEM_SEG_HEAD.PIXELS_PER_CLASS": -5}), True)


def test_the_mapper_limits_the_semantic_target_and_not_the_edges():
    with toy_dataset(2, size=(67, 61), edge_source="union") as name:
        record = get_records([name])[1]
        samples = []
        for limit in (0, 50):
            mapper = MultiTaskDatasetMapper(tiny_cfg(**{"MODEL.MTL.SEM_SEG_HEAD.PIXELS_PER_CLASS": limit}), True)
            with seeded(3):
                samples.append(mapper(record))
    full, few = samples
    assert torch.equal(full["edge"], few["edge"]) and torch.equal(full["image"], few["image"])
    classes = full["sem_seg"].unique().tolist()
    assert max((full["sem_seg"] == c).sum() for c in classes if c != 255) > 50
    for c in classes:
        if c != 255:
            assert (few["sem_seg"] == c).sum() == min(50, (full["sem_seg"] == c).sum())
