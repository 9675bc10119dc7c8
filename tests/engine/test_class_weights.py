"""Class weights that are counted from the training set."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.utils import comm

from mtl_d2.engine import class_weights as module
from mtl_d2.engine import run
from mtl_d2.engine.class_weights import with_class_weights
from mtl_d2.engine.launch import launch
from mtl_d2.testing import tiny_cfg, toy_dataset

SEMANTIC, REGIONS = "MODEL.MTL.SEM_SEG_HEAD.CLASS_WEIGHTS", "MODEL.MTL.ROI_BOX_HEAD.CLASS_WEIGHTS"


@pytest.fixture(scope="module")
def dataset():
    with toy_dataset(5, seed=1) as name:
        yield name


def config(dataset: str, output_dir: Path, **overrides):
    options = {"OUTPUT_DIR": str(output_dir), "DATASETS.TEST": (), SEMANTIC: "median", REGIONS: "inverse", **overrides}
    cfg = tiny_cfg(overrides.pop("tasks", ("instance", "sem_seg")), dataset, **options)
    cfg.freeze()
    return cfg


def weights(cfg) -> tuple[list[float], list[float]]:
    return cfg.MODEL.MTL.SEM_SEG_HEAD.CLASS_WEIGHTS, cfg.MODEL.MTL.ROI_BOX_HEAD.CLASS_WEIGHTS


def test_words_become_numbers_the_background_weighs_as_much_as_the_mean_object(dataset, tmp_path, caplog):
    cfg = config(dataset, tmp_path)
    with caplog.at_level(logging.INFO, logger="mtl_d2"):
        resolved = with_class_weights(cfg)
    semantic, regions = weights(resolved)
    counts = json.loads((tmp_path / "class_counts.json").read_text())["counts"]
    objects = counts["instance"][0]
    assert objects[0] != objects[1]
    assert len(semantic) == 4 and len(regions) == 3 and sum(regions[:2]) == pytest.approx(2)
    assert regions[0] * objects[0] == pytest.approx(regions[1] * objects[1])
    assert regions[2] == pytest.approx((regions[0] * objects[0] + regions[1] * objects[1]) / sum(objects))
    pixels, _, beside = (np.array(row, float) for row in counts["sem_seg"])
    frequency = pixels / beside  # of a class in the images that have it
    expected = np.median(frequency) / frequency
    assert len({*pixels}) == 4 and semantic == pytest.approx(expected / expected.mean())
    assert "ground" in caplog.text and "background" in caplog.text
    assert weights(cfg) == ("median", "inverse")  # what was asked for stays


def test_effective_numbers_are_of_images_for_pixels_and_of_objects_for_regions(dataset, tmp_path):
    words = {SEMANTIC: "effective", REGIONS: "effective", "MODEL.MTL.CLASS_WEIGHTS_BETA": 0.5}
    semantic, regions = weights(with_class_weights(config(dataset, tmp_path, **words)))
    counts = json.loads((tmp_path / "class_counts.json").read_text())["counts"]
    images, objects = np.array(counts["sem_seg"][1], float), np.array(counts["instance"][0], float)
    for found, n in ((semantic, images), (regions[:2], objects)):
        expected = 0.5 / (1 - 0.5**n)
        assert found == pytest.approx(expected / expected.mean())
    assert objects[0] != objects[1] and len({*images}) > 1


def test_without_a_word_nothing_is_counted(dataset, tmp_path):
    for overrides in ({SEMANTIC: None, REGIONS: None}, {SEMANTIC: [1.0, 1, 1, 2], REGIONS: None}):
        cfg = config(dataset, tmp_path, **overrides)
        assert with_class_weights(cfg) is cfg
    cfg = config(dataset, tmp_path, **{SEMANTIC: None, "MODEL.MTL.TASKS": ["sem_seg"]})
    assert with_class_weights(cfg) is cfg  # the word is of a task that is not trained
    assert not (tmp_path / "class_counts.json").exists()


def test_a_resumed_run_has_the_weights_that_it_began_with(dataset, tmp_path, monkeypatch):
    cfg = config(dataset, tmp_path)
    first = weights(with_class_weights(cfg))
    monkeypatch.setattr(module, "get_records", lambda *_, **__: pytest.fail("counted again"))
    assert weights(with_class_weights(cfg, resume=True)) == first
    with pytest.raises(pytest.fail.Exception):
        with_class_weights(cfg)


def test_counts_that_cannot_be_read_or_are_of_other_datasets_are_counted_anew(dataset, tmp_path):
    cfg = config(dataset, tmp_path)
    expected = weights(with_class_weights(cfg))
    path = tmp_path / "class_counts.json"
    content = json.loads(path.read_text())
    for text in ("{", "[]", json.dumps({**content, "about": {"datasets": ["other"]}, "counts": {}})):
        path.write_text(text)
        assert weights(with_class_weights(cfg, resume=True)) == expected
        assert json.loads(path.read_text()) == content


def test_an_unknown_word_is_named_with_its_key(dataset, tmp_path):
    message = f"{SEMANTIC}: found 'often', expected a number for each class or one of inverse, median, effective"
    with pytest.raises(ValueError, match=message):
        with_class_weights(config(dataset, tmp_path, **{SEMANTIC: "often"}))


def test_a_training_counts_and_an_evaluation_needs_no_counts(dataset, tmp_path):
    cfg = config(dataset, tmp_path, **{"SOLVER.MAX_ITER": 1, REGIONS: "effective"})
    run.train(cfg)
    assert (tmp_path / "class_counts.json").is_file()
    state = torch.load(tmp_path / "model_final.pth", weights_only=True)["model"]
    assert not [key for key in state if "class_weights" in key]
    (tmp_path / "class_counts.json").unlink()
    scored = config(
        dataset, tmp_path, **{"DATASETS.TEST": (dataset,), "MODEL.WEIGHTS": str(tmp_path / "model_final.pth")}
    )
    assert run.evaluate_checkpoint(scored)["sem_seg"]["mIoU"] >= 0


def test_weights_of_one_train_as_none_to_the_bit(dataset, tmp_path):
    states = []
    for name, ones in (("none", (None, None)), ("ones", ([1.0] * 4, [1.0] * 3))):
        torch.manual_seed(0)
        words = dict(zip((SEMANTIC, REGIONS), ones, strict=True))
        run.train(config(dataset, tmp_path / name, **{"SOLVER.MAX_ITER": 2, **words}))
        states.append(torch.load(tmp_path / name / "model_final.pth", weights_only=True)["model"])
    none, ones = states
    assert list(none) == list(ones) and all(torch.equal(none[key], ones[key]) for key in none)


def _resolve(cfg, output_dir: str) -> None:
    resolved = with_class_weights(cfg)
    everyone = comm.all_gather(weights(resolved))
    assert comm.get_world_size() == 2 and everyone[0] == everyone[1]
    if comm.is_main_process():
        (Path(output_dir) / "found.json").write_text(json.dumps(everyone[0]))


def _register_and_resolve(records: list[dict], metadata: dict, cfg, output_dir: str) -> None:
    from detectron2.data import DatasetCatalog, MetadataCatalog

    DatasetCatalog.register(cfg.DATASETS.TRAIN[0], lambda: records)
    MetadataCatalog.get(cfg.DATASETS.TRAIN[0]).set(**metadata)
    _resolve(cfg, output_dir)


@pytest.mark.slow
def test_two_ranks_share_the_counting_and_find_what_one_finds(dataset, tmp_path):
    from detectron2.data import DatasetCatalog, MetadataCatalog

    cfg = config(dataset, tmp_path)
    expected = weights(with_class_weights(cfg))
    metadata = {k: v for k, v in MetadataCatalog.get(dataset).as_dict().items() if k != "name"}
    args = (DatasetCatalog.get(dataset), metadata, cfg, str(tmp_path))
    launch(_register_and_resolve, 2, args=args, device="cpu")
    assert tuple(json.loads((tmp_path / "found.json").read_text())) == expected
