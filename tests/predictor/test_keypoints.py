"""Keypoints of the predictor: those of the network, from tiles too; and in the raw results."""

import json

import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.modeling import build_model

from mtl_d2 import Predictor
from mtl_d2.predictor.merge import _surest
from mtl_d2.predictor.raw_results import RawResults
from mtl_d2.predictor.tiled import predict_tiled
from mtl_d2.predictor.tiling import Tiling
from mtl_d2.testing import tiny_cfg

from .blobs import VALUES, _answer
from .conftest import LOCAL


@pytest.fixture(scope="module")
def network(tmp_path_factory, dataset):
    cfg = tiny_cfg(("instance", "keypoint"), dataset, **LOCAL)
    torch.manual_seed(0)
    model = build_model(cfg).eval()
    path = tmp_path_factory.mktemp("weights") / "model.pth"
    torch.save({"model": model.state_dict()}, path)
    return cfg, path


def _corners(tiles):
    """The stand-in's answers, with the upper left and lower right corner of each blob as keypoints."""
    answers = [_answer(tile) for tile in tiles]
    for answer in answers:
        boxes = answer["instances"].pred_boxes.tensor.reshape(-1, 2, 2)
        scores = answer["instances"].scores[:, None, None].expand(-1, 2, 1)
        answer["instances"].pred_keypoints = torch.cat([boxes, scores], dim=2)
    return answers


def test_keypoints_from_tiles_are_in_the_images_pixels():
    image = np.zeros((96, 160, 3), np.uint8)
    image[10:30, 20:50, 0], image[50:80, 70:90, 0], image[60:70, 130:150, 0] = VALUES[0], VALUES[1], VALUES[0]
    answer = predict_tiled(image, _corners, Tiling(64, 32, 16, 16))
    found = answer["instances"]
    assert len(found) == 3 and torch.equal(found.pred_keypoints[..., :2].flatten(1), found.pred_boxes.tensor)
    (empty,) = (predict_tiled(np.zeros((96, 160, 3), np.uint8), _corners, Tiling(64, 32, 16, 16))["instances"],)
    assert empty.pred_keypoints.shape == (0, 2, 3)


def test_of_parts_in_several_tiles_each_keypoint_is_the_surest():
    first = np.array([[1, 1, 0.9], [2, 2, 0.1]])
    second = np.array([[3, 3, 0.5], [4, 4, 0.6]])
    assert _surest([first, second]).tolist() == [[1, 1, 0.9], [4, 4, 0.6]] and _surest([]) is None


def test_predictor_answers_keypoints_and_writes_them(network, tmp_path, dataset):
    cfg, weights = network
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    answer = Predictor(cfg, weights)(image)
    points = answer["instances"].pred_keypoints
    assert len(points) > 0 and points.shape[1:] == (3, 3)
    assert Predictor(cfg, weights, tasks=("keypoint",))(image)["instances"].has("pred_keypoints")
    raw = RawResults(tmp_path, MetadataCatalog.get(dataset))
    raw.write("a", "a.png", (64, 96), answer)
    raw.close()
    written = np.array([found["keypoints"] for found in json.loads((tmp_path / "instances.json").read_text())])
    np.testing.assert_allclose(written.reshape(-1, 3, 3) + [0.5, 0.5, 0], points.numpy(), atol=1e-4)


def test_test_time_augmentation_says_that_it_does_no_keypoints(network):
    cfg, weights = network
    with pytest.raises(ValueError, match="tta: test-time augmentation does not do keypoints: leave it off, or"):
        Predictor(cfg, weights, tta=True)
    Predictor(cfg, weights, tta=True, tasks=("instance",))


def test_weights_without_a_keypoint_head_serve_the_instances_alone(network, tmp_path):
    cfg, weights = network
    state = {k: v for k, v in torch.load(weights, weights_only=True)["model"].items() if "keypoint" not in k}
    torch.save({"model": state}, tmp_path / "model.pth")
    with pytest.raises(ValueError, match="no weights that fit the task 'keypoint'"):
        Predictor(cfg, tmp_path / "model.pth")
    Predictor(cfg, tmp_path / "model.pth", tasks=("instance",))
