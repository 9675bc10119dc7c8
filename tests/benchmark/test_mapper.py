"""The benchmark of the mapper: equality first, both forms of masks, and one sentence for wrong input."""

import numpy as np
import pycocotools.mask as mask_util
import pytest

from mtl_d2.benchmark import mapper
from mtl_d2.benchmark.mask_forms import with_polygons, with_rles
from mtl_d2.testing import toy_dataset

PARTS = ("image", "boxes", "classes", "semantics", "masks")


@pytest.fixture
def run_mapper(run, monkeypatch, tmp_path):
    """Run this benchmark for a moment, where no dataset is."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "none"))
    return lambda *words: run("mapper", "--rounds", "2", "--num-images", "2", *words)


@pytest.mark.parametrize("crop", [False, True])
def test_equal_samples_are_timed_in_both_forms(run_mapper, capsys, crop):
    with toy_dataset(5) as name:
        words = ["INPUT.CROP.ENABLED", "True", "INPUT.CROP.TYPE", "absolute", "INPUT.CROP.SIZE", "[41, 37]"]
        status, record = run_mapper("--dataset", name, *(words if crop else []))
    assert status == 0 and record["equal"]
    assert [check["name"] for check in record["checks"]] == [f"{p}, {f}" for f in ("RLE", "polygons") for p in PARTS]
    assert {check["tolerance"] for check in record["checks"]} == {0.0, 1e-6}
    assert [c["name"] for c in record["comparisons"]] == [f"sample, {name}, {form}" for form in ("RLE", "polygons")]
    for comparison in record["comparisons"]:
        assert comparison["numerator"] == "MultiTaskDatasetMapper" and comparison["images"] == 2
        assert all(len(seconds) == 2 for seconds in comparison["seconds"].values())
        assert comparison["ratio"]["low"] <= comparison["ratio"]["value"] <= comparison["ratio"]["high"]
    assert "2 images with" in capsys.readouterr().out


def test_without_coco_mini_shapes_are_drawn(run_mapper):
    status, record = run_mapper()
    assert status == 0
    assert record["setting"]["dataset"].startswith("shapes, 2 images")


def test_samples_that_differ_end_with_1_and_are_not_timed(run_mapper, monkeypatch, capsys):
    class Broken(mapper.MultiTaskDatasetMapper):
        def __call__(self, record):
            sample = super().__call__(record)
            sample["instances"].gt_masks.tensor[0, 0, 0] ^= True
            return sample

    monkeypatch.setattr(mapper, "MultiTaskDatasetMapper", Broken)
    status, record = run_mapper()
    assert status == 1 and record["comparisons"] == []
    assert {c["name"] for c in record["checks"] if c["difference"] > c["tolerance"]} == {
        "masks, RLE",
        "masks, polygons",
    }
    assert "Nothing was timed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--rounds", "1"), "--rounds 1: expected 2 or more"),
        (("--num-images", "0"), "--num-images 0: expected 1 or more"),
        (("--dataset", "shapes_trian"), "did you mean 'shapes_train'"),
        (("INPUT.CORP.ENABLED", "True"), "INPUT.CORP.ENABLED"),
    ],
)
def test_wrong_input_ends_with_2_and_one_sentence(run_mapper, capsys, words, message):
    assert run_mapper(*words) == (2, None)
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


def test_a_dataset_without_all_labels_is_refused(run_mapper, capsys):
    with toy_dataset(3, labels=("sem_seg",)) as name:
        assert run_mapper("--dataset", name) == (2, None)
    assert "found no image with masks, semantics and edges" in capsys.readouterr().err


def test_forms_of_masks():
    mask = np.zeros((9, 11), np.uint8)
    mask[2:6, 3:9] = 1
    dot = np.zeros((9, 11), np.uint8)
    dot[1, 1] = 1
    rles = [mask_util.encode(np.asfortranarray(m)) for m in (mask, dot)]
    record = {"height": 9, "width": 11, "annotations": [{"segmentation": rle} for rle in rles]}
    outlines = [annotation["segmentation"] for annotation in with_polygons(record)["annotations"]]
    assert sorted(map(tuple, np.reshape(outlines[0], (-1, 2)).tolist())) == [(3, 2), (3, 5), (8, 2), (8, 5)]
    assert outlines[1] == [[1, 1, 2, 1, 2, 2, 1, 2]]
    assert [a["segmentation"] for a in with_rles(record)["annotations"]] == rles
    box = {"height": 9, "width": 11, "annotations": [{"segmentation": [[3, 2, 9, 2, 9, 6, 3, 6]]}]}
    (rle,) = [a["segmentation"] for a in with_rles(box)["annotations"]]
    assert np.array_equal(mask_util.decode(rle), mask)
