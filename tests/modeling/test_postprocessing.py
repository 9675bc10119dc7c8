"""Postprocessing and the panoptic merge give what Detectron2's give."""

import pytest
import torch
from detectron2.layers import paste_masks_in_image
from detectron2.modeling.meta_arch.panoptic_fpn import combine_semantic_and_instance_outputs
from detectron2.modeling.postprocessing import detector_postprocess, sem_seg_postprocess
from detectron2.structures import Boxes, Instances

from mtl_d2.modeling import combine_panoptic, postprocessing
from mtl_d2.modeling.postprocessing import paste_masks, resize_dense, resize_instances
from mtl_d2.structures import BoxMasks
from mtl_d2.structures.box_masks import crop_mask


def random_scene(
    seed: int, *, count: int = 12, size: tuple[int, int] = (40, 56), device: str = "cpu"
) -> tuple[Instances, torch.Tensor]:
    """Blobs that overlap, some empty, some beyond their box, with scores that tie; and a map of labels."""
    generator = torch.Generator().manual_seed(seed)
    height, width = size
    centers = torch.rand(count, 2, generator=generator) * torch.tensor([width, height])
    halves = torch.rand(count, 2, generator=generator) * 14 + 1
    boxes = Boxes(torch.cat([centers - halves, centers + halves], 1))
    boxes.clip(size)
    x0, y0, x1, y1 = (side[:, None, None] for side in boxes.tensor.unbind(1))
    rows, columns = torch.arange(height)[None, :, None] + 0.5, torch.arange(width)[None, None] + 0.5
    masks = (columns > x0) & (columns < x1) & (rows > y0) & (rows < y1)
    masks &= torch.rand(masks.shape, generator=generator) > 0.2
    masks[::5] = False
    masks[1::5, 0, 0] = True
    instances = Instances(size)
    instances.pred_boxes = boxes
    instances.pred_masks = masks
    instances.scores = torch.randint(2, 10, (count,), generator=generator) / 10
    instances.pred_classes = torch.randint(0, 5, (count,), generator=generator)
    labels = torch.randint(0, 7, (5, 7), generator=generator)
    return instances.to(device), labels.repeat_interleave(8, 0).repeat_interleave(8, 1).to(device)


def assert_equal_to_detectron2(instances: Instances, labels: torch.Tensor, *thresholds: float) -> None:
    overlap, area, score = thresholds
    expected, expected_info = combine_semantic_and_instance_outputs(instances, labels, overlap, area, score)
    panoptic, info = combine_panoptic(
        instances,
        labels,
        overlap_threshold=overlap,
        stuff_area_threshold=area,
        score_threshold=score,
    )
    assert panoptic.dtype == torch.int32 and panoptic.device == expected.device
    assert torch.equal(panoptic, expected)
    assert info == expected_info
    assert [list(segment) for segment in info] == [list(segment) for segment in expected_info]


@pytest.fixture(params=["host", "device"])
def painter(request, monkeypatch):
    """Both ways of painting, on the CPU."""
    if request.param == "device":
        monkeypatch.setattr(
            postprocessing,
            "_paint_in_boxes",
            lambda masks, order, threshold, boxes: postprocessing._paint_without_sync(masks, order, threshold),
        )


@pytest.mark.usefixtures("painter")
@pytest.mark.parametrize("thresholds", [(0.5, 60, 0.5), (0.2, 0, 0.0), (0.0, 1, 0.3), (1.0, 4096, 0.95)])
def test_random_scenes_merge_as_in_detectron2(thresholds):
    for seed in range(12):
        assert_equal_to_detectron2(*random_scene(seed), *thresholds)


@pytest.mark.usefixtures("painter")
def test_no_instance_merges_as_in_detectron2():
    assert_equal_to_detectron2(*random_scene(0, count=0), 0.5, 1, 0.5)


@pytest.mark.usefixtures("painter")
def test_a_label_that_instances_cover_counts_zero_pixels():
    instances, labels = random_scene(0, count=2)
    instances.pred_masks[1] = True
    assert_equal_to_detectron2(instances, labels, 0.5, 0, 0.0)


def test_wrong_boxes_and_no_boxes_change_nothing():
    instances, labels = random_scene(3)
    expected = combine_panoptic(instances, labels, stuff_area_threshold=1)
    instances.pred_boxes = Boxes(torch.zeros(len(instances), 4))
    wrong = combine_panoptic(instances, labels, stuff_area_threshold=1)
    instances.remove("pred_boxes")
    without = combine_panoptic(instances, labels, stuff_area_threshold=1)
    for panoptic, info in (wrong, without):
        assert torch.equal(panoptic, expected[0]) and info == expected[1]


