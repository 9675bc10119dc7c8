import random
from itertools import islice

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.structures import Instances
from PIL import Image

from mtl_d2.data import (
    BrokenSampleError,
    build_multitask_test_loader,
    build_multitask_train_loader,
    get_records,
)
from mtl_d2.data.seeded import seeded
from mtl_d2.testing import tiny_cfg, toy_dataset

AUGMENTED = {
    "INPUT.MIN_SIZE_TRAIN": (40, 48, 56),
    "INPUT.CROP.ENABLED": True,
    "INPUT.CROP.TYPE": "relative_range",
    "INPUT.CROP.SIZE": [0.6, 0.6],
    "INPUT.MTL.INVERT_PROB": 0.5,
}


@pytest.fixture(scope="module")
def dataset():
    with toy_dataset(7) as name:
        yield name


def take(count, loader):
    return list(islice(iter(loader), count))


def assert_equal(mine, other):
    """Equal bit for bit, through lists, dicts, tensors and Instances."""
    assert type(mine) is type(other)
    if isinstance(mine, list):
        assert len(mine) == len(other)
        for a, b in zip(mine, other, strict=True):
            assert_equal(a, b)
    elif isinstance(mine, dict):
        assert list(mine) == list(other)
        for key in mine:
            assert_equal(mine[key], other[key])
    elif isinstance(mine, torch.Tensor):
        assert mine.dtype == other.dtype and torch.equal(mine, other)
    elif isinstance(mine, Instances):
        assert mine.image_size == other.image_size
        assert_equal(mine.gt_boxes.tensor, other.gt_boxes.tensor)
        assert_equal(mine.gt_classes, other.gt_classes)
        assert_equal(mine.gt_masks.tensor, other.gt_masks.tensor)
    else:
        assert mine == other


def test_two_workers_give_what_none_gives(dataset):
    alone = take(5, build_multitask_train_loader(tiny_cfg(dataset=dataset, **AUGMENTED)))
    together = tiny_cfg(dataset=dataset, **AUGMENTED, **{"DATALOADER.NUM_WORKERS": 2})
    assert_equal(take(5, build_multitask_train_loader(together)), alone)
    assert [len(batch) for batch in alone] == [2] * 5


def test_resuming_at_a_batch_equals_going_on(dataset):
    cfg = tiny_cfg(dataset=dataset, **AUGMENTED)
    uninterrupted = take(8, build_multitask_train_loader(cfg))
    random.seed(99)
    np.random.seed(99)  # noqa: NPY002
    torch.manual_seed(99)
    assert_equal(take(3, build_multitask_train_loader(cfg, start_batch=5)), uninterrupted[5:])


def test_epochs_seeds_and_samples_are_augmented_differently():
    """One image, twice in the dataset, so that nothing but the augmentation differs."""
    views = []
    with toy_dataset(1) as name:
        (record,) = DatasetCatalog.pop(name)()
        DatasetCatalog.register(name, lambda: [record, {**record, "image_id": 1}])
        for seed in (1, 2):
            for batch in take(3, build_multitask_train_loader(tiny_cfg(dataset=name, **AUGMENTED, SEED=seed))):
                views += [sample["image"].numpy().tobytes() for sample in batch]
    assert len(set(views)) == len(views) == 12


def test_the_global_random_states_are_not_touched(dataset):
    def states():
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002

    before = states()
    take(2, build_multitask_train_loader(tiny_cfg(dataset=dataset, **AUGMENTED)))
    assert states() == before


def test_the_key_decides_all_three_generators():
    def draw(*key):
        with seeded(*key):
            return random.random(), np.random.rand(), torch.rand(()).item()  # noqa: NPY002

    assert draw(1, 2, 3) == draw(1, 2, 3)
    assert all(a != b for a, b in zip(draw(1, 2, 3), draw(1, 3, 2), strict=True))


def test_ranks_share_the_global_batch(dataset, monkeypatch):
    cfg = tiny_cfg(dataset=dataset, **{"SOLVER.IMS_PER_BATCH": 4})
    whole = take(3, build_multitask_train_loader(cfg))
    monkeypatch.setattr("detectron2.utils.comm.get_world_size", lambda: 2)
    shards = []
    for rank in (0, 1):
        monkeypatch.setattr("detectron2.utils.comm.get_rank", lambda rank=rank: rank)
        shards.append(take(3, build_multitask_train_loader(cfg)))
    assert_equal([first + second for first, second in zip(*shards, strict=True)], whole)
    cfg.SOLVER.IMS_PER_BATCH = 3
    with pytest.raises(ValueError, match="IMS_PER_BATCH: found 3, expected a multiple .* 2"):
        build_multitask_train_loader(cfg)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_image_is_replaced_and_named(workers):
    with toy_dataset(4) as name:
        broken = DatasetCatalog.get(name)[2]["file_name"]
        with open(broken, "wb") as file:
            file.write(b"nothing")
        cfg = tiny_cfg(dataset=name, **{"DATALOADER.NUM_WORKERS": workers})
        samples = [sample for batch in take(4, build_multitask_train_loader(cfg)) for sample in batch]
        again = [sample for batch in take(4, build_multitask_train_loader(cfg)) for sample in batch]
    assert_equal(samples, again)
    replaced = [sample for sample in samples if "skipped_files" in sample]
    assert len(replaced) == 2  # once in each of two epochs
    for sample in replaced:
        assert sample["skipped_files"] == [broken]
        assert sample["file_name"] != broken
        assert sample["image"].float().std() > 0
        assert "instances" in sample


