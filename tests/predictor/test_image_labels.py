"""Image labels in every way of predicting, and in the files that are written."""

import json

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.catalog import Metadata
from detectron2.modeling import build_model

from mtl_d2 import Predictor
from mtl_d2.data import build_multitask_test_loader
from mtl_d2.predictor.pictures import find_metadata
from mtl_d2.predictor.raw_results import RawResults
from mtl_d2.testing import tiny_cfg

from .conftest import LEVELS, LOCAL

TASKS = ("edge", "classification")


@pytest.fixture(scope="module")
def own_cfg(dataset):
    return tiny_cfg(TASKS, dataset, **LOCAL, **{"MODEL.MTL.CLASSIFICATION_HEAD.IN_FEATURES": LEVELS})


@pytest.fixture(scope="module")
def own_weights(own_cfg, tmp_path_factory):
    torch.manual_seed(0)
    model = build_model(own_cfg)
    torch.nn.init.normal_(model.classification_head.predictor.weight)  # so that images differ
    path = tmp_path_factory.mktemp("weights") / "model.pth"
    torch.save({"model": model.state_dict()}, path)
    return path


@pytest.fixture(scope="module")
def files(dataset):
    return [record["file_name"] for record in DatasetCatalog.get(dataset)]


def test_an_answer_is_that_of_evaluation(own_cfg, own_weights, dataset, files):
    predictor = Predictor(own_cfg, own_weights)
    for (batch,), file in zip(build_multitask_test_loader(own_cfg, dataset), files, strict=True):
        (expected,) = predictor.model([batch])
        assert torch.equal(predictor(file)["image_labels"], expected["image_labels"])
    assert set(predictor(files[0], tasks=("classification",))) == {"image_labels"}


def test_views_are_averaged_class_by_class(own_cfg, own_weights, files):
    predictor = Predictor(own_cfg, own_weights, tta=(1.0,))
    network = Predictor(own_cfg, own_weights)
    image = network.read(files[1])
    views = [network(view)["image_labels"] for view in (image, np.ascontiguousarray(image[:, ::-1]))]
    assert not torch.allclose(views[0], views[0].flip(0))  # a mirrored list of classes would be noticed
    found = predictor(image)["image_labels"]
    torch.testing.assert_close(found, (views[0] + views[1]) / 2, rtol=1e-4, atol=1e-5)


def test_of_tiles_the_largest_probability_stays(own_cfg, own_weights, files):
    cfg = own_cfg.clone()
    cfg.INPUT.MIN_SIZE_TEST = 0  # tiles are seen as they are
    whole = Predictor(cfg, own_weights)
    image = whole.read(files[0])
    assert image.shape[:2] == (64, 96)
    tiled = Predictor(cfg, own_weights, tile=64, tile_overlap=32)(image)
    parts = [whole(np.ascontiguousarray(image[:, left : left + 64]))["image_labels"] for left in (0, 32)]
    torch.testing.assert_close(tiled["image_labels"], torch.maximum(*parts), rtol=1e-4, atol=1e-5)
    assert tiled["edge"].shape == (64, 96)


def test_names_are_those_of_what_the_labels_are_made_from(own_cfg, dataset):
    cfg = own_cfg.clone()
    assert find_metadata(cfg).image_label_classes == MetadataCatalog.get(dataset).image_label_classes
    cfg.INPUT.MTL.IMAGE_LABELS, cfg.MODEL.MTL.CLASSIFICATION_HEAD.NUM_CLASSES = "sem_seg", 4
    assert list(find_metadata(cfg).image_label_classes) == list(MetadataCatalog.get(dataset).stuff_classes)
    cfg.MODEL.MTL.CLASSIFICATION_HEAD.NUM_CLASSES = 3
    assert find_metadata(cfg).image_label_classes == ["class 0", "class 1", "class 2"]


def test_raw_results_name_the_classes(tmp_path):
    raw = RawResults(tmp_path, Metadata().set(image_label_classes=["in", "out"]))
    raw.write("a", "a.jpg", (4, 4), {"image_labels": torch.tensor([0.25, 0.75])})
    raw.write("b", "b.jpg", (4, 4), {"edge": torch.zeros(4, 4)})
    raw.close()
    found = json.loads((tmp_path / "image_labels.json").read_text())
    assert found == [{"image_id": 1, "scores": {"in": 0.25, "out": 0.75}}]
    assert not (tmp_path / "instances.json").exists()
