import copy
from pathlib import Path

import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from detectron2.data import DatasetCatalog, DatasetMapper
from detectron2.data import transforms as T
from detectron2.structures import BoxMode
from fvcore.transforms.transform import TransformList
from PIL import Image
from skimage.measure import label as connected

from mtl_d2.data import BrokenSampleError, MultiTaskDatasetMapper
from mtl_d2.data.masks import draw_masks, transform_masks
from mtl_d2.data.seeded import seeded
from mtl_d2.data.targets import transform_edges
from mtl_d2.data.transforms import InvertTransform
from mtl_d2.evaluation.edge_ground_truth import ground_truth_edges
from mtl_d2.structures import thin
from mtl_d2.structures.edges import edges_from_ids, id_map
from mtl_d2.testing import tiny_cfg, toy_dataset

ODD_CROP = {
    "INPUT.CROP.ENABLED": True,
    "INPUT.CROP.TYPE": "absolute",
    "INPUT.CROP.SIZE": [41, 37],
    "INPUT.MIN_SIZE_TRAIN": (53, 71),
}


def rle(mask):
    encoded = mask_util.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(mask.shape), "counts": encoded["counts"].decode()}


def ellipse(height, width, cy, cx, ry, rx):  # noqa: PLR0917
    y, x = np.mgrid[:height, :width] + 0.5
    return ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 <= 1


def annotation(mask, category=0, **more):
    ys, xs = np.nonzero(mask)
    box = [float(v) for v in (xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1)]
    return {
        "bbox": box,
        "bbox_mode": BoxMode.XYWH_ABS,
        "category_id": category,
        "segmentation": rle(mask),
        **more,
    }


def polygon_annotation(points, category=1):
    x, y = np.array(points).reshape(-1, 2).T
    box = [float(v) for v in (x.min(), y.min(), np.ptp(x), np.ptp(y))]
    return {
        "bbox": box,
        "bbox_mode": BoxMode.XYWH_ABS,
        "category_id": category,
        "segmentation": [list(points)],
    }


@pytest.fixture(scope="module")
def dataset():
    with toy_dataset(6) as name:
        yield name


@pytest.fixture
def record(dataset):
    """An image of 70 x 54 pixels with RLEs, polygons and objects that overlap."""
    found = DatasetCatalog.get(dataset)[2]
    found["annotations"] = [
        annotation(ellipse(70, 54, 30, 20, 17.3, 11.1)),
        annotation(ellipse(70, 54, 44, 30, 8.7, 19.2), category=1),
        polygon_annotation([3.3, 40.2, 17.7, 41.9, 25.1, 66.6, 9.9, 60.4]),
        polygon_annotation([30.1, 5.5, 53.2, 7.3, 40.7, 30.9]),
    ]
    return found


def _uncovered_void(sem_seg, masks):
    if sem_seg is None:
        return None
    return (sem_seg == 255) & ~np.any(list(masks), axis=0)


def mapper(**overrides):
    return MultiTaskDatasetMapper(tiny_cfg(**overrides), is_train=True)


@pytest.mark.parametrize("overrides", [{}, ODD_CROP, {"INPUT.MIN_SIZE_TRAIN": (37,)}], ids=["up", "crop", "down"])
@pytest.mark.parametrize("seed", range(4))
def test_image_boxes_and_masks_equal_detectron2s(record, overrides, seed):
    cfg = tiny_cfg(**overrides)
    with seeded(seed):
        ours = MultiTaskDatasetMapper(cfg, is_train=True)(record)
    with seeded(seed):
        theirs = DatasetMapper(cfg, is_train=True)(copy.deepcopy(record))
    assert torch.equal(ours["image"], theirs["image"])
    assert torch.equal(ours["sem_seg"], theirs["sem_seg"])
    mine, reference = ours["instances"], theirs["instances"]
    assert mine.image_size == reference.image_size
    assert torch.equal(mine.gt_masks.tensor, reference.gt_masks.tensor)
    assert torch.equal(mine.gt_boxes.tensor, reference.gt_boxes.tensor)
    assert torch.equal(mine.gt_classes, reference.gt_classes)