def test_a_broken_image_is_replaced_by_one_of_the_same_labels_while_there_is_one():
    labels = [("instance",)] * 6 + [("edge", "instance")] * 2 + [("sem_seg",)]
    with toy_dataset(9, labels=labels) as name:
        cfg = tiny_cfg(dataset=name, **{"SOLVER.IMS_PER_BATCH": 9})
        records = DatasetCatalog.get(name)
        for broken in (6, 8):
            Image.new("RGB", (5, 5)).save(records[broken]["file_name"])
        samples = [sample for batch in take(4, build_multitask_train_loader(cfg)) for sample in batch]
    stands_for = {i: [s for s in samples if records[i]["file_name"] in s.get("skipped_files", [])[:1]] for i in (6, 8)}
    assert [sample["image_id"] for sample in stands_for[6]] == [7] * 4  # once in each epoch
    assert len(stands_for[8]) == 4  # it has no like: by any


def test_nothing_but_broken_images_stops_with_their_names():
    with toy_dataset(3) as name:
        for record in DatasetCatalog.get(name):
            Image.new("RGB", (5, 5)).save(record["file_name"])
        with pytest.raises(BrokenSampleError, match=r"3 broken samples in a row.*found 5 x 5 pixels"):
            take(1, build_multitask_train_loader(tiny_cfg(dataset=name)))


def test_an_unresolved_seed_is_refused(dataset):
    with pytest.raises(ValueError, match="SEED: found -1"):
        build_multitask_train_loader(tiny_cfg(dataset=dataset, **{"SEED": -1}))


def test_empty_images_are_left_out_only_where_instances_are_the_only_task():
    labels = [("instance", "sem_seg"), ("sem_seg",), ("instance", "sem_seg"), ()]
    with toy_dataset(4, labels=labels) as name:  # image 0 has no objects

        def ids(tasks, filter_empty):
            return [record["image_id"] for record in get_records([name], tasks=tasks, filter_empty=filter_empty)]

        assert ids(("instance",), True) == [2]
        assert ids(("instance",), False) == [0, 2]
        assert ids(("instance", "sem_seg"), True) == [0, 1, 2]
        assert ids(("sem_seg",), True) == [0, 1, 2]
        assert ids(("instance", "depth"), True) == [0, 1, 2, 3]
        with pytest.raises(ValueError, match="none of 4 images can be used"):
            ids(("edge",), False)


def test_the_source_of_edges_is_checked_before_the_first_batch():
    with toy_dataset(2, labels=[("instance", "sem_seg", "edge"), ("instance", "edge")], edge_source="instance") as name:
        build_multitask_train_loader(tiny_cfg(["edge"], dataset=name))
        cfg = tiny_cfg(["edge"], dataset=name, **{"INPUT.MTL.EDGE.SOURCE": "semantic"})
        with pytest.raises(ValueError, match="001.png: INPUT.MTL.EDGE.SOURCE 'semantic' needs 'sem_seg_file_name'"):
            build_multitask_train_loader(cfg)


def test_the_test_loader_keeps_the_order_and_gives_no_labels(dataset):
    cfg = tiny_cfg(dataset=dataset, **{"DATALOADER.NUM_WORKERS": 2})
    batches = list(build_multitask_test_loader(cfg, dataset))
    assert [len(batch) for batch in batches] == [1] * 7
    assert [batch[0]["image_id"] for batch in batches] == list(range(7))
    assert not {"instances", "sem_seg", "edge"} & set(batches[0][0])


def test_unknown_and_empty_datasets_are_named(dataset):
    with pytest.raises(
        ValueError, match=rf"found '{dataset}x', expected a registered dataset; did you mean '{dataset}'"
    ):
        get_records([f"{dataset}x"])
    DatasetCatalog.register(f"{dataset}_empty", list)
    try:
        with pytest.raises(ValueError, match=f"Datasets {dataset}_empty: found no image"):
            get_records([f"{dataset}_empty"], tasks=("edge",))
    finally:
        DatasetCatalog.remove(f"{dataset}_empty")