def test_stuff_ids_say_what_is_stuff():
    labels = torch.tensor([[0, 0, 1, 1, 2, 2]])
    instances = random_scene(0, count=0, size=(1, 6))[0]
    panoptic, info = combine_panoptic(instances, labels, stuff_ids=[0, 2, 9], stuff_area_threshold=1)
    assert panoptic.tolist() == [[1, 1, 0, 0, 2, 2]]
    assert info == [
        {"id": 1, "isthing": False, "category_id": 0, "area": 2},
        {"id": 2, "isthing": False, "category_id": 2, "area": 2},
    ]


def test_the_merge_leaves_its_inputs_alone():
    instances, labels = random_scene(0)
    masks, map_before = instances.pred_masks.clone(), labels.clone()
    combine_panoptic(instances, labels)
    assert torch.equal(instances.pred_masks, masks) and torch.equal(labels, map_before)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_random_scenes_on_a_gpu_merge_as_in_detectron2():
    for seed in range(12):
        assert_equal_to_detectron2(*random_scene(seed, device="cuda"), 0.5, 60, 0.5)


def raw_detections(count: int, size: tuple[int, int] = (48, 64), seed: int = 0) -> Instances:
    """As of the ROI heads: boxes that reach beyond the image, some less than a pixel and one empty."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, generator=generator) * 70 - 6
    sides = torch.rand(count, 2, generator=generator) ** 3 * 60
    sides[3:4] = 0
    instances = Instances(size, pred_boxes=Boxes(torch.cat([corners, corners + sides], 1)))
    instances.pred_boxes.clip(size)
    instances.scores = torch.rand(count, generator=generator)
    instances.pred_classes = torch.randint(0, 5, (count,), generator=generator)
    instances.pred_masks = torch.rand(count, 1, 28, 28, generator=generator)
    return instances


def test_masks_are_pasted_as_by_detectron2_to_the_bit():
    for seed in range(8):
        instances = raw_detections(20, seed=seed)
        instances = instances[instances.pred_boxes.nonempty()]
        masks, boxes = instances.pred_masks[:, 0], instances.pred_boxes.tensor
        expected = paste_masks_in_image(masks, boxes, (48, 64))
        assert expected.any()
        assert torch.equal(paste_masks(masks, boxes, 48, 64), expected)


@pytest.mark.parametrize("count", [20, 0])
@pytest.mark.parametrize("size", [(48, 64), (97, 131), (31, 20)])
@pytest.mark.parametrize("masks", [True, False])
def test_instances_are_resized_as_by_detectron2(count, size, masks):
    ours, theirs = raw_detections(count), raw_detections(count)
    if not masks:
        ours.remove("pred_masks"), theirs.remove("pred_masks")
    found, expected = resize_instances(ours, *size), detector_postprocess(theirs, *size)
    assert found.image_size == expected.image_size and len(found) == len(expected)
    assert found.get_fields().keys() == expected.get_fields().keys()
    assert torch.equal(found.pred_boxes.tensor, expected.pred_boxes.tensor)
    for name in ("scores", "pred_classes", *(["pred_masks"] if masks else [])):
        assert torch.equal(found.get(name), expected.get(name)), name


@pytest.mark.parametrize("size", [(30, 41), (60, 82), (17, 64)])
def test_dense_outputs_are_resized_as_by_detectron2(size):
    padded = torch.randn(3, 32, 64, generator=torch.Generator().manual_seed(0))
    found = resize_dense(padded, (30, 41), *size)
    assert torch.equal(found, sem_seg_postprocess(padded, (30, 41), *size))


def test_an_output_of_the_right_size_is_not_copied():
    padded = torch.zeros(3, 32, 64)
    assert resize_dense(padded, (30, 41), 30, 41).data_ptr() == padded.data_ptr()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("block_pixels", [50, 2**20])
def test_masks_within_their_boxes_and_byte_labels_give_the_same(seed, block_pixels, monkeypatch):
    monkeypatch.setattr(postprocessing, "_BLOCK_PIXELS", block_pixels)
    instances, labels = random_scene(seed)
    expected, expected_segments = combine_panoptic(instances, labels, stuff_area_threshold=8)
    instances.pred_box_masks = BoxMasks([crop_mask(mask.numpy()) for mask in instances.pred_masks], (40, 56))
    instances.remove("pred_masks")
    # Ids above 127 would overflow a byte that is doubled.
    found, segments = combine_panoptic(
        instances, (labels + 200).byte(), stuff_area_threshold=8, stuff_ids=range(201, 208)
    )
    assert torch.equal(found, expected)
    for segment in segments:
        segment["category_id"] -= 0 if segment["isthing"] else 200
    assert segments == expected_segments