@pytest.mark.parametrize(
    "transforms",
    [
        [T.RotationTransform(70, 54, 30)],
        [
            T.HFlipTransform(54),
            T.ResizeTransform(70, 54, 91, 33),
            T.CropTransform(3, 5, 20, 61),
            T.VFlipTransform(61),
        ],
        [T.NoOpTransform(), InvertTransform(), T.ResizeTransform(70, 54, 70, 54)],
    ],
    ids=["rotation", "chain", "identity"],
)
def test_masks_equal_the_transformed_frames_for_any_transform(transforms):
    frames = [ellipse(70, 54, 30, 20, 17, 11), ellipse(70, 54, 2, 50, 3, 3), np.zeros((70, 54), bool)]
    transforms = TransformList(transforms)
    expected = np.stack([transforms.apply_segmentation(frame.astype(np.uint8)) for frame in frames]).astype(bool)
    masks = transform_masks([rle(frame) for frame in frames], transforms, (70, 54), expected.shape[1:])
    assert np.array_equal(draw_masks(masks, expected.shape[1:]), expected)


@pytest.mark.parametrize("source", ["instance", "semantic", "union"])
@pytest.mark.parametrize("overrides", [{}, ODD_CROP], ids=["resize", "crop"])
def test_edges_are_those_of_the_transformed_labels(record, source, overrides):
    record["edge_source"] = source
    with seeded(5):
        sample = mapper(**overrides, **{"INPUT.MTL.VERTICAL_FLIP_PROB": 0.5})(record)
    sem_seg = sample["sem_seg"].numpy() if source != "instance" else None
    masks = sample["instances"].gt_masks.tensor.numpy() if source != "semantic" else []
    ids = id_map(masks, sem_seg, size=tuple(sample["image"].shape[1:]))
    expected = edges_from_ids(ids, _uncovered_void(sem_seg, masks))
    assert expected.max() > 0
    assert np.array_equal(sample["edge"].numpy(), expected)


@pytest.mark.parametrize(
    ("overrides", "axis"),
    [
        ({"INPUT.RANDOM_FLIP": "horizontal"}, 2),
        ({"INPUT.RANDOM_FLIP": "none", "INPUT.MTL.VERTICAL_FLIP_PROB": 1.0}, 1),
    ],
    ids=["horizontal", "vertical"],
)
def test_a_flip_moves_the_labels_of_all_tasks_alike(record, overrides, axis):
    plain = mapper(**{"INPUT.RANDOM_FLIP": "none", "INPUT.MIN_SIZE_TRAIN": (54,)})(record)
    for seed in range(20):
        with seeded(seed):
            flipped = mapper(**{"INPUT.MIN_SIZE_TRAIN": (54,), **overrides})(record)
        if not torch.equal(flipped["image"], plain["image"]):
            break
    assert torch.equal(flipped["image"], plain["image"].flip(axis))
    assert torch.equal(flipped["sem_seg"], plain["sem_seg"].flip(axis - 1))
    masks = torch.stack([sample["instances"].gt_masks.tensor[:2] for sample in (flipped, plain)])
    assert torch.equal(masks[0], masks[1].flip(axis))
    ids = id_map(flipped["instances"].gt_masks.tensor.numpy(), flipped["sem_seg"].numpy())
    void = _uncovered_void(flipped["sem_seg"].numpy(), flipped["instances"].gt_masks.tensor.numpy())
    assert np.array_equal(flipped["edge"].numpy(), edges_from_ids(ids, void))


def test_inversion_changes_the_image_alone(record):
    still = {"INPUT.RANDOM_FLIP": "none"}
    plain, inverted = mapper(**still)(record), mapper(**still, **{"INPUT.MTL.INVERT_PROB": 1.0})(record)
    assert torch.equal(inverted["image"], 255 - plain["image"])
    assert torch.equal(inverted["edge"], plain["edge"])
    assert torch.equal(inverted["sem_seg"], plain["sem_seg"])
    assert torch.equal(inverted["instances"].gt_masks.tensor, plain["instances"].gt_masks.tensor)


