"""Augmentations of the config: labels follow the image."""

import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.data import transforms as T
from detectron2.structures import BoxMode
from PIL import Image

from mtl_d2.data import MultiTaskDatasetMapper
from mtl_d2.data.augmentations import PadToSize, RandomCropOfStructures, RandomSaturation, border_share, kept_share
from mtl_d2.data.seeded import seeded
from mtl_d2.data.transforms import build_augmentations, inside_padding, nearest_source
from mtl_d2.structures.edges import edges_from_ids, id_map
from mtl_d2.testing import tiny_cfg, toy_dataset

LSJ = {"INPUT.MTL.LSJ.ENABLED": True, "INPUT.MTL.LSJ.SIZE": [71, 93]}
SMALLER = {**LSJ, "INPUT.MTL.LSJ.MIN_SCALE": 0.3, "INPUT.MTL.LSJ.MAX_SCALE": 0.9}
LARGER = {**LSJ, "INPUT.MTL.LSJ.MIN_SCALE": 1.6, "INPUT.MTL.LSJ.MAX_SCALE": 2.0}
STILL = {"INPUT.RANDOM_FLIP": "none"}


def box_annotation(x0, y0, x1, y1, size, category=0, **more):  # noqa: PLR0917
    mask = np.zeros(size, np.uint8)
    mask[y0:y1, x0:x1] = 1
    rle = mask_util.encode(np.asfortranarray(mask))
    return {
        "bbox": [x0, y0, x1, y1],
        "bbox_mode": BoxMode.XYXY_ABS,
        "category_id": category,
        "segmentation": {"size": list(size), "counts": rle["counts"].decode()},
        **more,
    }


@pytest.fixture(scope="module")
def dataset():
    with toy_dataset(6) as name:
        yield name


@pytest.fixture
def record(dataset):
    """70 x 54 pixels with polygons (one reaches over the border), an RLE, a crowd and void."""
    found = DatasetCatalog.get(dataset)[2]
    beyond = {**found["annotations"][0], "segmentation": [[40.0, 50.0, 80.0, 50.0, 80.0, 90.0, 40.0, 90.0]]}
    crowd = box_annotation(2, 30, 12, 40, (70, 54), iscrowd=1)
    found["annotations"] += [beyond, box_annotation(10, 12, 30, 30, (70, 54), category=1), crowd]
    return found


def mapper(**overrides):
    return MultiTaskDatasetMapper(tiny_cfg(**overrides), is_train=True)


def shown(sample):
    """Where the image is not padding, (H, W) bool: a window at the upper left."""
    colored = (sample["image"] != 128).any(0).numpy()
    window = np.zeros(colored.shape, bool)
    window[: np.flatnonzero(colored.any(1))[-1] + 1, : np.flatnonzero(colored.any(0))[-1] + 1] = True
    return window


@pytest.mark.parametrize("overrides", [LSJ, SMALLER, LARGER], ids=["paper", "smaller", "larger"])
@pytest.mark.parametrize("seed", range(4))
def test_jittered_samples_have_one_size_and_labels_that_end_where_the_image_does(record, overrides, seed):
    flips = {"INPUT.MTL.VERTICAL_FLIP_PROB": 0.5}
    with seeded(seed):
        sample = mapper(**overrides, **flips)(record)
    assert sample["image"].shape == (3, 71, 93)
    assert sample["sem_seg"].shape == sample["edge"].shape == (71, 93)
    instances = sample["instances"]
    boxes = instances.gt_masks.get_bounding_boxes().tensor
    assert torch.equal(instances.gt_boxes.tensor, boxes)
    padding = ~shown(sample)
    assert (sample["sem_seg"][padding] == 255).all()
    assert (sample["edge"][padding] == 255).all()
    assert not instances.gt_masks.tensor[:, padding].any()
    assert padding.any() or overrides is not SMALLER


