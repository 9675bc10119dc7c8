"""Described datasets: which image has which labels, registration, and classes mapped to a run's."""

import json
import logging
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, Instances
from PIL import Image

from mtl_d2.data import (
    DatasetError,
    DatasetSchema,
    MultiTaskDatasetMapper,
    get_records,
    preflight,
    register_description,
    register_multitask_dataset,
    resolve_datasets,
    validate_records,
)
from mtl_d2.evaluation import InstanceEvaluator, KeypointEvaluator, PanopticEvaluator, SemSegEvaluator
from mtl_d2.evaluation.edge_ground_truth import ground_truth_edges
from mtl_d2.testing import tiny_cfg
from mtl_d2.visualization import read_labels
from tests.data.toy_coco import H, W, box_mask, save, write_toy_coco

ODD = "Straße 1 ä.png"
SEMANTIC = {"folder": "semantic", "classes": ["sky", "cat", "dog"], "stuff": ["sky"]}
COCO = {"images": "images", "instances": "instances.json"}


@pytest.fixture(autouse=True)
def _catalog_as_before():
    before = set(DatasetCatalog.list())
    yield
    for name in set(DatasetCatalog.list()) - before:
        DatasetCatalog.pop(name)
        MetadataCatalog.pop(name, None)


@pytest.fixture
def toy(tmp_path):
    """a.jpg with all labels, sub/b.jpg without an object or a semantic PNG, ODD that the json does not list."""
    write_toy_coco(tmp_path)
    (tmp_path / "semantic" / "sub" / "b.png").unlink()
    Image.new("RGB", (W, H)).save(tmp_path / "images" / ODD)
    Image.fromarray(box_mask()).save(tmp_path / "semantic" / ODD)
    return tmp_path


def describe(folder: Path, stem: str = "toy", /, **keys) -> Path:
    path = folder / f"{stem}.yaml"
    path.write_text(yaml.safe_dump({**COCO, **keys}))
    return path


def records_of(path: Path) -> dict[str, dict]:
    name = register_description(path)
    records = DatasetCatalog.get(name)
    validate_records(records, DatasetSchema.from_metadata(MetadataCatalog.get(name)), check_files=True, name=name)
    return {record["file_name"].rpartition("/images/")[2]: record for record in records}


def labels(record: dict) -> set[str]:
    return set(record) - {"file_name", "height", "width", "image_id"}


def test_an_image_has_the_labels_that_are_there(toy):
    path = describe(toy, split="all", semantic=SEMANTIC, edges={"derive": "union"})
    found = records_of(path)
    assert {name: labels(record) for name, record in found.items()} == {
        "a.jpg": {"annotations", "sem_seg_file_name", "edge_source"},
        "sub/b.jpg": {"annotations"},
        ODD: {"sem_seg_file_name"},
    }
    assert found["sub/b.jpg"]["annotations"] == [] and len(found["a.jpg"]["annotations"]) == 3
    assert (found["a.jpg"]["image_id"], found[ODD]["image_id"]) == (5, ODD)
    assert (found[ODD]["height"], found[ODD]["width"]) == (H, W)


def test_the_images_are_those_of_the_split_the_json_or_the_folder(toy):
    assert set(records_of(describe(toy, "of_json"))) == {"a.jpg", "sub/b.jpg"}
    (toy / "split.txt").write_text(f"{ODD}\r\n\nsub/b.jpg\n", encoding="utf-8-sig")
    assert list(records_of(describe(toy, "of_split", split="split.txt"))) == [ODD, "sub/b.jpg"]
    (toy / "images" / "._a.jpg").write_bytes(b"no image")
    (toy / "images" / "notes.txt").write_text("no image")
    (toy / "images" / "sub" / "again").symlink_to(toy / "images")
    (toy / "far").mkdir()
    (toy / "images" / "a.jpg").rename(toy / "far" / "c.jpg")
    (toy / "images" / "linked").symlink_to(toy / "far")
    folder = records_of(describe(toy, "of_folder", instances=None, semantic=SEMANTIC))
    assert list(folder) == [ODD, "linked/c.jpg", "sub/b.jpg"]