@pytest.mark.parametrize("labelled", [(), ("instance",), ("sem_seg",), ("instance", "edge"), ("sem_seg", "edge")])
def test_absent_labels_stay_absent(labelled):
    with toy_dataset(3, labels=labelled) as name:
        sample = mapper()(DatasetCatalog.get(name)[2])
    present = {"instance": "instances", "sem_seg": "sem_seg", "edge": "edge"}
    assert {task for task, key in present.items() if key in sample} == set(labelled)
    assert {"file_name", "height", "width", "image_id", "image"} <= set(sample)
    assert not {"annotations", "sem_seg_file_name", "edge_source", "edge_file_name"} & set(sample)


@pytest.mark.parametrize("task", ["instance", "sem_seg", "edge"])
def test_only_the_tasks_targets_are_made(record, task):
    cfg = tiny_cfg([task], **{"MODEL.MASK_ON": False})
    sample = MultiTaskDatasetMapper(cfg, is_train=True)(record)
    key = {"instance": "instances"}.get(task, task)
    assert set(sample) == {"file_name", "height", "width", "image_id", "image", key}
    if task == "instance":
        assert not sample["instances"].has("gt_masks")


def test_no_objects_is_a_label_with_all_fields_and_so_is_a_crop_that_misses_them_all(record):
    far = {**record, "annotations": [annotation(ellipse(70, 54, 3, 3, 2, 2))]}
    for empty in ({**record, "annotations": []}, far):
        for seed in range(30):
            with seeded(seed):
                sample = mapper(**ODD_CROP)(empty)
            if len(sample["instances"]) == 0:
                break
        instances = sample["instances"]
        assert len(instances) == 0
        assert instances.gt_boxes.tensor.shape == (0, 4)
        assert instances.gt_classes.shape == (0,)
        assert instances.gt_masks.tensor.shape == (0, *sample["image"].shape[1:])


def test_boxes_without_masks_are_a_label_for_the_boxes(record):
    for item in record["annotations"]:
        del item["segmentation"]
    sample = mapper(tasks=["instance"], **ODD_CROP)(record)
    assert sample["instances"].has("gt_boxes")
    assert not sample["instances"].has("gt_masks")
    with pytest.raises(ValueError, match="002.png: edge_source 'union' needs a segmentation"):
        mapper()(record)


def test_crowds_are_no_instances_and_their_region_is_ignored_in_the_edges(record):
    crowd = np.zeros((70, 54), bool)
    crowd[50:60, 40:50] = True
    record["annotations"].append(annotation(crowd, iscrowd=1))
    record["edge_source"] = "instance"
    still = {"INPUT.RANDOM_FLIP": "none", "INPUT.MIN_SIZE_TRAIN": (54,)}
    sample = mapper(**still)(record)
    assert len(sample["instances"]) == 4
    assert (sample["edge"][50:60, 40:50] == 255).sum() >= 90
    assert not (sample["edge"][62:, 42:] == 255).any()
    assert np.array_equal(sample["sem_seg"].numpy(), np.asarray(Image.open(record["sem_seg_file_name"])))


def test_boxes_of_crowds_follow_the_image_and_are_there_where_a_crowd_is(record):
    assert "crowd_boxes" not in mapper()(record)
    crowd = np.zeros((70, 54), bool)
    crowd[50:60, 40:50] = True
    record["annotations"].append(annotation(crowd, iscrowd=1))
    for seed in range(4):
        with seeded(seed):
            sample = mapper(**{"INPUT.MIN_SIZE_TRAIN": (65,)})(record)
        height, width = sample["image"].shape[1:]
        box = sample["crowd_boxes"][0].numpy() / [width / 54, height / 70, width / 54, height / 70]
        expected = {True: [40, 50, 50, 60], False: [4, 50, 14, 60]}[bool(box[0] > 20)]  # as it is, or mirrored
        np.testing.assert_allclose(box, expected, rtol=1e-5)