@pytest.mark.parametrize("source", ["instance", "semantic", "union", "file"])
def test_edges_of_a_padded_sample_are_those_of_its_labels_and_ignored_outside(record, source, tmp_path):
    record["annotations"] = [a for a in record["annotations"] if not a.get("iscrowd")]
    if source == "file":
        drawn = np.zeros((70, 54), np.uint8)
        drawn[20, 5:50] = 255
        Image.fromarray(drawn).save(tmp_path / "edge.png")
        record["edge_file_name"] = str(tmp_path / "edge.png")
    else:
        record["edge_source"] = source
    with seeded(3):
        sample = mapper(**SMALLER, **STILL)(record)
    window = shown(sample)
    edge = sample["edge"].numpy()
    assert (edge[~window] == 255).all()
    if source == "file":
        assert set(np.unique(edge[window])) == {0, 1}
        return
    sem_seg = sample["sem_seg"].numpy().astype(np.uint8) if source != "instance" else None
    masks = sample["instances"].gt_masks.tensor.numpy() if source != "semantic" else np.zeros((0, 71, 93), bool)
    ignore = ~window if sem_seg is None else sem_seg == 255
    expected = edges_from_ids(id_map(masks, sem_seg, size=(71, 93)), ignore & ~masks.any(0))
    assert (expected == 1).any()
    assert np.array_equal(edge, expected)


def test_jitter_is_detectron2s_resize_and_crop_for_an_image_that_fills_the_size():
    image = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    ours = build_augmentations(tiny_cfg(**LARGER, **STILL), is_train=True)
    theirs = [T.ResizeScale(1.6, 2.0, 71, 93), T.FixedSizeCrop((71, 93))]
    found = []
    for augmentations in (ours, theirs):
        with seeded(2):
            aug_input = T.AugInput(image)
            T.AugmentationList(augmentations)(aug_input)
            found.append(aug_input.image)
    assert found[0].shape == (71, 93, 3)
    assert np.array_equal(*found)


@pytest.mark.parametrize("pad_first", [False, True])
def test_source_of_a_padded_map_is_its_segmentation_and_minus_one_outside(pad_first):
    label = np.random.default_rng(0).integers(0, 200, (13, 17), dtype=np.uint8)
    pad = PadToSize((21, 19)).get_transform(label)
    assert pad.seg_pad_value == 255
    others = [T.HFlipTransform(19 if pad_first else 17), T.CropTransform(2, 1, 15, 18)]
    transforms = T.TransformList([pad, *others] if pad_first else [others[0], pad, others[1]])
    rows, cols = nearest_source(transforms, label.shape)
    expected = transforms.apply_segmentation(label)
    inside = inside_padding(transforms, label.shape)
    window = np.zeros(expected.shape, bool)
    window[inside] = True
    assert np.array_equal((rows >= 0)[:, None] & (cols >= 0), window)
    assert np.array_equal(np.where(window, label[rows][:, cols], 255), expected)


def test_an_image_of_an_extreme_shape_keeps_a_pixel():
    record_size = (3, 200)
    augmentations = build_augmentations(tiny_cfg(**LSJ, **{"INPUT.MTL.LSJ.MAX_SCALE": 0.1}), is_train=True)
    aug_input = T.AugInput(np.zeros((*record_size, 3), np.uint8), sem_seg=np.zeros(record_size, np.uint8))
    T.AugmentationList(augmentations)(aug_input)
    assert aug_input.image.shape == (71, 93, 3)
    assert (aug_input.sem_seg == 0).any()


@pytest.mark.parametrize("is_train", [True, False])
@pytest.mark.parametrize("size", [(5, 1000), (1000, 5), (1, 3000)])
def test_a_very_long_image_keeps_a_pixel(size, is_train):
    keys = {
        "INPUT.MIN_SIZE_TRAIN": (96,),
        "INPUT.MAX_SIZE_TRAIN": 96,
        "INPUT.MIN_SIZE_TEST": 96,
        "INPUT.MAX_SIZE_TEST": 96,
    }
    aug_input = T.AugInput(np.zeros((*size, 3), np.uint8), sem_seg=np.zeros(size, np.uint8))
    T.AugmentationList(build_augmentations(tiny_cfg(**keys), is_train))(aug_input)
    assert min(aug_input.image.shape[:2]) == 1 and aug_input.sem_seg.shape == aug_input.image.shape[:2]