@pytest.mark.parametrize("to_images", ["{images}", "../images", "./sub/.."])
def test_labels_are_found_however_the_files_lead_to_the_image(toy, to_images):
    """An absolute name, joined with a label folder, is the image itself: its bright pixels would be edges."""
    (toy / "edges").mkdir()
    Image.fromarray(box_mask() * 255).save(toy / "edges" / ODD)
    (toy / "split.txt").write_text(f"a.jpg\n{ODD}\n")
    (toy / "labels.json").write_text(json.dumps({"a.jpg": ["in"], ODD: []}))
    keys = {
        "split": "split.txt",
        "semantic": SEMANTIC,
        "edges": {"folder": "edges"},
        "image_labels": {"file": "labels.json", "classes": ["in"]},
    }
    plain = records_of(describe(toy, "plain", **keys))
    assert {name: labels(record) for name, record in plain.items()} == {
        "a.jpg": {"annotations", "sem_seg_file_name", "image_labels"},
        ODD: {"sem_seg_file_name", "edge_file_name", "image_labels"},
    }
    prefix = to_images.format(images=toy / "images")
    content = json.loads((toy / "instances.json").read_text())
    for image in content["images"]:
        image["file_name"] = f"{prefix}/{image['file_name']}"
    save(toy, content)
    (toy / "split.txt").write_text(f"{prefix}/a.jpg\n{prefix}/{ODD}\n")
    (toy / "labels.json").write_text(json.dumps({f"{prefix}/a.jpg": ["in"], f"{prefix}/{ODD}": []}))
    assert records_of(describe(toy, "round_about", **keys)) == plain


def test_edges_by_folder_and_derived_only_where_all_masks_are_there(toy, caplog):
    (toy / "edges").mkdir()
    Image.fromarray(box_mask() * 255).save(toy / "edges" / "a.png")
    found = records_of(describe(toy, "by_folder", edges={"folder": "edges"}))
    assert found["a.jpg"]["edge_file_name"] == str(toy / "edges" / "a.png") and "edge_source" not in found["a.jpg"]
    assert "edge_file_name" not in found["sub/b.jpg"]

    content = json.loads((toy / "instances.json").read_text())
    del content["annotations"][0]["segmentation"]
    save(toy, content)
    caplog.set_level(logging.WARNING, "mtl_d2")
    logging.getLogger("mtl_d2").propagate = True
    found = records_of(describe(toy, "derived", edges={"derive": "instance"}))
    assert "edge_source" not in found["a.jpg"] and found["sub/b.jpg"]["edge_source"] == "instance"
    assert "dataset 'derived': 1 images have annotations without a mask" in caplog.text


def test_keypoints_and_image_labels_are_in_records_and_metadata(toy):
    content = json.loads((toy / "instances.json").read_text())
    content["annotations"][0]["keypoints"] = [1, 2, 2, 0, 0, 0]
    save(toy, content)
    (toy / "labels.json").write_text(json.dumps({"a.jpg": ["out", "in"], "sub/b.jpg": [], "of_val.jpg": ["in"]}))
    keys = {"keypoints": {"names": ["l", "r"], "flip_pairs": [["l", "r"]]}}
    found = records_of(
        describe(toy, "k", split="all", image_labels={"file": "labels.json", "classes": ["in", "out"]}, **keys)
    )
    assert found["a.jpg"]["annotations"][0]["keypoints"] == [1.5, 2.5, 2, 0.5, 0.5, 0]
    assert found["a.jpg"]["image_labels"] == [0, 1] and found["sub/b.jpg"]["image_labels"] == []
    assert "image_labels" not in found[ODD]
    assert MetadataCatalog.get("k").keypoint_names == ["l", "r"]
    assert "keypoints" not in records_of(describe(toy, "without"))["a.jpg"]["annotations"][0]
    with pytest.raises(DatasetError, match=r"instances.json: 'keypoints' .* image 5: found 6 numbers, expected"):
        records_of(describe(toy, "wrong", keypoints={"names": ["l", "r", "nose"]}))


def test_a_call_is_the_same_as_a_file(toy, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(toy.parent))
    keys = {"images": f"{toy.name}/images", "instances": f"{toy.name}/instances.json"}
    assert register_multitask_dataset("toy_call", **keys) == "toy_call"
    by_file = records_of(describe(toy, images="${DETECTRON2_DATASETS}/" + f"{toy.name}/images"))
    assert DatasetCatalog.get("toy_call") == list(by_file.values())


def test_registering_reads_nothing_and_classes_come_with_the_records(toy):
    content = (toy / "instances.json").read_text()
    (toy / "instances.json").unlink()
    path = describe(toy)
    name = register_description(path)
    assert MetadataCatalog.get(name).get("thing_classes") is None
    with pytest.raises(DatasetError, match=f"dataset 'toy': {toy}/instances.json does not exist; correct {path}"):
        get_records([name])
    (toy / "instances.json").write_text(content)
    assert len(get_records([name])) == 2
    assert MetadataCatalog.get(name).thing_classes == ["cat", "dog"]
    assert MetadataCatalog.get(name).thing_dataset_id_to_contiguous_id == {3: 0, 7: 1}


