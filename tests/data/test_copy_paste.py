"""Which images get objects of which others, and with which labels."""

import copy
from itertools import islice

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from mtl_d2.data import MultiTaskDatasetMapper, build_multitask_train_loader
from mtl_d2.data.copy_paste import CopyPasteMapper, semantic_ids_of_things, with_copy_paste
from mtl_d2.data.seeded import seeded
from mtl_d2.structures.edges import edges_from_ids, id_map
from mtl_d2.testing import tiny_cfg, toy_dataset

ON = {"INPUT.MTL.COPY_PASTE.PROB": 1.0}


@pytest.fixture(scope="module")
def dataset():
    with toy_dataset(6) as name:
        yield name


@pytest.fixture
def records(dataset):
    return copy.deepcopy(DatasetCatalog.get(dataset))


def build(records, dataset, **overrides):
    cfg = tiny_cfg(dataset=dataset, **{**ON, **overrides})
    return with_copy_paste(cfg, MultiTaskDatasetMapper(cfg, is_train=True), records)


def plain(record, **overrides):
    return MultiTaskDatasetMapper(tiny_cfg(**overrides), is_train=True)(record)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("overrides", [{}, {"INPUT.MTL.LSJ.ENABLED": True, "INPUT.MTL.LSJ.SIZE": [71, 93]}])
def test_a_pasted_sample_is_consistent_in_all_its_labels(dataset, records, overrides, seed):
    with seeded(seed):
        sample = build(records, dataset, **overrides)(records[seed])
    instances, sem_seg = sample["instances"], sample["sem_seg"].numpy()
    masks = instances.gt_masks.tensor.numpy()
    assert masks.sum(0).max() == 1  # the toy's rectangles do not overlap
    assert torch.equal(instances.gt_boxes.tensor, instances.gt_masks.get_bounding_boxes().tensor)
    for mask, category in zip(masks, instances.gt_classes.tolist(), strict=True):
        assert np.isin(sem_seg[mask], [category + 1, 255]).all()  # the semantic ids of box and bar are 1 and 2
    ids = id_map(masks, sem_seg.astype(np.uint8), size=sem_seg.shape)
    assert np.array_equal(sample["edge"].numpy(), edges_from_ids(ids, (sem_seg == 255) & ~masks.any(0)))


def test_an_image_without_objects_gets_some(dataset, records):
    assert records[0]["annotations"] == []
    counts = []
    for seed in range(20):
        with seeded(seed):
            counts.append(len(build(records, dataset)(records[0])["instances"]))
    assert min(counts) >= 1 and max(counts) > 1
    with seeded(0):
        assert len(build(records, dataset, **{"INPUT.MTL.COPY_PASTE.MAX_OBJECTS": 1})(records[0])["instances"]) == 1


def test_an_image_may_be_its_own_source(dataset, records):
    """Its objects come to lie where they are, and nothing changes, unless one of the two views is flipped."""
    mapper, own = build(records[3:4], dataset), plain(records[3], **{"INPUT.RANDOM_FLIP": "none"})
    pasted = []
    for seed in range(10):
        with seeded(seed):
            sample = mapper(records[3])
        if not any(torch.equal(sample["image"], view) for view in (own["image"], own["image"].flip(-1))):
            pasted.append(len(sample["instances"]))
    assert 0 < len(pasted) < 10
    assert max(pasted) > len(own["instances"])


def test_sources_are_held_serialised_so_that_workers_share_them(dataset, records):
    sources = build(records, dataset).sources
    assert [sources[i] for i in range(len(sources))] == records[1:5]  # those with objects
    assert sources[0] is not sources[0]


def test_samples_are_a_function_of_the_seed(dataset, records):
    mapper = build(records, dataset)
    images = []
    for seed in (7, 7, 8):
        with seeded(seed):
            images.append(mapper(records[4])["image"])
    assert torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])


def test_probability_is_the_share_of_images_that_change(dataset, records):
    still = {"INPUT.RANDOM_FLIP": "none"}
    unchanged = plain(records[0], **still)["image"]
    mapper = build(records, dataset, **still, **{"INPUT.MTL.COPY_PASTE.PROB": 0.3})
    with seeded(0):
        changed = [not torch.equal(mapper(records[0])["image"], unchanged) for _ in range(100)]
    assert 20 <= sum(changed) <= 40
    assert build(records, dataset, **{"INPUT.MTL.COPY_PASTE.PROB": 0.0}).__class__ is MultiTaskDatasetMapper


@pytest.mark.parametrize(
    ("labels", "keys"),
    [
        (("instance",), {"instances"}),
        (("sem_seg",), {"sem_seg"}),
        (("edge", "sem_seg"), {"sem_seg", "edge"}),
        ((), set()),
    ],
)
def test_absent_labels_stay_absent(dataset, records, labels, keys):
    with toy_dataset(2, labels=labels) as name:
        (_, record) = DatasetCatalog.get(name)
        unchanged = plain(record, **{"INPUT.RANDOM_FLIP": "none"})
        with seeded(0):
            sample = build(records, dataset, **{"INPUT.RANDOM_FLIP": "none"})(record)
    assert {"instances", "sem_seg", "edge"} & set(sample) == keys
    assert not torch.equal(sample["image"], unchanged["image"])
    for key in keys - {"instances"}:
        assert not torch.equal(sample[key], unchanged[key])


