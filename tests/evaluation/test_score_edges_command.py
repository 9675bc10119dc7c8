"""tools/score_edges.py as a person runs it."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mtl_d2.evaluation import EdgeOptions, score_edges

TOOL = Path(__file__).parents[2] / "tools" / "score_edges.py"


@pytest.fixture(scope="module")
def main():
    spec = importlib.util.spec_from_file_location("mtl_d2_test_score_edges", TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return lambda *words: tool.main([str(word) for word in words])


@pytest.fixture
def folders(tmp_path):
    """Three images of a noisy column beside the true one; {"pred", "gt"} and the arrays."""
    rng = np.random.default_rng(0)
    probs, gts = [], []
    for i in range(3):
        gt = np.zeros((24, 32), np.uint8)
        gt[:, 8 + i] = 255
        prob = np.roll(gt, 1, axis=1) / 255 * 0.6 + 0.4 * rng.random(gt.shape)
        for name, image in (("pred", np.round(255 * prob).astype(np.uint8)), ("gt", gt)):
            (tmp_path / name).mkdir(exist_ok=True)
            Image.fromarray(image).save(tmp_path / name / f"{i}.png")
        probs.append(np.round(255 * prob).astype(np.float32) / np.float32(255))
        gts.append(gt)
    return tmp_path, probs, gts


def test_command_and_function_give_one_result(main, folders, capsys):
    root, probs, gts = folders
    words = ("--max-dist", 0.03, "--no-nms", "--thresholds", 19, "--jobs", 0)
    status = main(root / "pred", root / "gt", "--json", root / "s.json", "--pr-curve", root / "s.png", *words)
    options = EdgeOptions(max_dist=0.03, nms=False, thresholds=19)
    expected = score_edges(probs, gts, options=options, jobs=0).metrics()
    content = json.loads((root / "s.json").read_text())
    assert status == 0 and {key: content[key] for key in expected} == expected
    assert content["num_images"] == 3 and content["options"]["nms"] is False
    assert [image["name"] for image in content["images"]] == ["0", "1", "2"]
    assert len(content["curve"]["precision"]) == 19 and content["curve"]["dataset"] == "pred"
    output = capsys.readouterr()
    assert f"{expected['ODS']:.3f}" in output.out and "ODS_crisp" in output.out
    with Image.open(root / "s.png") as picture:
        assert picture.width > 400


def test_inverted_maps_end_with_2_and_a_sentence_and_can_be_told(main, folders, capsys):
    root, *_ = folders
    for path in (root / "pred").iterdir():
        Image.fromarray(255 - np.array(Image.open(path))).save(path)
    assert main(root / "pred", root / "gt", "--jobs", 1) == 2
    error = capsys.readouterr().err
    assert "0.png looks inverted" in error and "--invert" in error and "Traceback" not in error
    assert main(root / "pred", root / "gt", "--jobs", 0, "--invert", "--no-extras") == 0
    assert "ODS_half" not in capsys.readouterr().out


def test_what_scores_of_0_come_from_is_told(main, folders, capsys):
    root, *_ = folders
    for path in (root / "pred").iterdir():
        Image.fromarray((np.array(Image.open(path)) > 128).astype(np.uint8)).save(path)
    Image.fromarray(np.zeros((24, 32), np.uint8)).save(root / "gt" / "1.png")
    np.save(root / "pred" / "spare.npy", np.zeros((24, 32)))
    assert main(root / "pred", root / "gt", "--jobs", 0) == 0
    error = capsys.readouterr().err
    assert "1 edge maps have no ground truth and are left out, spare the first" in error
    assert "1 of 3 images have no edge in their ground truth, 1 the first" in error
    assert "no pixel of any map reaches a threshold" in error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--max-dist", "0"), "max_dist"),
        (("--thresholds", "0"), "thresholds"),
        (("--jobs", "-1"), "processes"),
        (("--gt-kind", "ids", "--gt-ignore", "0"), ""),
    ],
)
def test_wrong_options_end_with_2_and_a_sentence(main, folders, capsys, words, message):
    root, *_ = folders
    status = main(root / "pred", root / "gt", "--jobs", 0, *words)
    error = capsys.readouterr().err
    assert (status, message in error) == (0 if not message else 2, True) and "Traceback" not in error


def test_picture_of_an_unknown_kind_is_refused_before_the_work(main, folders, capsys):
    root, *_ = folders
    with pytest.raises(SystemExit) as exit_:
        main(root / "pred", root / "gt", "--pr-curve", "curve.doc")
    assert exit_.value.code == 2 and "--pr-curve curve.doc" in capsys.readouterr().err
