"""Folds of a dataset are disjoint and cover it; a part has its dataset's metadata and is named in a config."""

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from mtl_d2.data import DatasetError
from mtl_d2.data.datasets import resolve_dataset, resolve_datasets
from mtl_d2.data.datasets.subsets import subset_indices
from mtl_d2.testing import tiny_cfg, toy_dataset


@pytest.mark.parametrize(("length", "folds"), [(9, 3), (10, 3), (5, 5), (7, 1)])
def test_folds_are_disjoint_and_hold_all_records(length, folds):
    parts = [subset_indices(f"x.fold{k}of{folds}", length) for k in range(folds)]
    assert sorted(i for part in parts for i in part) == list(range(length))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    for k, part in enumerate(parts):
        assert sorted({*part, *subset_indices(f"x.rest{k}of{folds}", length)}) == list(range(length))
        assert not set(part) & set(subset_indices(f"x.rest{k}of{folds}", length))


def test_the_seed_permutes_the_records_and_the_same_seed_does_not():
    assert subset_indices("x.fold0of3", 30) == subset_indices("x.fold0of3seed0", 30)
    assert subset_indices("x.fold0of3", 30) != subset_indices("x.fold0of3seed1", 30)
    assert subset_indices("x.fold0of3", 30) != list(range(0, 30, 3))


def test_a_sample_has_so_many_images_and_a_larger_one_holds_the_smaller():
    assert len(set(subset_indices("x.sample4", 9))) == 4
    assert set(subset_indices("x.sample4", 9)) < set(subset_indices("x.sample6", 9))


def test_a_part_in_a_config_is_registered_with_its_records_and_metadata():
    with toy_dataset(4) as name:
        cfg = tiny_cfg(dataset=name)
        cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (f"{name}.rest1of2",), (f"{name}.fold1of2",)
        resolve_datasets(cfg)
        resolve_datasets(cfg)
        names = [cfg.DATASETS.TRAIN[0], cfg.DATASETS.TEST[0]]
        try:
            found = [record["file_name"] for part in names for record in DatasetCatalog.get(part)]
            assert sorted(found) == sorted(record["file_name"] for record in DatasetCatalog.get(name))
            for part in names:
                metadata = MetadataCatalog.get(part)
                assert metadata.name == part and metadata.thing_classes == MetadataCatalog.get(name).thing_classes
        finally:
            for part in names:
                DatasetCatalog.remove(part)
                MetadataCatalog.remove(part)


@pytest.mark.parametrize("ending", ["fold3of3", "fold0of0", "sample0", "sample99", "fold0of99"])
def test_a_part_that_is_not_there_is_a_sentence(ending):
    with toy_dataset(4) as name, pytest.raises(DatasetError, match=f"found '{name}.{ending}'"):
        DatasetCatalog.get(resolve_dataset(f"{name}.{ending}"))
