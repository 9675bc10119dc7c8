import importlib.util
import json

import numpy as np
import pytest
import yaml

from mtl_d2.data import DatasetError
from mtl_d2.data.converters import convert_dataset
from mtl_d2.data.converters.cityscapes import draw_polygons
from mtl_d2.data.converters.cityscapes_labels import CLASSES, THINGS
from mtl_d2.data.datasets.cityscapes import SCHEMA, load_cityscapes_multitask
from mtl_d2.evaluation.edge_ground_truth import ground_truth_edges
from tests.data.converters.loading import load, photo, read, train_one_step, write_image
from tests.data.test_cityscapes import LABELS

H, W = 48, 64
PNGS, POLYGONS, SEMANTIC = "aachen/aachen_000000_000019", "aachen/aachen_000001_000019", "bochum/bochum_000000_000313"


def instance_ids() -> np.ndarray:
    ids = np.full((H, W), 7, np.uint16)  # road
    ids[:8] = 3  # out of roi
    ids[10:20, 4:16] = 26000
    ids[12:22, 30:44] = 26001
    ids[30:40, 4:24] = 26  # a group of cars
    ids[30:40, 40:52] = 29000  # a caravan, ignored
    ids[16:18, 8:12] = 65535  # a license plate whose -1 was stored in 16 bits
    return ids


def train_ids() -> np.ndarray:
    classes = np.zeros((H, W), np.uint8)
    classes[:8] = 255
    classes[10:20, 4:16] = classes[12:22, 30:44] = classes[30:40, 4:24] = 13
    classes[30:40, 40:52] = 255
    classes[16:18, 8:12] = 255
    return classes


def label_ids() -> np.ndarray:
    ids = instance_ids()
    return np.where(ids == 65535, 255, np.where(ids >= 1000, ids // 1000, ids)).astype(np.uint8)


def box(x0: int, y0: int, x1: int, y1: int) -> list[list[int]]:
    """The polygon that covers columns x0 to x1 and rows y0 to y1, both included."""
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]


def polygons() -> dict:
    objects = [
        {"label": "road", "polygon": box(0, 0, W - 1, H - 1)},
        {"label": "polegroup", "polygon": box(50, 0, 52, 20)},
        {"label": "person", "polygon": box(4, 10, 9, 29)},
        {"label": "person", "polygon": box(8, 10, 14, 29)},
        {"label": "cargroup", "polygon": box(20, 30, 39, 39)},
        {"label": "car", "polygon": box(40, 30, 55, 39)},
        {"label": "license plate", "polygon": box(42, 36, 45, 37)},
        {"label": "bus", "polygon": box(0, 40, 9, 47), "deleted": 1},
        {"label": "skygroup", "polygon": box(0, 0, 9, 4)},
    ]
    return {"imgHeight": H, "imgWidth": W, "objects": objects}


@pytest.fixture
def source(tmp_path):
    """An image with PNGs, one with polygons alone, and one with train ids alone."""
    folder = tmp_path / "cityscapes"
    for name in (PNGS, POLYGONS, SEMANTIC):
        write_image(folder / "leftImg8bit" / "train" / f"{name}_leftImg8bit.png", photo(H, W))
    labels = folder / "gtFine" / "train"
    write_image(labels / f"{PNGS}_gtFine_instanceIds.png", instance_ids())
    write_image(labels / f"{PNGS}_gtFine_labelIds.png", label_ids())
    write_image(labels / f"{SEMANTIC}_gtFine_labelTrainIds.png", train_ids())
    (labels / f"{POLYGONS}_gtFine_polygons.json").write_text(json.dumps(polygons()))
    return folder


def convert(source, output, **options):
    return convert_dataset("cityscapes", source, output, splits=["train"], **options)


def test_the_label_table_is_that_of_the_registered_dataset():
    assert [label.name for label in CLASSES] == list(SCHEMA.stuff_classes)
    assert [label.train_id for label in CLASSES] == list(range(19))
    assert {label.id: i for i, label in enumerate(THINGS)} == SCHEMA.thing_dataset_id_to_contiguous_id


@pytest.mark.parametrize("labels", ["labelIds", "labelTrainIds", "instanceIds"])
def test_semantics_are_train_ids_whatever_they_are_read_from(source, tmp_path, labels):
    folder = source / "gtFine" / "train"
    if labels != "labelIds":
        (folder / f"{PNGS}_gtFine_labelIds.png").unlink()
    if labels == "labelTrainIds":
        write_image(folder / f"{PNGS}_gtFine_labelTrainIds.png", train_ids())
    convert(source, tmp_path / "out")
    assert np.array_equal(read(tmp_path / "out" / "semantic" / "train" / f"{PNGS}_leftImg8bit.png"), train_ids())


def test_objects_groups_and_ignored_labels(source, tmp_path):
    convert(source, tmp_path / "out")
    content = json.loads((tmp_path / "out" / "instances_train.json").read_text())
    names = [image["file_name"] for image in content["images"]]
    assert names == [f"{PNGS}_leftImg8bit.png", f"{POLYGONS}_leftImg8bit.png"]  # train ids alone: no instance label
    first, second = (
        [(a["category_id"], a["iscrowd"], a["bbox"], a["area"]) for a in content["annotations"] if a["image_id"] == i]
        for i in (1, 2)
    )
    assert first == [
        (26, 1, [4, 30, 20, 10], 200),
        (26, 0, [4, 10, 12, 10], 120 - 8),  # the license plate's pixels are nobody's in a PNG that has them
        (26, 0, [30, 12, 14, 10], 140),
    ]
    assert second == [
        (26, 1, [20, 30, 20, 10], 200),
        (24, 0, [4, 10, 4, 20], 80),  # the second person stands before the first
        (24, 0, [8, 10, 7, 20], 140),
        (26, 0, [40, 30, 16, 10], 160),  # with its license plate, which is not drawn
    ]


def test_polygons_are_drawn_as_the_pngs_are(source):
    expected = np.full((H, W), 7)
    expected[0:21, 50:53] = 18  # "polegroup" is a label of its own
    expected[10:30, 4:10] = 24000
    expected[10:30, 8:15] = 24001
    expected[30:40, 20:40] = 26
    expected[30:40, 40:56] = 26000
    expected[0:5, 0:10] = 23
    path = source / "gtFine" / "train" / f"{POLYGONS}_gtFine_polygons.json"
    assert np.array_equal(draw_polygons(path), expected)


def test_it_is_read_back_and_trained_on(source, tmp_path):
    convert(source, tmp_path / "out")
    records = {r["file_name"].rpartition("/")[2]: r for r in load(tmp_path / "out" / "train.yaml")}
    assert len(records) == 3
    semantic = records["bochum_000000_000313_leftImg8bit.png"]
    assert "annotations" not in semantic and "sem_seg_file_name" in semantic
    edges = ground_truth_edges(records["aachen_000000_000019_leftImg8bit.png"])
    assert (edges[32:38, 6:22] == 255).all()  # the group
    assert (edges[12:18, 15] == 1).all()  # between car and road
    losses = train_one_step(tmp_path / "out" / "train.yaml", ("instance", "sem_seg", "edge"))
    assert losses["loss_sem_seg"] > 0
    description = yaml.safe_load((tmp_path / "out" / "train.yaml").read_text())
    assert description["semantic"]["stuff"] == [c for c in SCHEMA.stuff_classes if c not in SCHEMA.thing_classes]
    assert description["thing_classes"] == list(SCHEMA.thing_classes)


def _no_labels(labels):
    (labels / f"{POLYGONS}_gtFine_polygons.json").unlink()


def _unknown_name(labels):
    content = polygons()
    content["objects"][0]["label"] = "dragon"
    (labels / f"{POLYGONS}_gtFine_polygons.json").write_text(json.dumps(content))


def _no_polygons(labels):
    (labels / f"{POLYGONS}_gtFine_polygons.json").write_text("{}")


def _unknown_id(labels):
    write_image(labels / f"{PNGS}_gtFine_labelIds.png", np.full((H, W), 77, np.uint8))


def _unknown_train_id(labels):
    write_image(labels / f"{SEMANTIC}_gtFine_labelTrainIds.png", np.full((H, W), 19, np.uint8))


def _sizes(labels):
    write_image(labels / f"{PNGS}_gtFine_labelIds.png", label_ids().T.copy())


def _colours(labels):
    write_image(labels / f"{PNGS}_gtFine_labelIds.png", photo(H, W))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_no_labels, r"aachen_000001_000019_gtFine_\*: found no labels, expected _instanceIds.png"),
        (_unknown_name, "found the label 'dragon', expected a label of Cityscapes"),
        (_no_polygons, r"polygons.json: KeyError \('imgWidth'\), expected Cityscapes' polygons"),
        (_unknown_id, "labelIds.png: found the label id 77, expected 0 to 33"),
        (_unknown_train_id, "labelTrainIds.png: found the train id 19, expected 0 to 18, or 255"),
        (_sizes, r"instanceIds.png: found 64 x 48 pixels \(width x height\), expected 48 x 64"),
        (_colours, "labelIds.png: found 3 channels, expected one id per pixel"),
    ],
)
def test_wrong_input_is_one_sentence(source, tmp_path, spoil, message):
    spoil(source / "gtFine" / "train")
    with pytest.raises(DatasetError, match=message):
        convert(source, tmp_path / "out")


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"leftImg8bit/train: no such folder, expected the images of a split"):
        convert(tmp_path / "nowhere", tmp_path / "out")


