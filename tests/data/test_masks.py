"""Masks under transforms against pycocotools, counted in pixels over thousands of random ones."""

import numpy as np
import pycocotools.mask as mask_util
import pytest
from detectron2.data import transforms as T
from detectron2.structures.masks import polygons_to_bitmask

from mtl_d2.data import masks
from mtl_d2.data.masks import transform_masks
from mtl_d2.structures.box_masks import draw_masks

SIZE = (61, 83)


def random_polygons(rng):
    """One to three of 3 to 12 vertices in a random order: convex, hollow, crossing themselves, outside of the image."""
    polygons = []
    for _ in range(rng.integers(1, 4)):
        center, reach = rng.uniform(-5, 90, 2), rng.uniform(0.2, 40)
        vertices = center + rng.uniform(-reach, reach, (rng.integers(3, 13), 2))
        decimals = rng.choice([0, 1, 2, 9])  # with one, the rounding of pycocotools is a tie for half of them
        polygons.append(vertices.round(decimals).reshape(-1).tolist())
    return polygons


def random_transforms(rng):
    height, width = SIZE
    steps = [T.HFlipTransform(width)] if rng.random() < 0.5 else [T.NoOpTransform()]
    if rng.random() < 0.5:
        crop_height, crop_width = rng.integers(20, height), rng.integers(20, width)
        y, x = rng.integers(0, height - crop_height), rng.integers(0, width - crop_width)
        steps.append(T.CropTransform(int(x), int(y), int(crop_width), int(crop_height)))
        height, width = int(crop_height), int(crop_width)
    resized = rng.random() < 0.5
    new_height, new_width = (int(side) for side in rng.integers(20, 120, 2)) if resized else (height, width)
    steps.append(T.ResizeTransform(height, width, new_height, new_width))
    return T.TransformList(steps), (new_height, new_width)


@pytest.fixture(autouse=True, params=["whole frames", "boxes"])
def decoding(request, monkeypatch):
    if request.param == "boxes":
        monkeypatch.setattr(masks, "_SMALL", 0)


@pytest.mark.parametrize("seed", range(3))
def test_polygons_have_the_pixels_of_pycocotools(seed):
    rng = np.random.default_rng(seed)
    pixels = different = 0
    for _ in range(25):
        transforms, size = random_transforms(rng)
        segmentations = [random_polygons(rng) for _ in range(30)]
        found = draw_masks(transform_masks(segmentations, transforms, SIZE, size), size)
        for polygons, mask in zip(segmentations, found, strict=True):
            moved = transforms.apply_polygons([np.array(polygon).reshape(-1, 2) for polygon in polygons])
            expected = polygons_to_bitmask([polygon.reshape(-1) for polygon in moved], *size)
            pixels += expected.size
            different += np.count_nonzero(mask != expected)
    assert pixels > 1e6
    assert different == 0


@pytest.mark.parametrize("seed", range(3))
def test_rles_have_the_pixels_of_pycocotools(seed):
    rng = np.random.default_rng(seed)
    pixels = different = 0
    for _ in range(25):
        transforms, size = random_transforms(rng)
        frames = [polygons_to_bitmask(random_polygons(rng), *SIZE).astype(np.uint8) for _ in range(30)]
        rles = [mask_util.encode(np.asfortranarray(frame)) for frame in frames]
        found = draw_masks(transform_masks(rles, transforms, SIZE, size), size)
        for rle, mask in zip(rles, found, strict=True):
            expected = transforms.apply_segmentation(mask_util.decode(rle)).astype(bool)
            pixels += expected.size
            different += np.count_nonzero(mask != expected)
    assert pixels > 1e6
    assert different == 0