def test_a_factor_leaves_a_pixel():
    (resize,) = build_augmentations(tiny_cfg(**{"INPUT.MTL.SCALE_TEST": 0.5}), is_train=False)
    assert resize(T.AugInput(image := np.zeros((1, 9, 3), np.uint8))).apply_image(image).shape == (1, 4, 3)


def test_share_of_kept_objects_and_of_borders_by_hand():
    boxes = np.array([[0, 0, 2, 2], [10, 10, 14, 14], [0, 0, 16, 16]], float)  # weights 1/2, 1/4, 1/16
    windows = np.array([[0, 0, 5, 5], [1, 0, 16, 16], [0, 0, 16, 16]])
    assert np.allclose(kept_share(boxes, windows), [8 / 13, 4 / 13, 1])
    sem_seg = np.zeros((6, 8), np.uint8)
    sem_seg[:, 4:] = 1
    sem_seg[0] = 255
    shares = border_share(sem_seg, np.array([[0, 0, 8, 6], [0, 0, 4, 3], [4, 0, 8, 6]]), 255)
    assert np.allclose(shares, [1, 2 / 5, 0])


@pytest.fixture
def scene():
    """An image with small objects in one corner: (image, boxes, sem_seg)."""
    boxes = np.array([[80 + 6 * i, 84, 84 + 6 * i, 90] for i in range(3)], float)
    sem_seg = np.zeros((101, 103), np.uint8)
    for x0, y0, x1, y1 in boxes.astype(int):
        sem_seg[y0:y1, x0:x1] = 1
    return np.zeros((101, 103, 3), np.uint8), boxes, sem_seg


@pytest.mark.parametrize("labels", [("boxes", "sem_seg"), ("boxes",), ("sem_seg",)])
def test_more_small_objects_are_kept_than_by_uniform_crops(scene, labels):
    image, boxes, sem_seg = scene
    given = {"boxes": boxes, "sem_seg": sem_seg}
    kept = {}
    for candidates in (1, 8):
        crop = RandomCropOfStructures("absolute", (40, 41), candidates)
        shares = []
        for seed in range(200):
            with seeded(seed):
                found = crop.get_transform(image, **{key: given[key] for key in labels})
            window = np.array([[found.x0, found.y0, found.x0 + found.w, found.y0 + found.h]])
            shares.append(kept_share(boxes, window)[0])
        kept[candidates] = np.mean(shares)
    assert kept[8] > 2 * kept[1]
    assert kept[8] < 1  # background is drawn too


def test_without_labels_all_crops_are_alike(scene):
    with seeded(0):
        crops = [RandomCropOfStructures("absolute", (40, 41), 5).get_transform(scene[0]) for _ in range(300)]
    assert abs(np.mean([crop.x0 for crop in crops]) - 31) < 4


def test_edges_of_a_crop_are_those_of_the_cropped_masks_and_thin_lines_do_not_break(tmp_path):
    size = (83, 97)
    rng = np.random.default_rng(1)
    Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    thin_bars = [box_annotation(5, y, 90, y + 1, size) for y in (10, 13, 40, 71)]  # one pixel wide
    record = {"file_name": str(tmp_path / "a.png"), "height": 83, "width": 97, "image_id": 0}
    record |= {"annotations": thin_bars, "edge_source": "instance"}
    crop = {"INPUT.CROP.ENABLED": True, "INPUT.CROP.TYPE": "absolute", "INPUT.CROP.SIZE": [51, 47]}
    overrides = {**crop, **STILL, "INPUT.MTL.CROP_CANDIDATES": 6, "INPUT.MIN_SIZE_TRAIN": (47,)}
    image = np.asarray(Image.open(tmp_path / "a.png"))[:, :, ::-1]
    masks = mask_util.decode([bar["segmentation"] for bar in thin_bars]).transpose(2, 0, 1).astype(bool)
    for seed in range(5):
        with seeded(seed):
            sample = mapper(**overrides)(record)
        pixels = sample["image"].numpy().transpose(1, 2, 0)
        (corner,) = [
            (y, x) for y in range(33) for x in range(51) if np.array_equal(image[y : y + 51, x : x + 47], pixels)
        ]
        y, x = corner
        cropped = masks[:, y : y + 51, x : x + 47]
        found = sample["instances"].gt_masks.tensor.numpy()
        assert np.array_equal(found, cropped[cropped.any((1, 2))])
        assert np.array_equal(sample["edge"].numpy(), edges_from_ids(id_map(cropped)))