def test_it_equals_what_the_registered_dataset_reads(source, tmp_path, monkeypatch):
    if importlib.util.find_spec("cityscapesscripts") is None:  # Detectron2's loader needs its table of labels alone
        helpers = tmp_path / "stub" / "cityscapesscripts" / "helpers"
        helpers.mkdir(parents=True)
        (helpers / "labels.py").write_text(LABELS)
        monkeypatch.syspath_prepend(str(tmp_path / "stub"))
    folder = source / "gtFine" / "train"
    for name in (POLYGONS, SEMANTIC):
        (source / "leftImg8bit" / "train" / f"{name}_leftImg8bit.png").unlink()
    write_image(folder / f"{PNGS}_gtFine_labelTrainIds.png", train_ids())
    write_image(folder / f"{PNGS}_gtFine_instanceIds.png", np.where(instance_ids() == 65535, 0, instance_ids()))
    (folder / f"{PNGS}_gtFine_polygons.json").write_text(json.dumps(polygons()))
    convert(source, tmp_path / "out")
    (found,) = load(tmp_path / "out" / "train.yaml")
    (expected,) = load_cityscapes_multitask(source / "leftImg8bit" / "train", folder, "toy")
    assert np.array_equal(read(found["sem_seg_file_name"]), read(expected["sem_seg_file_name"]))
    for ours, theirs in zip(found["annotations"], expected["annotations"], strict=True):
        assert (ours["category_id"], ours["iscrowd"]) == (theirs["category_id"], theirs["iscrowd"])
        assert ours["segmentation"]["size"] == list(theirs["segmentation"]["size"])
        assert ours["segmentation"]["counts"] in (theirs["segmentation"]["counts"], _text(theirs))


def _text(annotation: dict) -> str:
    counts = annotation["segmentation"]["counts"]
    return counts.decode() if isinstance(counts, bytes) else counts
