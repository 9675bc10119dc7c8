"""From images of any kind to what evaluation would say of them."""

import logging

import cv2
import numpy as np
import pytest
import torch
import yaml
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import build_model

from mtl_d2 import Predictor
from mtl_d2.data import BrokenSampleError, build_multitask_test_loader
from mtl_d2.testing import TOY_STUFF_CLASSES, tiny_cfg

from .conftest import LOCAL, RADIUS

KEYS = {"instances", "sem_seg", "edge", "panoptic_seg"}


@pytest.fixture(scope="module")
def predictor(cfg, weights):
    return Predictor(cfg, weights)


@pytest.fixture(scope="module")
def files(dataset):
    return [record["file_name"] for record in DatasetCatalog.get(dataset)]


def assert_same_answer(found, expected, atol=0.0):
    assert found.keys() == expected.keys()
    for key in expected.keys() & {"sem_seg", "edge"}:
        assert found[key].device.type == "cpu"
        torch.testing.assert_close(found[key], expected[key], rtol=0, atol=atol)
    if "instances" in expected:
        torch.testing.assert_close(found["instances"].scores, expected["instances"].scores, rtol=0, atol=atol)
        assert torch.equal(found["instances"].pred_masks, expected["instances"].pred_masks)
    if "panoptic_seg" in expected:
        assert torch.equal(found["panoptic_seg"][0], expected["panoptic_seg"][0])
        assert found["panoptic_seg"][1] == expected["panoptic_seg"][1]


@pytest.mark.parametrize("resize", [{}, {"INPUT.MTL.SCALE_TEST": 0.7}, {"INPUT.MIN_SIZE_TEST": 0}], ids=str)
def test_a_files_answer_is_that_of_evaluation(cfg, dataset, weights, resize, files):
    cfg = cfg.clone()
    cfg.merge_from_list([part for pair in resize.items() for part in pair])
    predictor = Predictor(cfg, weights)
    answers = predictor(files)
    for (batch,), found in zip(build_multitask_test_loader(cfg, dataset), answers, strict=True):
        (expected,) = predictor.model([batch])
        assert set(found) == KEYS
        assert found["sem_seg"].shape[1:] == (batch["height"], batch["width"])
        assert_same_answer(found, expected)


def test_arrays_are_bgr_and_equal_their_files(predictor, files):
    array = cv2.imread(files[1])
    assert_same_answer(predictor(array), predictor(files[1]))
    assert_same_answer(predictor([array[..., 0]])[0], predictor(np.repeat(array[..., :1], 3, axis=2)))


def test_rgb_networks_get_rgb(cfg, weights, files):
    cfg = cfg.clone()
    cfg.INPUT.FORMAT = "RGB"
    predictor = Predictor(cfg, weights)
    assert_same_answer(predictor(cv2.imread(files[1])), predictor(files[1]))


def test_answers_do_not_depend_on_the_other_images(cfg, weights, predictor, files):
    batched = Predictor(cfg, weights, batch_size=3)([*files, files[0]])
    for found, file in zip(batched, [*files, files[0]], strict=True):
        expected = predictor(file)
        torch.testing.assert_close(found["sem_seg"], expected["sem_seg"], rtol=0, atol=1e-3)
        torch.testing.assert_close(found["edge"], expected["edge"], rtol=0, atol=1e-4)


def test_images_are_read_as_they_are_needed(predictor, files):
    answers = predictor.iterate(iter([files[0], "missing.png"]))
    assert set(next(answers)) == KEYS
    with pytest.raises(BrokenSampleError, match=r"missing\.png: cannot be read \(it does not exist\)"):
        next(answers)


def test_no_images_no_answers(predictor):
    assert predictor([]) == [] and predictor(iter(())) == []


def test_tasks_are_chosen_per_call(predictor, files):
    assert set(predictor(files[1], tasks=["edge"])) == {"edge"}
    assert set(predictor(files[1], tasks=("instance", "sem_seg"))) == {"instances", "sem_seg", "panoptic_seg"}
    with pytest.raises(
        ValueError, match=r"'depth' is not part of this network: it has \['edge', 'instance', 'sem_seg'\]"
    ):
        predictor(files[1], tasks=["depth"])


class TestWeightsWithoutAHead:
    @pytest.fixture(scope="class")
    def two_tasks(self, tmp_path_factory):
        path = tmp_path_factory.mktemp("weights") / "two.pth"
        model = build_model(tiny_cfg(("instance", "sem_seg"), **LOCAL))
        torch.save({"model": model.state_dict()}, path)
        return path

    def test_the_task_is_named(self, cfg, two_tasks):
        with pytest.raises(ValueError, match=r"two\.pth has no weights that fit the task 'edge' \(.*'edge_head\."):
            Predictor(cfg, two_tasks)

    def test_other_tasks_are_answered_and_no_more(self, cfg, two_tasks, files):
        predictor = Predictor(cfg, two_tasks, tasks=("instance", "sem_seg"))
        assert set(predictor(files[1])) == KEYS - {"edge"}
        with pytest.raises(ValueError, match=r"tasks \['edge'\]: expected some of \['instance', 'sem_seg'\]"):
            predictor(files[1], tasks=["edge"])

    def test_a_head_of_another_size_is_no_head(self, cfg, weights):
        cfg = cfg.clone()
        cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 7
        with pytest.raises(ValueError, match="no weights that fit the task 'sem_seg'"):
            Predictor(cfg, weights)


