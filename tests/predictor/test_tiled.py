"""Tiles give what the whole image gives."""

import numpy as np
import pytest
import torch

from mtl_d2.predictor.merge import Detection, merge_detections
from mtl_d2.predictor.tiled import predict_tiled
from mtl_d2.predictor.tiling import Tiling, check_tile
from mtl_d2.structures.box_masks import draw_masks

from .blobs import RADIUS, answer, draw_scene, mask_iou

TILING = Tiling(tile=64, overlap=4 * RADIUS, cell=8, stride=8)
SIZE = (150, 201)
SCENES = {
    "small": [(0, 20, 20, 5, 5), (1, 60, 60, 6, 4), (0, 100, 56, 7, 7), (1, 140, 190, 5, 6), (0, 52, 100, 3, 3)],
    "across borders": [(0, 54, 100, 20, 14), (1, 100, 30, 12, 25), (1, 60, 180, 40, 12)],
    "larger than a tile": [(0, 75, 100, 70, 95)],
    "neighbours of one class": [(0, 50, 30, 20, 8), (0, 50, 50, 20, 8), (0, 50, 70, 20, 8), (1, 50, 90, 20, 8)],
    "one within the other": [(0, 75, 100, 60, 80), (1, 75, 100, 20, 30), (0, 75, 100, 6, 8)],
    "nothing": [],
}


def assert_same_instances(found, expected, iou=0.9):
    assert len(found) == len(expected)
    if len(found):
        ious = mask_iou(found.pred_masks, expected.pred_masks)
        best = ious.argmax(dim=1)
        assert sorted(best.tolist()) == list(range(len(expected)))
        assert ious.max(dim=1).values.min() >= iou
        assert torch.equal(found.pred_classes, expected.pred_classes[best])


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("batch_size", [1, 3])
def test_tiles_agree_with_the_whole(scene, batch_size):
    image = draw_scene(SIZE, SCENES[scene])
    (expected,) = answer([image])
    found = predict_tiled(image, answer, TILING, batch_size=batch_size)
    torch.testing.assert_close(found["sem_seg"], expected["sem_seg"], rtol=0, atol=1e-3)
    torch.testing.assert_close(found["edge"], expected["edge"], rtol=0, atol=1e-5)
    assert_same_instances(found["instances"], expected["instances"], iou=1.0)


@pytest.mark.parametrize("seed", range(6))
def test_random_scenes_agree_with_the_whole(seed):
    rng = np.random.default_rng(seed)
    ellipses = [
        (rng.integers(2), rng.integers(SIZE[0]), rng.integers(SIZE[1]), rng.integers(3, 30), rng.integers(3, 30))
        for _ in range(8)
    ]
    image = draw_scene(SIZE, ellipses)
    assert_same_instances(predict_tiled(image, answer, TILING)["instances"], answer([image])[0]["instances"])


def test_compact_answers_say_the_same():
    image = draw_scene(SIZE, SCENES["across borders"])
    full = predict_tiled(image, answer, TILING)
    compact = predict_tiled(image, answer, TILING, compact=True, max_mask_bytes=0)
    assert compact["sem_seg"].dtype == torch.uint8 and torch.equal(compact["sem_seg"], full["sem_seg"].argmax(0))
    assert compact["edge"].dtype == torch.float16
    torch.testing.assert_close(compact["edge"].float(), full["edge"], rtol=1e-3, atol=1e-3)
    instances = compact["instances"]
    assert not instances.has("pred_masks")
    assert np.array_equal(draw_masks(instances.pred_box_masks.masks, SIZE), full["instances"].pred_masks.numpy())
    assert len(instances[instances.pred_classes == 1].pred_box_masks) == int((instances.pred_classes == 1).sum())


def test_a_tile_alone_answers_as_the_whole():
    image = draw_scene((40, 50), SCENES["small"])
    (expected,) = answer([image])
    found = predict_tiled(image, answer, TILING)
    assert torch.equal(found["sem_seg"], expected["sem_seg"])
    assert_same_instances(found["instances"], expected["instances"], iou=1.0)