def test_nothing_is_pasted_into_an_image_with_boxes_alone(dataset, records):
    record = copy.deepcopy(records[3])
    record["edge_source"] = "semantic"
    for annotation in record["annotations"]:
        del annotation["segmentation"]
    still = {"INPUT.RANDOM_FLIP": "none"}
    with seeded(0):
        sample = build(records, dataset, **still)(record)
    assert torch.equal(sample["image"], plain(record, **still)["image"])


def test_without_known_semantic_ids_only_sources_with_a_map_are_pasted_into_a_map(dataset, records):
    mapper = MultiTaskDatasetMapper(tiny_cfg(**{"INPUT.RANDOM_FLIP": "none"}), is_train=True)
    without_map = [{key: value for key, value in records[3].items() if key not in ("sem_seg_file_name", "edge_source")}]
    unchanged = mapper(records[0])["image"]
    for sources, ids, changes in ((without_map, (), False), (without_map, (1, 2), True), (records[3:4], (), True)):
        with seeded(0):
            sample = CopyPasteMapper(mapper, sources, prob=1, max_objects=2, semantic_ids=ids)(records[0])
        assert torch.equal(sample["image"], unchanged) is not changes


def test_semantics_alone_need_the_masks_of_the_sources_only(dataset, records):
    with seeded(0):
        sample = build(records, dataset, **{"MODEL.MTL.TASKS": ["sem_seg"]})(records[0])
    assert set(sample) & {"instances", "edge"} == set()
    assert np.isin([1, 2], sample["sem_seg"]).any()


def test_a_source_that_cannot_be_read_pastes_nothing(dataset, records, tmp_path, caplog):
    broken = {**records[3], "file_name": str(tmp_path / "missing.png")}
    with seeded(0):
        sample = build([broken], dataset)(records[0])
    assert len(sample["instances"]) == 0
    assert "missing.png" in caplog.text


def test_semantic_ids_come_from_names_or_from_the_one_id_of_all_things(dataset):
    assert semantic_ids_of_things([dataset]) == [1, 2]
    for stuff, stuff_ids, expected in (
        (["things", "grass"], [1], [0, 0]),
        (["ground", "bar"], [0], [1, 1]),
        (["ground", "bar", "other"], [0], [None, 1]),
        (["box", "bar", "thing"], [0, 1], [2, 2]),  # of the names of stuff, none stands for a thing
        (["ground"], [0], [None, None]),
    ):
        name = "mtl_d2_test_semantic_ids"
        MetadataCatalog.get(name).set(thing_classes=["box", "bar"], stuff_classes=stuff, stuff_ids=stuff_ids)
        assert semantic_ids_of_things([name]) == expected
        MetadataCatalog.remove(name)
    assert semantic_ids_of_things(["mtl_d2_test_unknown"]) == []
    MetadataCatalog.remove("mtl_d2_test_unknown")


def test_the_training_loader_pastes_and_resumes(dataset):
    cfg = tiny_cfg(dataset=dataset, **ON)
    batches = list(islice(iter(build_multitask_train_loader(cfg)), 4))
    resumed = list(islice(iter(build_multitask_train_loader(cfg, start_batch=2)), 2))
    for mine, other in zip(batches[2:], resumed, strict=True):
        for a, b in zip(mine, other, strict=True):
            assert torch.equal(a["image"], b["image"]) and torch.equal(a["edge"], b["edge"])
    off = list(islice(iter(build_multitask_train_loader(tiny_cfg(dataset=dataset))), 4))
    pairs = [(a, b) for mine, other in zip(batches, off, strict=True) for a, b in zip(mine, other, strict=True)]
    assert any(not torch.equal(a["image"], b["image"]) for a, b in pairs)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"INPUT.MTL.COPY_PASTE.PROB": 1.5}, r"COPY_PASTE\.PROB: found 1\.5"),
        ({"INPUT.MTL.COPY_PASTE.MAX_OBJECTS": 0}, r"found MAX_OBJECTS 0"),
        ({"INPUT.MTL.COPY_PASTE.BLEND_SIGMA": -1.0}, r"BLEND_SIGMA -1\.0"),
    ],
)
def test_keys_out_of_range_are_named(dataset, records, overrides, message):
    with pytest.raises(ValueError, match=message):
        build(records, dataset, **overrides)


def test_what_cannot_be_pasted_is_said(dataset, records):
    with pytest.raises(ValueError, match="found no image with masks"):
        build(records[:1], dataset)
    cfg = tiny_cfg(dataset=dataset, **ON)
    with pytest.raises(ValueError, match="found a mapper of type function"):
        with_copy_paste(cfg, lambda record: record, records)
    own = MultiTaskDatasetMapper(cfg, is_train=True, extra_targets=[lambda record, transforms: {}])
    with pytest.raises(ValueError, match="labels of its own, which cannot be pasted"):
        with_copy_paste(cfg, own, records)


def test_edges_from_a_file_are_redrawn(dataset, records, tmp_path):
    Image.new("L", (records[0]["width"], records[0]["height"])).save(tmp_path / "edge.png")
    record = {**records[0], "edge_file_name": str(tmp_path / "edge.png")}
    with seeded(0):
        sample = build(records, dataset)(record)
    masks = sample["instances"].gt_masks.tensor.numpy()
    assert len(masks)
    assert np.array_equal(sample["edge"].numpy(), edges_from_ids(id_map(masks)))