def test_a_dataset_that_nobody_knows_is_told_and_a_task_that_has_no_tiles_is_refused(cfg, weights, monkeypatch, caplog):
    own = cfg.clone()
    own.DATASETS.TEST = ("pets_val",)
    Predictor(own, weights)
    assert "DATASETS.TEST: class names and what is stuff may be unknown: no dataset 'pets_val'" in caplog.text
    monkeypatch.setattr("mtl_d2.tasks.edge.EdgeBranch.output_key", "depth")
    with pytest.raises(ValueError, match=r"tile: the answers to \['edge'\] are not put together from tiles"):
        Predictor(cfg, weights, tile=48, tasks=["edge"])


def test_no_weights_at_all(cfg):
    with pytest.raises(ValueError, match="there are no weights"):
        Predictor(cfg)


def test_a_config_file_does_as_well(cfg, weights, tmp_path, files, predictor):
    (tmp_path / "config.yaml").write_text(cfg.dump())
    assert_same_answer(
        Predictor(tmp_path / "config.yaml", weights, tasks=["edge"])(files[1]), predictor(files[1], ["edge"])
    )


class TestTiles:
    @pytest.fixture(scope="class")
    def image(self):
        """Smooth noise, so that the random network has something to say."""
        noise = np.random.default_rng(0).integers(0, 256, (60, 52, 3), dtype=np.uint8)
        return cv2.resize(noise, (420, 483), interpolation=cv2.INTER_CUBIC)

    @pytest.fixture(scope="class")
    def native(self, cfg):
        cfg = cfg.clone()
        cfg.INPUT.MTL.SCALE_TEST = 1.0
        return cfg

    def test_dense_answers_equal_those_of_the_whole(self, native, weights, image):
        tasks = ("sem_seg", "edge")
        whole = Predictor(native, weights, tasks=tasks)(image)
        tiled = Predictor(native, weights, tasks=tasks, tile=320, tile_overlap=4 * RADIUS, batch_size=2)(image)
        assert whole["sem_seg"].std() > 10 * 1e-3 and tiled["sem_seg"].shape == whole["sem_seg"].shape
        torch.testing.assert_close(tiled["sem_seg"], whole["sem_seg"], rtol=0, atol=1e-5)
        torch.testing.assert_close(tiled["edge"], whole["edge"], rtol=0, atol=1e-5)

    def test_tiles_are_resized_as_the_config_says(self, native, weights, image):
        native = native.clone()
        native.INPUT.MTL.SCALE_TEST = 0.5
        image = image[:480]  # so that the whole has the scale 1/2 exactly, too
        whole = Predictor(native, weights, tasks=["edge"])(image)
        tiled = Predictor(native, weights, tile=384, tile_overlap=192)
        assert (tiled.tiling.cell, tiled.tiling.stride) == (8, 4)
        difference = (tiled(image, ["edge"])["edge"] - whole["edge"]).abs()
        # Pixels beside a tile's border are resized without those beyond it.
        assert difference.mean() < 1e-3 < whole["edge"].std()

    def test_small_images_are_not_cut(self, cfg, weights, predictor, files):
        assert_same_answer(Predictor(cfg, weights, tile=128)(files[1]), predictor(files[1]))

    def test_above_the_limit_answers_are_compact_and_whole_images_refused(self, native, weights, image):
        tiled = Predictor(native, weights, tile=256, memory_limit=1)(image)
        assert tiled["sem_seg"].dtype == torch.uint8 and tiled["sem_seg"].shape == image.shape[:2]
        assert len(tiled["instances"]) == len(tiled["instances"].pred_box_masks) > 0
        assert tiled["panoptic_seg"][0].shape == image.shape[:2] and tiled["panoptic_seg"][1]
        # 483 x 420 pixels of 4 x 4 (logits) + 10 (masks) + 4 (edges) + 4 (panoptic map) bytes
        fits = Predictor(native, weights, memory_limit=483 * 420 * 34)
        assert set(fits(image)) == KEYS
        fits.memory_limit -= 1
        with pytest.raises(MemoryError, match=r"483 x 420 pixels .* needs .* GiB .*: predict in tiles"):
            fits(image)

    def test_panoptic_maps_of_both_forms_agree(self, native, weights, image):
        full = Predictor(native, weights, tile=256, tasks=("instance", "sem_seg"))(image)
        compact = Predictor(native, weights, tile=256, tasks=("instance", "sem_seg"), memory_limit=1)(image)
        assert torch.equal(full["panoptic_seg"][0], compact["panoptic_seg"][0])
        assert full["panoptic_seg"][1] == compact["panoptic_seg"][1]


