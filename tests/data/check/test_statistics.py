import numpy as np
import pytest

from mtl_d2.data.check import check_dataset, suggest
from mtl_d2.data.check.suggestions import anchor_overlap, anchor_sizes, aspect_ratios, input_scales
from tests.data.check.toy_set import NAME, forget, register, valid_set


@pytest.fixture(autouse=True)
def _forget():
    yield
    forget(NAME)


def statistics(toy, folder):
    toy.write(folder)
    return check_dataset(register(folder), jobs=0).statistics


def test_counts_by_hand(tmp_path):
    toy = valid_set()
    toy.annotation(0)["iscrowd"] = 1
    del toy.content["annotations"][4:6]
    found = statistics(toy, tmp_path)
    assert found.labelled == {"images": 6, "instance": 6, "sem_seg": 6, "edge": 6}
    assert found.instances_per_class.tolist() == [4, 5] == found.images_per_class.tolist()
    assert found.num_crowds == 1 and found.crowd_share == pytest.approx(1 / 10)
    assert sorted(found.instances_per_image.tolist()) == [0, 1, 2, 2, 2, 2]
    assert found.semantic_pixels[[0, 1, 2, 255]].tolist() == [6 * (1024 - 80 - 200 - 4), 6 * 80, 6 * 200, 6 * 4]
    assert found.void_share == pytest.approx(4 / 1024)
    summary = found.to_dict()
    assert summary["instances_per_class"] == {"cat": 4, "dog": 5}
    assert summary["quantiles"]["image_width"] == [32] * 7
    assert summary["quantiles"]["box_size"][0] == pytest.approx(80**0.5, abs=1e-3)


def test_images_without_labels_have_no_figures_and_no_suggestion_that_needs_them(tmp_path):
    toy = valid_set()
    toy.content["annotations"] = []
    found = statistics(toy, tmp_path)
    assert found.boxes.shape == (0, 2) and found.to_dict()["quantiles"]["box_size"] == []
    assert not any("ANCHOR" in suggestion.key for suggestion in suggest(found))


def test_processes_find_what_one_does(tmp_path):
    toy = valid_set()
    for i in range(12):
        toy.files[f"images/more_{i}.png"] = toy.files["images/0.png"]
        toy.files[f"semantic/more_{i}.png"] = toy.files["semantic/1.png"]
        toy.content["images"].append({"id": 100 + i, "file_name": f"more_{i}.png", "height": 32 + i % 2, "width": 32})
    toy.write(tmp_path)
    one, two = (check_dataset(register(tmp_path), jobs=jobs) for jobs in (0, 2))
    assert one.faults == two.faults and len(one.faults) == 12
    assert one.statistics.to_dict() == two.statistics.to_dict()


def test_anchors_are_medians_by_level_and_fit_better_than_the_usual_ones():
    sides = np.repeat([12.0, 20.0, 60.0, 70.0], 50)
    boxes = np.stack([sides, sides], axis=1)
    assert anchor_sizes(boxes) == [16, 65, 128, 256, 512]
    own = anchor_overlap(boxes, anchor_sizes(boxes), [1.0])
    assert own > anchor_overlap(boxes, [32, 64, 128, 256, 512], [1.0])
    assert anchor_overlap(boxes[:1], [12], [1.0]) == 1 and anchor_overlap(boxes[:1], [24], [1.0]) == 0.25


def test_aspect_ratios_are_height_by_width():
    boxes = np.array([[10.0, 30.0]] * 20 + [[20.0, 20.0]] * 20 + [[40.0, 10.0]] * 20)
    assert aspect_ratios(boxes) == [0.25, 1.0, 3.0]


def test_input_scales_are_detectron2s():
    from detectron2.data import transforms as T

    sizes = np.array([[640, 480], [300, 900], [500, 375]])
    for (width, height), scale in zip(sizes.tolist(), input_scales(sizes, (800, 1333)).tolist(), strict=True):
        resize = T.ResizeShortestEdge(800, 1333).get_transform(np.zeros((height, width, 3), np.uint8))
        assert (resize.new_h, resize.new_w) == (round(height * scale), round(width * scale))


def test_small_and_many_objects_are_spoken_of(tmp_path):
    toy = valid_set()
    first = toy.annotation(0)
    for i in range(130):
        x, y = i % 28, i // 28
        outline = [[x, y, x + 4, y, x + 4, y + 4, x, y + 4]]
        toy.content["annotations"].append({**first, "id": 1000 + i, "bbox": [x, y, 4, 4], "segmentation": outline})
    suggestions = {s.key: s for s in suggest(statistics(toy, tmp_path))}
    assert suggestions["TEST.DETECTIONS_PER_IMAGE, max_dets of the dataset"].value == 150
    short, longest = suggestions["INPUT.MIN_SIZE_TRAIN, MAX_SIZE_TRAIN"].value
    assert (short, longest) == (128, 128)  # four times 32: boxes of 4 pixels become 16
    assert all(s.reason for s in suggestions.values())
