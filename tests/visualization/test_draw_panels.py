"""tools/draw_panels.py as a person runs it."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import build_model
from PIL import Image

from mtl_d2.data import resolve_datasets
from mtl_d2.testing import TOY_STUFF_CLASSES, tiny_cfg, toy_dataset

TOOL = Path(__file__).parents[2] / "tools" / "draw_panels.py"
KEYS = {"MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.0, "MODEL.PANOPTIC_FPN.COMBINE.STUFF_AREA_LIMIT": 1}
ONE = ("--num-images", "1", "--no-labels")  # most of the time is the writing of pictures


@pytest.fixture(scope="module")
def cfg():
    return tiny_cfg(**KEYS)


@pytest.fixture(scope="module")
def model(cfg):
    torch.manual_seed(0)
    return build_model(cfg).eval()


@pytest.fixture
def draw(cfg, model, tmp_path, monkeypatch):
    """Call it with words; the network has random weights in a file, and no datasets in its config."""
    torch.save({"model": model.state_dict()}, tmp_path / "model.pth")
    (tmp_path / "config.yaml").write_text(cfg.dump())

    def _draw(*arguments, weights=tmp_path / "model.pth", output=tmp_path / "out"):
        words = ["--config-file", tmp_path / "config.yaml", "--output", output, "--score-threshold", 0]
        words += [] if weights is None else ["--weights", weights]
        monkeypatch.setattr(sys, "argv", ["draw_panels.py", *map(str, words), *map(str, arguments)])
        return runpy.run_path(str(TOOL))["main"]()

    return _draw


@pytest.fixture
def dataset():
    with toy_dataset(2) as name:
        yield name


@pytest.fixture
def described(dataset, tmp_path):
    """The YAML of a dataset on the toy images: classes of the semantic map, of which the last two are stuff."""
    root = Path(MetadataCatalog.get(dataset).image_root)
    (root / "semantic").mkdir()
    (root / "images").mkdir()
    for record in DatasetCatalog.get(dataset):
        Path(record["sem_seg_file_name"]).rename(root / "semantic" / Path(record["file_name"]).name)
        Path(record["file_name"]).rename(root / "images" / Path(record["file_name"]).name)
    classes = list(TOY_STUFF_CLASSES)
    semantic = {"folder": str(root / "semantic"), "classes": classes, "stuff": classes[2:]}
    path = tmp_path / "described_for_panels.yaml"
    path.write_text(yaml.safe_dump({"images": str(root / "images"), "semantic": semantic}))
    yield str(path)
    for catalog in (DatasetCatalog, MetadataCatalog):
        if path.stem in catalog.list():
            catalog.remove(path.stem)


def pictures(folder: Path) -> dict[str, np.ndarray]:
    return {path.name: np.asarray(Image.open(path)) for path in folder.iterdir()}


def test_panels_and_an_overview_are_written(draw, dataset, tmp_path, capsys):
    assert draw("--dataset", dataset, "--num-images", 2) == 0
    assert set(pictures(tmp_path / "out")) == {"000.png", "001.png", "overview.png"}
    assert "Wrote 2 panels" in capsys.readouterr().out


def test_panels_of_a_described_dataset_are_those_of_its_name(draw, described, cfg, tmp_path):
    assert draw(*ONE, "DATASETS.TEST", f"('{described}',)", output=tmp_path / "by_path") == 0
    named = cfg.clone()
    named.DATASETS.TEST = (described,)
    resolve_datasets(named)
    assert draw(*ONE, "DATASETS.TEST", str(named.DATASETS.TEST), output=tmp_path / "by_name") == 0
    by_path, by_name = pictures(tmp_path / "by_path"), pictures(tmp_path / "by_name")
    assert len(by_path) == len(by_name) == 2
    assert all(np.array_equal(by_path[name], by_name[name]) for name in by_name)


def test_a_dataset_without_some_of_the_networks_labels_has_numbered_classes(draw, described, tmp_path):
    assert draw(*ONE, "--dataset", described) == 0  # no thing has a name
    with toy_dataset(2, labels=("instance",)) as name:
        del MetadataCatalog.get(name).stuff_classes
        assert draw(*ONE, "--dataset", name, output=tmp_path / "things") == 0


def test_labels_of_more_classes_than_the_networks_are_drawn(draw, dataset):
    for record in DatasetCatalog.get(dataset):
        for annotation in record["annotations"]:
            annotation["category_id"] += 7
    assert draw("--dataset", dataset) == 0


def test_gray_images_of_16_bits_are_drawn_as_those_of_8(draw, dataset, tmp_path):
    for shift in (0, 8):
        for record in DatasetCatalog.get(dataset):
            pixels = np.asarray(
                Image.open(record["file_name"]).convert("L") if shift == 0 else Image.open(record["file_name"])
            )
            Image.fromarray(pixels if shift == 0 else pixels.astype(np.uint16) << shift).save(record["file_name"])
        assert draw(*ONE, "--dataset", dataset, output=tmp_path / str(shift)) == 0
    found, expected = pictures(tmp_path / "8"), pictures(tmp_path / "0")
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_what_would_draw_nothing_that_was_trained_ends_with_one_sentence(  # noqa: PLR0917
    draw, dataset, model, tmp_path, monkeypatch, capsys
):
    state = {key: value for key, value in model.state_dict().items() if not key.startswith("edge_head")}
    torch.save({"model": state}, tmp_path / "two.pth")
    (tmp_path / "file").touch()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    words = ("--dataset", dataset)
    for arguments, options, message in (
        (words, {"weights": None}, "there are no weights"),
        (words, {"weights": tmp_path / "two.pth"}, "two.pth has no weights that fit the task 'edge'"),
        ((*words, "MODEL.DEVICE", "cuda"), {}, "no GPU here: add MODEL.DEVICE cpu to the command"),
        ((*words, "--import", "gone.py"), {}, "--import gone.py: expected a Python file"),
        (("--dataset", dataset[:-1]), {}, f"did you mean '{dataset}'"),
        ((), {}, "DATASETS.TEST: found no dataset"),
        (words, {"output": tmp_path / "file" / "out"}, "Not a directory"),
    ):
        assert draw(*arguments, **options) == 2
        error = capsys.readouterr().err.splitlines()
        assert error[-1].startswith("draw_panels.py: ") and message in error[-1]
    assert not (tmp_path / "out" / "overview.png").exists()