def test_one_name_for_two_contents_is_refused_and_for_one_content_is_fine(toy):
    path = describe(toy)
    assert register_description(path) == register_description(path) == "toy"
    other = describe(toy, "other", name="toy", max_dets=5)
    with pytest.raises(DatasetError, match=f"{other}: 'name': found 'toy', which {path} has too, with other content"):
        register_description(other)
    assert register_description(other, replace=True) == "toy" and MetadataCatalog.get("toy").max_dets == 5
    with pytest.raises(DatasetError, match="'name': found 'shapes_train', which another dataset has too"):
        register_description(describe(toy, "third", name="shapes_train"))


def test_a_config_names_descriptions_by_path(toy):
    path = describe(toy)
    cfg = tiny_cfg()
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (str(path), "shapes_train"), (str(path),)
    cfg.freeze()
    resolve_datasets(cfg)
    assert cfg.is_frozen() and cfg.DATASETS.TRAIN == ("toy", "shapes_train") and cfg.DATASETS.TEST == ("toy",)


MAPPED = {
    "semantic": {**SEMANTIC, "run_classes": ["ground", "animal", "sky"], "stuff": ["ground", "sky"]},
    "thing_classes": ["dog", "cat"],
    "class_map": {"things": {"cat": None}, "semantic": {"cat": "animal", "dog": None}},
}


def test_dropped_things_are_regions_that_count_neither_way(toy):
    dropped, kept, crowd = records_of(describe(toy, **MAPPED))["a.jpg"]["annotations"]
    assert dropped["iscrowd"] == 1 and dropped["class_agnostic"]
    assert (kept["category_id"], kept["iscrowd"], "class_agnostic" in kept) == (0, 0, False)
    assert (crowd["category_id"], crowd["iscrowd"]) == (0, 1)
    assert MetadataCatalog.get("toy").thing_classes == ["dog", "cat"]


def test_all_readers_see_the_ids_of_the_run(toy):
    pixels = np.zeros((H, W), np.uint8)  # sky
    pixels[2:8, 3:13], pixels[10:15, 3:13], pixels[:, 20:] = 1, 2, 255  # cat, dog, void
    Image.fromarray(pixels).save(toy / "semantic" / "a.png")
    expected = np.full((H, W), 2)
    expected[2:8, 3:13], expected[10:15, 3:13], expected[:, 20:] = 1, 255, 255
    record = records_of(describe(toy, edges={"derive": "semantic"}, **MAPPED))["a.jpg"]

    mapper = MultiTaskDatasetMapper(
        True, tasks=["instance", "sem_seg", "edge"], augmentations=[], image_format="BGR", num_sem_classes=3
    )
    sample = mapper(record)
    np.testing.assert_array_equal(sample["sem_seg"].numpy(), expected)
    assert "sem_seg_id_map" not in sample
    assert (sample["edge"].numpy()[10:15, 3:13] == 255).all() and (sample["edge"].numpy()[2:8, 3:13] == 1).any()
    np.testing.assert_array_equal(read_labels(record)["sem_seg"], expected)
    edges = ground_truth_edges(record)
    assert (edges[11:14, 4:12] == 255).all() and (edges[2:8, 3:13] == 1).any()

    evaluator = SemSegEvaluator("toy")
    logits = torch.nn.functional.one_hot(torch.from_numpy(np.where(expected == 255, 0, expected)), 3).permute(2, 0, 1)
    evaluator.process([record], [{"sem_seg": logits.float()}])
    assert evaluator.evaluate()["sem_seg"]["pACC"] == 100.0
    panoptic = PanopticEvaluator("toy")._true_map(record)
    assert {segment.class_index for segment in panoptic.segments} >= {2, 3}


@pytest.mark.parametrize("classes", [{}, {"thing_classes": ["cat", "dog"]}])
def test_an_evaluator_may_be_the_first_to_load_a_dataset(toy, classes):
    keys = {"semantic": SEMANTIC, "keypoints": {"names": ["tip"], "flip_pairs": []}, **classes}
    dog = Instances((H, W), pred_boxes=Boxes([[3, 2, 13, 8]]), scores=torch.ones(1), pred_classes=torch.tensor([1]))
    dog.pred_keypoints = torch.tensor([[[4.0, 4, 1]]])
    for kind, build in (("instances", InstanceEvaluator), ("keypoints", partial(KeypointEvaluator, sigmas=[0.1]))):
        evaluator = build(register_description(describe(toy, kind, **keys)), output_dir=str(toy))
        evaluator.process([{"image_id": 5}], [{"instances": dog}])
        assert all("AP-dog" in figures for figures in evaluator.evaluate().values())
        (written,) = json.loads((toy / f"coco_{kind}_results.json").read_text())
        assert written["category_id"] == 7  # the json's, not the run's
    panoptic = PanopticEvaluator(register_description(describe(toy, "panoptic", **keys)))
    assert "PQ-dog" in panoptic.evaluate()["panoptic_seg"]


