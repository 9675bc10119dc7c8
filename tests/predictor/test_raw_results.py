"""Raw results are read back as what was answered."""

import json
import tracemalloc

import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from detectron2.data.catalog import Metadata
from detectron2.structures import Boxes, Instances
from PIL import Image

from mtl_d2.predictor.raw_results import RawResults, edge_map, encode_ids, label_map
from mtl_d2.structures.box_masks import BoxMask, BoxMasks

MASK = np.zeros((6, 9), bool)
MASK[1:4, 2:7] = True


def _answer(compact=False):
    instances = Instances((6, 9), pred_boxes=Boxes(torch.tensor([[2.0, 1, 7, 4]])), scores=torch.tensor([0.75]))
    instances.pred_classes = torch.tensor([1])
    if compact:
        instances.pred_box_masks = BoxMasks([BoxMask(1, 2, MASK[1:4, 2:7])], (6, 9))
    else:
        instances.pred_masks = torch.from_numpy(MASK)[None]
    ids = torch.ones(6, 9, dtype=torch.int32)
    ids[torch.from_numpy(MASK)] = 70_000
    segments = [
        {"id": 70_000, "isthing": True, "score": 0.75, "category_id": 1, "instance_id": 0},
        {"id": 1, "isthing": False, "category_id": 2, "area": 39},
    ]
    labels = torch.arange(54).reshape(6, 9) % 3
    sem_seg = labels.byte() if compact else torch.nn.functional.one_hot(labels).permute(2, 0, 1).float()
    edge = torch.linspace(0, 1, 54).reshape(6, 9)
    edge = edge.half() if compact else edge
    return {"instances": instances, "sem_seg": sem_seg, "edge": edge, "panoptic_seg": (ids, segments)}


@pytest.fixture(params=[False, True], ids=["full", "compact"])
def folder(request, tmp_path):
    metadata = Metadata().set(
        thing_classes=["a", "b"], stuff_classes=["x", "y", "z"], thing_dataset_id_to_contiguous_id={7: 0, 9: 1}
    )
    raw = RawResults(tmp_path, metadata)
    raw.write("first", "in/first.jpg", (6, 9), _answer(request.param))
    raw.write("second", "in/second.jpg", (6, 9), {"edge": torch.zeros(6, 9)})
    raw.close()
    return tmp_path


def _read(path):
    return np.asarray(Image.open(path))


def test_instances_are_cocos_results(folder):
    (found,) = json.loads((folder / "instances.json").read_text())
    assert (found["image_id"], found["category_id"], found["score"]) == (1, 9, 0.75)
    assert found["bbox"] == [2, 1, 5, 3]
    assert np.array_equal(mask_util.decode(found["segmentation"]).astype(bool), MASK)


def test_answers_about_several_images_stand_in_one_file_in_their_order(tmp_path):
    raw = RawResults(tmp_path, Metadata().set(thing_classes=["a", "b"], stuff_classes=["x", "y", "z"]))
    for name in "abc":
        raw.write(name, f"{name}.jpg", (6, 9), {**_answer(), "image_labels": torch.tensor([0.5])})
    raw.close()
    ids = {
        file: [entry["image_id"] for entry in json.loads((tmp_path / file).read_text())]
        for file in ("instances.json", "image_labels.json")
    }
    assert ids == {"instances.json": [1, 2, 3], "image_labels.json": [1, 2, 3]}
    annotations = json.loads((tmp_path / "panoptic.json").read_text())["annotations"]
    assert [annotation["file_name"] for annotation in annotations] == ["a.png", "b.png", "c.png"]


def test_maps_are_pictures(folder):
    assert np.array_equal(_read(folder / "semantic" / "first.png"), np.arange(54).reshape(6, 9) % 3)
    edge = _read(folder / "edge" / "first.png")
    assert edge.dtype == np.uint8 and edge[0, 0] == 0 and edge[-1, -1] == 255
    assert np.abs(edge - np.linspace(0, 255, 54).reshape(6, 9)).max() <= 1
    assert not (folder / "semantic" / "second.png").exists()


def test_panoptic_maps_are_cocos(folder):
    content = json.loads((folder / "panoptic.json").read_text())
    (annotation,) = content["annotations"]
    colors = _read(folder / "panoptic" / annotation["file_name"]).astype(int)
    ids = colors @ [1, 256, 256**2]
    assert np.array_equal(ids == 70_000, MASK) and set(np.unique(ids)) == {1, 70_000}
    names = {category["id"]: (category["name"], category["isthing"]) for category in content["categories"]}
    assert [names[s["category_id"]] for s in annotation["segments_info"]] == [("b", 1), ("z", 0)]
    assert [image["file_name"] for image in content["images"]] == ["in/first.jpg", "in/second.jpg"]


def test_ids_above_255_take_16_bits(tmp_path):
    assert label_map(torch.tensor([[0, 255]])).dtype == np.uint8
    labels = label_map(torch.tensor([[0, 256]]))
    assert labels.dtype == np.uint16
    Image.fromarray(labels).save(tmp_path / "a.png")
    assert _read(tmp_path / "a.png").tolist() == [[0, 256]]


def test_largest_id():
    assert encode_ids(np.array([[256**3 - 1, 256]])).tolist() == [[[255, 255, 255], [0, 1, 0]]]


def test_no_image_no_detections(tmp_path):
    RawResults(tmp_path / "raw", Metadata()).close()
    assert json.loads((tmp_path / "raw" / "images.json").read_text()) == []


@pytest.mark.parametrize("height", [1, 255, 256, 700])
def test_maps_are_converted_as_a_whole_would_be(height):
    rng = np.random.default_rng(height)
    ids = rng.integers(0, 256**3, (height, 5)).astype(np.int32)
    assert np.array_equal(encode_ids(ids).astype(np.int64) @ [1, 256, 65536], ids)
    edge = torch.from_numpy(rng.random((height, 5)).astype(np.float16))
    assert np.array_equal(edge_map(edge), (edge * 255).round().byte().numpy())


@pytest.mark.parametrize(("convert", "kind", "bytes_per_pixel"), [(encode_ids, np.int32, 3), (edge_map, np.float16, 1)])
def test_a_map_takes_hardly_more_memory_than_its_file_holds(convert, kind, bytes_per_pixel):
    values = np.zeros((4000, 1000), kind)
    tracemalloc.start()
    convert(torch.from_numpy(values) if convert is edge_map else values)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < (bytes_per_pixel + 1) * values.size
