"""The benchmark of the edge score: agreement first, whatever the reference is."""

import sys
import types

import numpy as np
import pytest
from detectron2.data import DatasetCatalog
from PIL import Image

from mtl_d2.benchmark import edges
from mtl_d2.testing import toy_dataset


@pytest.fixture
def reference(monkeypatch):
    """Stands in for pyEdgeEval: ours, less ``lost`` pairs, or with a match of every pixel."""

    def install(lost: int = 0, matches_all: bool = False) -> None:
        def correspond_pixels(pred, gt, max_dist):
            of_pred, of_true = (pred, gt) if matches_all else edges.match_ours(pred, gt)
            for matched in (of_pred, of_true):
                matched[tuple(np.argwhere(matched)[:lost].T)] = False
            return of_pred.astype(float), of_true.astype(float), 0.0, 0.0

        module = types.ModuleType("pyEdgeEval._lib")
        module.correspond_pixels = correspond_pixels
        monkeypatch.setitem(sys.modules, "pyEdgeEval", types.ModuleType("pyEdgeEval"))
        monkeypatch.setitem(sys.modules, "pyEdgeEval._lib", module)

    return install


def test_matchings_that_agree_are_timed(run, reference):
    reference()
    with toy_dataset(4) as name:
        status, record = run("edges", "--dataset", name, "--num-images", "2", "--rounds", "2", "--whole-set")
    assert status == 0 and record["equal"]
    (comparison,) = record["comparisons"]
    assert comparison["numerator"] == "true maximum matching" and comparison["denominator"] == ["pyEdgeEval"]
    assert comparison["goal"] == pytest.approx(1 / 12)
    assert f"{name}, 4 images, 99 thresholds" in record["setting"]["whole set"]


@pytest.mark.parametrize(
    ("options", "wrong"),
    [({"lost": 9}, "F over all matchings"), ({"matches_all": True}, "pairs that ours lacks")],
)
def test_matchings_that_differ_end_with_1(run, reference, options, wrong):
    reference(**options)
    with toy_dataset(4) as name:
        status, record = run("edges", "--dataset", name, "--rounds", "2")
    assert status == 1 and record["comparisons"] == []
    assert wrong in [check["name"] for check in record["checks"] if check["difference"] > check["tolerance"]]


def test_gray_images_of_16_bits_have_the_edges_of_those_of_8():
    with toy_dataset(2) as name:
        record = DatasetCatalog.get(name)[1]
        gray = np.asarray(Image.open(record["file_name"]).convert("L"))
        Image.fromarray(gray).save(record["file_name"])
        expected = list(edges.binary_maps(record))
        Image.fromarray(gray.astype(np.uint16) << 8).save(record["file_name"])
        found = list(edges.binary_maps(record))
    assert len(found) == len(expected) > 0
    assert all((a == b).all() for pairs in zip(found, expected, strict=True) for a, b in zip(*pairs, strict=True))


def test_missing_reference_and_wrong_options_end_with_2_and_a_sentence(run, reference, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pyEdgeEval", None)
    assert run("edges") == (2, None)
    assert "edges: the reference is pyEdgeEval, which is not installed: pip install" in capsys.readouterr().err
    reference()
    for words, message in ((("--num-images", "0"), "--num-images 0"), (("--whole-set",), "--dataset NAME")):
        assert run("edges", *words) == (2, None)
        assert message in capsys.readouterr().err