class TestTiling:
    @pytest.mark.parametrize("length", [1, 63, 64, 65, 112, 113, 150, 201, 500, 1001])
    def test_tiles_cover_the_axis_on_the_grid_and_weights_sum_to_one(self, length):
        axis = TILING.axis(length)
        assert axis.starts[0] == 0 and axis.ends[-1] == length
        assert all(start % TILING.cell == 0 for start in axis.starts)
        assert all(end - start <= TILING.tile for start, end in axis.spans)
        overlaps = [end - start for start, end in zip(axis.starts[1:], axis.ends, strict=False)]
        # The last tile may end before its full length, never more than a cell.
        assert all(overlap >= TILING.overlap for overlap in overlaps)
        total = np.zeros(length)
        for (start, end), weights in zip(axis.spans, axis.weights, strict=True):
            assert weights.min() >= 0
            total[start:end] += weights
        np.testing.assert_allclose(total, 1, atol=1e-6)

    def test_no_weight_where_a_border_that_is_none_was_seen(self):
        axis = TILING.axis(112)
        assert axis.starts == (0, 48) and axis.ends == (64, 112)
        assert not axis.weights[0][-RADIUS:].any() and not axis.weights[1][:RADIUS].any()
        assert axis.weights[0][0] == 1 and axis.weights[0][48 + 8 - 1] > 0.5 > axis.weights[0][48 + 8]

    @pytest.mark.parametrize(
        ("tile_test_size", "cell"), [(512, 32), (256, 64), (1024, 16), (320, 51)], ids=["1", "half", "twice", "odd"]
    )
    def test_a_cell_is_the_stride_at_the_configs_scale(self, tile_test_size, cell):
        tiling = Tiling.fit(512, 128, tile_test_size=tile_test_size, stride=32)
        assert tiling.cell == cell and tiling.tile % cell == 0 and tiling.overlap % cell == 0
        assert tiling.tile >= 512 and tiling.overlap >= 128
        assert tiling.test_size((cell, 2 * cell)) == (32, 64)

    @pytest.mark.parametrize(("tile", "overlap"), [(0, 0), (-5, 0), (64, 33), (64, -1)])
    def test_impossible_tiles_are_refused(self, tile, overlap):
        with pytest.raises(ValueError, match=rf"tile={tile}, tile_overlap={overlap}: expected"):
            check_tile(tile, overlap)


def _detection(box, tile, score=0.9, *, category=0, cut=True, owned=True):
    return Detection(np.array(box, float), score, category, None, (tile,), cut, owned)


class TestMergeOfBoxes:
    """Two tiles of 64 x 64 that share columns 48 to 64; no masks."""

    TILES = [(slice(0, 64), slice(0, 64)), (slice(0, 64), slice(48, 112))]

    def _merge(self, *detections):
        return merge_detections(detections, self.TILES, nms_threshold=0.5)

    def test_parts_that_agree_where_the_tiles_overlap_are_joined(self):
        (whole,) = self._merge(_detection([20, 10, 64, 30], 0, 0.8), _detection([48, 11, 90, 30], 1, 0.9))
        assert whole.box.tolist() == [20, 10, 90, 30] and whole.score == 0.9 and whole.tiles == (0, 1)

    @pytest.mark.parametrize(
        "other", [{"box": [48, 40, 90, 60]}, {"box": [48, 11, 90, 30], "category": 1}], ids=["elsewhere", "class"]
    )
    def test_other_parts_are_not(self, other):
        assert len(self._merge(_detection([20, 10, 64, 30], 0), _detection(tile=1, **other))) == 2

    def test_a_part_gives_way_to_the_uncut_object(self):
        uncut = _detection([50, 10, 90, 30], 1, score=0.6, cut=False)
        assert self._merge(_detection([50, 10, 64, 30], 0, score=0.9), uncut) == [uncut]

    def test_twins_of_two_tiles_are_one_and_those_of_a_tile_are_two(self):
        first = _detection([50, 10, 60, 20], 0, 0.9, cut=False)
        twin = _detection([50, 11, 60, 20], 1, 0.8, cut=False)
        assert self._merge(twin, first) == [first]
        neighbour = _detection([50, 11, 60, 20], 0, 0.8, cut=False)
        assert self._merge(neighbour, first) == [first, neighbour]

    def test_what_no_tile_owns_is_dropped(self):
        assert self._merge(_detection([58, 10, 64, 20], 0, owned=False)) == []

    def test_empty(self):
        assert self._merge() == []