class TestAugmentation:
    @pytest.fixture(scope="class")
    def augmented(self, cfg, weights):
        return Predictor(cfg, weights, tta=(0.75, 1.0))

    def test_a_mirrored_image_has_mirrored_answers(self, augmented, files):
        image = cv2.imread(files[1])
        answer, mirrored = augmented([image, np.ascontiguousarray(image[:, ::-1])])
        assert set(answer) == KEYS
        torch.testing.assert_close(mirrored["edge"].flip(-1), answer["edge"], rtol=0, atol=1e-4)
        torch.testing.assert_close(mirrored["sem_seg"].flip(-1), answer["sem_seg"], rtol=0, atol=1e-3)

    def test_dense_answers_are_mean_probabilities(self, cfg, weights, augmented, predictor, files):
        plain = Predictor(cfg, weights, tta=[1])(files[1], ["sem_seg"])["sem_seg"].exp()
        torch.testing.assert_close(plain.sum(0), torch.ones_like(plain[0]), rtol=0, atol=1e-5)
        image = cv2.imread(files[1])
        upright = predictor(image)["sem_seg"].softmax(0)
        mirrored = predictor(np.ascontiguousarray(image[:, ::-1]))["sem_seg"].softmax(0).flip(-1)
        torch.testing.assert_close(plain, (upright + mirrored) / 2, rtol=0, atol=0.02)

    def test_every_scale_counts_the_same(self, cfg, weights, augmented, files):
        found = augmented(files[1], ["edge"])["edge"]
        each = [Predictor(cfg, weights, tta=[scale])(files[1], ["edge"])["edge"] for scale in (0.75, 1.0)]
        torch.testing.assert_close(found, sum(each) / 2, rtol=0, atol=1e-5)

    def test_instances_are_those_of_all_views(self, augmented, files):
        instances = augmented(files[1])["instances"]
        assert 0 < len(instances) <= 10
        assert instances.pred_masks.shape[1:] == instances.image_size
        assert instances.pred_boxes.tensor.min() >= 0

    def test_an_image_that_fails_leaves_the_next_ones_answer_as_it_was(self, augmented, files, monkeypatch):
        expected = augmented(files[1])

        def fail(*_):
            raise RuntimeError("out of memory")

        with monkeypatch.context() as patch:
            patch.setattr(augmented.tta.detector, "_get_augmented_boxes", fail)
            with pytest.raises(RuntimeError, match="out of memory"):
                augmented(files[1])
        assert_same_answer(augmented(files[1]), expected)

    def test_tiles_may_be_augmented(self, cfg, weights, files):
        answer = Predictor(cfg, weights, tile=48, tta=True)(files[0])
        assert answer["sem_seg"].shape[1:] == cv2.imread(files[0]).shape[:2] and set(answer) == KEYS


class TestDatasetsNamedByDescriptions:
    @pytest.fixture
    def description(self, tmp_path):
        semantic = {"folder": "semantic", "classes": list(TOY_STUFF_CLASSES), "stuff": list(TOY_STUFF_CLASSES[2:])}
        path = tmp_path / "described_for_predictor.yaml"
        path.write_text(yaml.safe_dump({"images": "images", "semantic": semantic}))
        before = set(DatasetCatalog.list())
        yield str(path)
        for name in set(DatasetCatalog.list()) - before:
            DatasetCatalog.remove(name)
            MetadataCatalog.pop(name, None)

    @pytest.mark.parametrize("ending", ["", ".fold0of3"])
    @pytest.mark.parametrize("key", ["TRAIN", "TEST"])
    def test_panoptic_maps_have_the_stuff_that_they_say(self, cfg, weights, description, key, ending):
        cfg = cfg.clone()
        cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = ()
        cfg.DATASETS[key] = (description + ending,)
        predictor = Predictor(cfg, weights)
        assert predictor.model.panoptic.stuff_ids == (2, 3)
        assert predictor.cfg.DATASETS[key] == (f"described_for_predictor{ending}",)
        assert cfg.DATASETS[key] == (description + ending,)  # the caller's is left as it is

    def test_one_that_is_not_there_is_warned_of(self, cfg, weights, description, files, caplog, monkeypatch):  # noqa: PLR0917
        monkeypatch.setattr(logging.getLogger("mtl_d2"), "propagate", True)
        cfg = cfg.clone()
        cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("gone.yaml",), (description,)
        predictor = Predictor(cfg, weights)
        assert "DATASETS.TRAIN: class names and what is stuff may be unknown: " in caplog.text
        assert "gone.yaml: cannot be read" in caplog.text
        assert predictor.model.panoptic.stuff_ids == (2, 3) and set(predictor(files[1])) == KEYS


def test_a_gpu_that_is_not_there_is_told_with_what_demo_and_predictor_take(cfg, weights, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="no GPU here: add --device cpu .device='cpu' of Predictor. to the command"):
        Predictor(cfg, weights, device="cuda")


def test_impossible_arguments(cfg, weights):
    with pytest.raises(ValueError, match="batch_size=0"):
        Predictor(cfg, weights, batch_size=0)
    with pytest.raises(ValueError, match="tile=64, tile_overlap=40"):
        Predictor(cfg, weights, tile=64, tile_overlap=40)