def test_preflight_takes_datasets_that_name_the_same_classes_through_their_maps(toy):
    content = json.loads((toy / "instances.json").read_text())
    for category, name in zip(content["categories"], ("hound", "kitty"), strict=True):
        category["name"] = name
    (toy / "renamed.json").write_text(json.dumps(content))
    semantic = {**SEMANTIC, "classes": ["dog", "air", "kitty"], "run_classes": ["sky", "cat", "dog"]}
    renamed = {
        "instances": "renamed.json",
        "thing_classes": ["cat", "dog"],
        "semantic": semantic,
        "class_map": {"things": {"hound": "dog", "kitty": "cat"}, "semantic": {"air": "sky", "kitty": "cat"}},
    }
    paths = [describe(toy, "plain", semantic=SEMANTIC), describe(toy, "renamed", **renamed)]
    cfg = tiny_cfg(["instance", "sem_seg"])
    cfg.MODEL.ROI_HEADS.NUM_CLASSES, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 2, 3
    cfg.DATASETS.TRAIN = tuple(map(str, paths))
    resolve_datasets(cfg)
    counts = {"images": 2, "instance": 2, "sem_seg": 1}
    assert preflight(cfg) == {"plain": counts, "renamed": counts}
    plain, other = (get_records([name])[0] for name in ("plain", "renamed"))
    assert [a["category_id"] for a in plain["annotations"]] == [a["category_id"] for a in other["annotations"]]
    assert len(get_records(["plain", "renamed"], tasks=["instance"])) == 4


@pytest.mark.parametrize(
    ("keys", "spoil", "message"),
    [
        (
            {"split": "s.txt"},
            lambda d: (d / "s.txt").write_text("../x.png"),
            "s.txt: found '../x.png', expected a file",
        ),
        ({"split": "s.txt"}, lambda d: (d / "s.txt").write_text("/etc/hostname"), "s.txt: found '/etc/hostname', exp"),
        (
            {"split": "s.txt"},
            lambda d: (d / "s.txt").write_text("no.png"),
            "images/no.png cannot be read as an image .it",
        ),
        ({"split": "s.txt"}, lambda d: (d / "s.txt").write_text("a.jpg\na.jpg"), "s.txt: found 'a.jpg' twice"),
        ({"split": "s.txt"}, lambda d: (d / "s.txt").write_text("\n"), "toy.yaml: found no image in .*s.txt"),
        ({"split": "s.txt"}, lambda d: (d / "s.txt").write_bytes(b"\xff"), "s.txt: cannot be read .*UTF-8"),
        ({"split": "s.txt"}, lambda d: (d / "s.txt").write_text(ODD), "instances.json: lists none of the 1 images"),
        ({"split": "s.txt"}, lambda d: None, "dataset 'toy': .*s.txt does not exist; correct .*toy.yaml"),
        (
            {"semantic": {**SEMANTIC, "folder": "images"}},
            lambda d: None,
            "'semantic.folder': found a label of none of the 2 images in .*images, expected .*images/a.png",
        ),
        (
            {"image_labels": {"file": "l.json", "classes": ["in"]}},
            lambda d: (d / "l.json").write_text('{"a.jpg": ["inn"]}'),
            "l.json: 'a.jpg': found 'inn', expected one of in; did you mean 'in'?",
        ),
        (
            {"image_labels": {"file": "l.json", "classes": ["in"]}},
            lambda d: (d / "l.json").write_text('{"b.jpg": ["in"]}'),
            "l.json: lists none of the 2 images, expected names such as 'a.jpg'",
        ),
        (
            {"image_labels": {"file": "l.json", "classes": ["in"]}},
            lambda d: (d / "l.json").write_text("[]"),
            "l.json: found a list, expected {image name",
        ),
    ],
)
def test_files_that_contradict_the_description_are_named(toy, keys, spoil, message):
    spoil(toy)
    with pytest.raises(DatasetError, match=message):
        records_of(describe(toy, **keys))
