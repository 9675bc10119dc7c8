"""tools/visualize_data.py as a person runs it."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from mtl_d2.data import MultiTaskDatasetMapper, get_records, resolve_datasets
from mtl_d2.data.copy_paste import with_copy_paste
from mtl_d2.data.seeded import SeededDataset
from mtl_d2.engine import setup_cfg
from mtl_d2.testing import toy_dataset
from mtl_d2.visualization.samples import draw_samples
from tests.data.toy_coco import write_toy_coco

ROOT = Path(__file__).parents[2]
CONFIG = str(ROOT / "configs" / "quick" / "shapes.yaml")
# A crop of an odd size: every epoch has another one.
OPTIONS = ["INPUT.CROP.ENABLED", "True", "INPUT.CROP.TYPE", "absolute", "INPUT.CROP.SIZE", "[41, 37]", "SEED", "5"]


@pytest.fixture
def dataset():
    with toy_dataset(3, labels=[("instance", "sem_seg", "edge"), ("sem_seg",), ("instance",)]) as name:
        yield name


@pytest.fixture
def visualize(monkeypatch, tmp_path, dataset):
    def _visualize(*arguments, output=tmp_path / "out", name=dataset):
        words = ["--config-file", CONFIG, "--output", output, "--dataset", name, *arguments]
        monkeypatch.setattr(sys, "argv", ["visualize_data.py", *map(str, words)])
        return runpy.run_path(str(ROOT / "tools" / "visualize_data.py"))["main"]()

    return _visualize


def test_rows_are_the_stored_image_and_the_samples_that_the_training_loader_gives(visualize, dataset, tmp_path):
    assert visualize("--samples", 2, *OPTIONS) == 0
    cfg = setup_cfg(CONFIG, OPTIONS)
    records = DatasetCatalog.get(dataset)
    training = SeededDataset(records, MultiTaskDatasetMapper(cfg, is_train=True), seed=cfg.SEED)
    still = setup_cfg(CONFIG, ["INPUT.RANDOM_FLIP", "none", "INPUT.MIN_SIZE_TRAIN", "(0,)"])
    for index, record in enumerate(records):
        name = Path(record["file_name"]).name
        rows = [
            (f"As stored: {name}", MultiTaskDatasetMapper(still, is_train=True)(record)),
            *((f"Training, epoch {epoch}: {name}", training[epoch, index]) for epoch in range(2)),
        ]
        expected = draw_samples(rows, MetadataCatalog.get(dataset), label_keys=("instances", "sem_seg", "edge"))
        picture = np.asarray(Image.open(tmp_path / "out" / f"{index:06d}_{Path(name).stem}.png"))
        assert picture.shape == expected.shape and (picture == expected).all()


@pytest.fixture
def described(tmp_path):
    """The YAML of a dataset whose only objects lie in an image without semantics, to be pasted into one with them."""
    write_toy_coco(tmp_path)
    (tmp_path / "semantic" / "a.png").unlink()
    semantic = {"folder": "semantic", "classes": ["sky", "cat", "dog"], "stuff": ["sky"]}
    path = tmp_path / "described_for_drawing.yaml"
    path.write_text(yaml.safe_dump({"images": "images", "instances": "instances.json", "semantic": semantic}))
    yield str(path)
    for catalog in (DatasetCatalog, MetadataCatalog):
        if path.stem in catalog.list():
            catalog.remove(path.stem)


@pytest.mark.parametrize("as_option", [True, False])
def test_labels_of_a_dataset_named_by_its_description_mean_what_they_do_in_training(
    monkeypatch, tmp_path, described, as_option
):
    options = ["MODEL.ROI_HEADS.NUM_CLASSES", "2", "MODEL.SEM_SEG_HEAD.NUM_CLASSES", "3", "SEED", "5"]
    options += ["INPUT.MTL.COPY_PASTE.PROB", "1.0", "MODEL.MTL.TASKS", "['instance', 'sem_seg']"]
    options += ["INPUT.RANDOM_FLIP", "none", "INPUT.MIN_SIZE_TRAIN", "(0,)"]
    of_config = [*options, "DATASETS.TRAIN", f"('{described}',)"]
    words = ["--config-file", CONFIG, "--output", tmp_path / "out", "--augment"]
    words += ["--dataset", described, *options] if as_option else of_config
    monkeypatch.setattr(sys, "argv", ["visualize_data.py", *map(str, words)])
    assert runpy.run_path(str(ROOT / "tools" / "visualize_data.py"))["main"]() == 0

    cfg = setup_cfg(CONFIG, of_config)
    resolve_datasets(cfg)
    (name,) = cfg.DATASETS.TRAIN
    records = get_records([name])
    training = SeededDataset(records, with_copy_paste(cfg, MultiTaskDatasetMapper(cfg, is_train=True), records), seed=5)
    sample = training[0, 1]
    assert len(sample["instances"]) > 0  # pasted, which takes to know what an object is in the semantic map
    row = ("Training, epoch 0: b.jpg", sample)
    expected = draw_samples([row], MetadataCatalog.get(name), label_keys=("instances", "sem_seg"))
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / "000001_b.png")), expected)


def test_either_kind_of_rows_can_be_left_out(visualize, tmp_path):
    heights = []
    for words in (["--augment"], ["--no-augment"], []):
        assert visualize(*words, "--num-images", 1, output=tmp_path / "-".join(["out", *words])) == 0
        (path,) = (tmp_path / "-".join(["out", *words])).iterdir()
        heights.append(Image.open(path).height)
    assert heights[2] > max(heights[:2])


def test_broken_image_is_named_and_the_others_are_drawn(visualize, dataset, tmp_path, capsys):
    Path(DatasetCatalog.get(dataset)[1]["file_name"]).write_bytes(b"no image")
    assert visualize() == 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["000000_000.png", "000002_002.png"]
    error = capsys.readouterr().err.splitlines()
    assert error[-1].startswith("visualize_data.py: ") and "001.png: cannot be read" in error[-1]


def test_unknown_or_empty_dataset_and_output_that_cannot_be_written(visualize, dataset, tmp_path, capsys):
    DatasetCatalog.register(f"{dataset}_empty", list)
    (tmp_path / "file").touch()
    for options, message in (
        ({"name": dataset[:-1]}, f"did you mean '{dataset}"),
        ({"name": f"{dataset}_empty"}, f"{dataset}_empty: found no image"),
        ({"output": tmp_path / "file" / "out"}, "out: cannot be written (Not a directory)"),
    ):
        assert visualize(**options) == 1
        error = capsys.readouterr().err.splitlines()
        assert error[-1].startswith("visualize_data.py: ") and message in error[-1]
    DatasetCatalog.remove(f"{dataset}_empty")