def test_one_candidate_draws_what_detectron2s_crop_draws(record):
    crop = {"INPUT.CROP.ENABLED": True, "INPUT.CROP.TYPE": "relative_range", "INPUT.CROP.SIZE": [0.5, 0.5]}
    augmentations = build_augmentations(tiny_cfg(**crop), is_train=True)
    assert type(augmentations[0]) is T.RandomCrop


JITTER = {f"INPUT.MTL.COLOR_JITTER.{key}": 0.5 for key in ("BRIGHTNESS", "CONTRAST", "SATURATION")}


def test_colour_jitter_changes_the_image_alone(record):
    with seeded(1):
        plain = mapper(**STILL)(record)
    with seeded(1):
        jittered = mapper(**STILL, **JITTER)(record)
    assert not torch.equal(jittered["image"], plain["image"])
    assert torch.equal(jittered["sem_seg"], plain["sem_seg"])
    assert torch.equal(jittered["edge"], plain["edge"])
    assert torch.equal(jittered["instances"].gt_masks.tensor, plain["instances"].gt_masks.tensor)
    assert torch.equal(jittered["instances"].gt_boxes.tensor, plain["instances"].gt_boxes.tensor)


def test_padding_stays_gray_under_colour_jitter(record):
    with seeded(4):
        sample = mapper(**SMALLER, **JITTER, **{"INPUT.MTL.INVERT_PROB": 1.0})(record)
    assert (sample["image"][:, -1, -1] == 128).all()


def test_saturation_weighs_the_channels_as_colours_in_either_order():
    rgb = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    images = {"RGB": rgb, "BGR": np.ascontiguousarray(rgb[:, :, ::-1])}
    found = {}
    for order, image in images.items():
        with seeded(3):
            found[order] = RandomSaturation(0.2, 0.4, order).get_transform(image).apply_image(image)
    with seeded(3):
        theirs = T.RandomSaturation(0.2, 0.4).get_transform(rgb).apply_image(rgb)
    assert np.array_equal(found["RGB"], theirs)
    assert np.array_equal(found["BGR"][:, :, ::-1], theirs)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({**LSJ, "INPUT.MTL.LSJ.MIN_SCALE": 0.0}, r"INPUT\.MTL\.LSJ: found MIN_SCALE 0\.0"),
        ({**LSJ, "INPUT.MTL.LSJ.MIN_SCALE": 3.0}, r"INPUT\.MTL\.LSJ: found MIN_SCALE 3\.0"),
        ({**LSJ, "INPUT.MTL.LSJ.SIZE": [71]}, r"INPUT\.MTL\.LSJ\.SIZE: found \[71\]"),
        ({"INPUT.CROP.ENABLED": True, "INPUT.MTL.CROP_CANDIDATES": 0}, r"INPUT\.MTL\.CROP_CANDIDATES: found 0"),
        ({"INPUT.MTL.COLOR_JITTER.CONTRAST": 1.5}, r"INPUT\.MTL\.COLOR_JITTER\.CONTRAST: found 1\.5"),
        ({**JITTER, "INPUT.FORMAT": "L"}, r"SATURATION: found 0\.5 for images of INPUT\.FORMAT 'L'"),
    ],
)
def test_keys_out_of_range_are_named(overrides, message):
    with pytest.raises(ValueError, match=message):
        build_augmentations(tiny_cfg(**overrides), is_train=True)


def test_test_images_are_not_augmented():
    overrides = {**LSJ, **JITTER, "INPUT.CROP.ENABLED": True, "INPUT.MTL.CROP_CANDIDATES": 3}
    (only,) = build_augmentations(tiny_cfg(**overrides), is_train=False)
    assert isinstance(only, T.ResizeShortestEdge)