@pytest.mark.parametrize("source", ["instance", "semantic", "union", "file"])
def test_edges_without_augmentation_are_those_that_are_scored(record, source, tmp_path):
    record["annotations"].append(annotation(ellipse(70, 54, 32, 24, 9, 9), iscrowd=1))
    record["annotations"].append(annotation(ellipse(70, 54, 68, 50, 5, 5)))  # over void
    if source == "file":
        Image.fromarray(ellipse(70, 54, 32, 24, 9, 9)).save(tmp_path / "edge.png")
        record["edge_file_name"] = str(tmp_path / "edge.png")
    else:
        record["edge_source"] = source
    edge = mapper(**{"INPUT.RANDOM_FLIP": "none", "INPUT.MIN_SIZE_TRAIN": (54,)})(record)["edge"]
    expected = ground_truth_edges(record)
    # Scored edges are thinned: what is not an edge there may be one in the label, and nothing else differs.
    assert np.array_equal(thin(edge.numpy() == 1), expected == 1)
    assert np.array_equal(edge.numpy() == 255, expected == 255)


@pytest.mark.parametrize("size", [(70, 54), (35, 27), (161, 117)], ids=["same", "half", "more than twice"])
def test_given_edges_stay_thin_and_connected_at_every_scale(size):
    edge = edges_from_ids(ellipse(70, 54, 33, 27, 24, 19).astype(int)) * np.uint8(255)
    moved = transform_edges(edge, TransformList([T.ResizeTransform(70, 54, *size)]), size)
    assert connected(moved, connectivity=2).max() == 1
    thick = moved[:-1, :-1] & moved[1:, :-1] & moved[:-1, 1:] & moved[1:, 1:]
    assert thick.sum() <= 0.03 * moved.sum()
    if size == (70, 54):
        assert np.array_equal(moved, edge // 255)


def test_given_edges_flip_with_the_image_and_take_precedence(record, tmp_path):
    edge = np.zeros((70, 54), np.uint8)
    edge[10, 5:50] = 255
    Image.fromarray(edge).save(tmp_path / "edge.png")
    record["edge_file_name"] = str(tmp_path / "edge.png")
    overrides = {
        "INPUT.RANDOM_FLIP": "none",
        "INPUT.MIN_SIZE_TRAIN": (54,),
        "INPUT.MTL.VERTICAL_FLIP_PROB": 1.0,
    }
    sample = mapper(**overrides)(record)
    assert np.array_equal(sample["edge"].numpy(), edge[::-1] // 255)


def test_palette_indices_are_the_semantic_ids(record, tmp_path):
    label = np.asarray(Image.open(record["sem_seg_file_name"]))
    paletted = Image.fromarray(label, mode="P")
    paletted.putpalette(list(np.random.default_rng(0).integers(0, 256, 768)))
    paletted.save(tmp_path / "palette.png")
    plain = mapper(**{"INPUT.RANDOM_FLIP": "none"})(record)
    record["sem_seg_file_name"] = str(tmp_path / "palette.png")
    assert torch.equal(mapper(**{"INPUT.RANDOM_FLIP": "none"})(record)["sem_seg"], plain["sem_seg"])


def test_inference_gets_the_image_and_the_records_own_fields(record):
    record["license"] = 4
    sample = MultiTaskDatasetMapper(tiny_cfg(), is_train=False)(record)
    assert set(sample) == {"file_name", "height", "width", "image_id", "license", "image"}
    assert (sample["height"], sample["width"]) == (70, 54)
    assert sample["image"].shape == (3, 83, 64)


def test_the_record_is_left_as_it_is(record):
    before = copy.deepcopy(record)
    with seeded(1):
        mapper(**ODD_CROP)(record)
    assert record == before


def test_extra_targets_see_the_record_and_the_transforms(record):
    def depth(record, transforms):
        return {"depth": transforms.apply_segmentation(np.full((record["height"], record["width"]), 7, np.uint8))}

    sample = MultiTaskDatasetMapper(tiny_cfg(), is_train=True, extra_targets=[depth])(record)
    assert sample["depth"].shape == tuple(sample["image"].shape[1:])


def _unreadable(record, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    record["file_name"] = str(tmp_path / "bad.png")


def _truncated(record, tmp_path):
    content = Path(record["file_name"]).read_bytes()
    (tmp_path / "bad.png").write_bytes(content[: len(content) // 2])
    record["file_name"] = str(tmp_path / "bad.png")


def _missing_label(record, tmp_path):
    record["sem_seg_file_name"] = str(tmp_path / "bad.png")


def _other_size(record, tmp_path):
    Image.new("RGB", (10, 20)).save(tmp_path / "bad.png")
    record["file_name"] = str(tmp_path / "bad.png")


def _label_of_other_size(record, tmp_path):
    Image.new("L", (10, 20)).save(tmp_path / "bad.png")
    record["sem_seg_file_name"] = str(tmp_path / "bad.png")


def _coloured_label(record, tmp_path):
    Image.new("RGB", (54, 70)).save(tmp_path / "bad.png")
    record["sem_seg_file_name"] = str(tmp_path / "bad.png")


def _unknown_class(record, tmp_path):
    Image.new("L", (54, 70), 4).save(tmp_path / "bad.png")
    record["sem_seg_file_name"] = str(tmp_path / "bad.png")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_unreadable, "cannot be read"),
        (_truncated, "cannot be read"),
        (_missing_label, "does not exist"),
        (_other_size, r"found 10 x 20 pixels \(width x height\), expected 54 x 70"),
        (_label_of_other_size, "found 10 x 20 pixels"),
        (_coloured_label, "found 3 channels"),
        (_unknown_class, "found semantic label 4, expected 0 to 3 or 255"),
    ],
)
def test_broken_files_are_named(record, tmp_path, damage, reason):
    damage(record, tmp_path)
    with pytest.raises(BrokenSampleError, match=rf"bad\.png: .*{reason}"):
        mapper()(record)


def test_broken_annotations_name_the_image(record):
    record["annotations"][0]["category_id"] = 2
    with pytest.raises(BrokenSampleError, match=r"002\.png: found category_id 2, expected 0 to 1"):
        mapper()(record)
    record["annotations"][0] |= {"category_id": 1, "segmentation": rle(np.ones((3, 4), bool))}
    with pytest.raises(BrokenSampleError, match=r"002\.png: found an RLE of size \[3, 4\]"):
        mapper()(record)


def test_edges_from_a_label_that_the_record_lacks_are_refused(record):
    del record["sem_seg_file_name"]
    with pytest.raises(ValueError, match=r"002\.png: edge_source 'union' needs 'sem_seg_file_name'"):
        mapper()(record)


def test_test_images_are_resized_by_a_factor_where_the_config_says_so():
    cfg = tiny_cfg(**{"INPUT.MTL.SCALE_TEST": 1.5})
    with toy_dataset(2) as name:
        mapper = MultiTaskDatasetMapper(cfg, False)
        for record in DatasetCatalog.get(name):
            height, width = mapper(record)["image"].shape[1:]
            assert (height, width) == (round(1.5 * record["height"]), round(1.5 * record["width"]))


def test_negative_factor_is_refused_by_its_key():
    with pytest.raises(ValueError, match=r"INPUT\.MTL\.SCALE_TEST is -1"):
        MultiTaskDatasetMapper(tiny_cfg(**{"INPUT.MTL.SCALE_TEST": -1.0}), False)


def test_edges_of_several_annotators_are_folded_after_the_augmentation(record, tmp_path):
    rows = {"a": (10, 20), "b": (10, 30), "c": (10, 20), "d": (40,)}
    for name, of_one in rows.items():
        edge = np.zeros((70, 54), np.uint8)
        edge[list(of_one), 5:50] = 255
        Image.fromarray(edge).save(tmp_path / f"{name}.png")
    record["edge_file_name"] = [str(tmp_path / f"{name}.png") for name in rows]
    overrides = {"INPUT.RANDOM_FLIP": "none", "INPUT.MIN_SIZE_TRAIN": (54,), "INPUT.MTL.VERTICAL_FLIP_PROB": 1.0}
    edge = mapper(**overrides)(record)["edge"].numpy()[::-1]
    expected = np.zeros((70, 54), int)
    expected[[10, 20], 5:50] = 1  # three and two of four
    expected[[30, 40], 5:50] = 255  # one of four
    assert np.array_equal(edge, expected)
