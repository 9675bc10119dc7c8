"""tools/check_dataset.py as a person runs it."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.check.planting import PLANTS
from tests.data.check.toy_set import NAME, forget, png, register, valid_set

TOOL = Path(__file__).parents[3] / "tools" / "check_dataset.py"
OTHER = "toy_check_other"


@pytest.fixture(autouse=True)
def _forget():
    yield
    forget(NAME, OTHER, f"{NAME}_fixed")


@pytest.fixture
def run(monkeypatch):
    def _run(*words):
        monkeypatch.setattr(sys, "argv", ["check_dataset.py", *map(str, words)])
        return runpy.run_path(str(TOOL))["main"]()

    return _run


def write(folder, *plants):
    toy = valid_set()
    for image, plant in enumerate(plants):
        PLANTS[plant](toy, image)
    toy.write(folder)
    return folder


def test_a_valid_set_passes_with_its_picture_and_figures(run, tmp_path, capsys):
    register(write(tmp_path / "data"))
    words = ["--jobs", 0, "--output", tmp_path / "out", "--json", tmp_path / "out.json"]
    assert run(NAME, *words) == 0
    out = capsys.readouterr().out
    assert "no fault" in out and "objects: 12" in out and "MODEL.ANCHOR_GENERATOR.SIZES" in out
    picture = np.asarray(Image.open(tmp_path / "out" / NAME / "overview.png"))
    assert picture.shape[1] == 1800 and picture.std() > 20
    content = json.loads((tmp_path / "out.json").read_text())
    assert content["datasets"][NAME]["faults"] == [] and content["datasets"][NAME]["suggestions"]


def test_the_report_of_the_first_dataset_is_kept_where_the_second_fails(run, tmp_path):
    register(write(tmp_path / "data"))
    assert run(NAME, "nowhere_train", "--jobs", 0, "--json", tmp_path / "out.json") == 2
    assert json.loads((tmp_path / "out.json").read_text())["datasets"].keys() == {NAME}


def test_gray_images_of_16_bits_are_drawn_as_those_of_8(run, tmp_path):
    register(write(tmp_path / "data"))
    pictures = []
    for shift in (0, 8):
        for path in (tmp_path / "data" / "images").iterdir():
            pixels = np.asarray(Image.open(path).convert("L") if shift == 0 else Image.open(path))
            Image.fromarray(pixels if shift == 0 else pixels.astype(np.uint16) << shift).save(path)
        assert run(NAME, "--jobs", 0, "--output", tmp_path / str(shift)) == 0
        pictures.append(np.asarray(Image.open(tmp_path / str(shift) / NAME / "overview.png")))
    assert np.array_equal(*pictures)


def test_faults_are_listed_below_their_files_and_in_the_json(run, tmp_path, capsys):
    register(write(tmp_path / "data", "box NaN", "image truncated", "label with a palette"))
    assert run(NAME, "--jobs", 0, "--json", tmp_path / "out.json") == 1
    out = capsys.readouterr().out
    json_file, image = tmp_path / "data/instances.json", tmp_path / "data/images/1.png"
    assert f"{json_file}\n  annotation 1 of image 1, bbox: found [4, nan, 8, 10]" in out
    assert f"{image}\n  file_name: cannot be read as an image" in out
    assert "2 errors (box_numbers 1, unreadable 1), 1 warnings (label_palette 1)" in out
    faults = json.loads((tmp_path / "out.json").read_text())["datasets"][NAME]["faults"]
    assert {fault["kind"] for fault in faults} == {"box_numbers", "unreadable", "label_palette"}
    assert all(fault.keys() >= {"file", "field", "found", "fix"} for fault in faults)


def test_the_list_ends_at_the_limit_and_says_so(run, tmp_path, capsys):
    register(write(tmp_path / "data", "box NaN", "box NaN", "box NaN"))
    run(NAME, "--jobs", 0, "--limit", 1)
    assert "... and 2 more" in capsys.readouterr().out


def test_look_alikes_across_datasets_warn_and_fail_only_if_strict(run, tmp_path, capsys):
    register(write(tmp_path / "a"))
    toy = valid_set()
    noise = np.random.default_rng(9)
    for i in range(1, 6):
        toy.files[f"images/{i}.png"] = png(noise.integers(0, 256, (32, 32, 3), np.uint8))
    toy.write(tmp_path / "b")
    register(tmp_path / "b", OTHER)
    assert run(NAME, OTHER, "--jobs", 0) == 0
    out = capsys.readouterr().out
    assert f"a/images/0.png\n  warning: file_name: looks like {tmp_path}/b/images/0.png" in out
    assert "0 errors, 1 warnings (duplicate_across 1)" in out
    assert run(NAME, OTHER, "--jobs", 0, "--strict") == 1
    assert run(NAME, OTHER, "--jobs", 0, "--strict", "--no-duplicates") == 0


def test_fix_says_what_it_did_and_what_remains(run, tmp_path, capsys):
    register(write(tmp_path / "data", "box outside", "label truncated"))
    assert run(NAME, "--jobs", 0, "--fix", tmp_path / "copy") == 1
    out = capsys.readouterr().out
    assert "clipped boxes" in out or "took boxes from their masks: 1" in out
    assert "unreadable" in out.split("What remains:")[1] and "box_outside" not in out.split("What remains:")[1]
    assert run(NAME, "--jobs", 0, "--fix", tmp_path / "copy") == 2
    assert "is not empty, expected a new folder" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["toy_chekc", "missing.yaml"])
def test_what_cannot_be_checked_is_one_sentence(run, name, capsys):
    assert run(name) == 2
    message = capsys.readouterr().err
    assert message.startswith("check_dataset.py: ") and name in message and "Traceback" not in message


def test_a_number_that_makes_no_sense_is_named(run, capsys):
    for words in (["--jobs", -1], ["--input-size", 800, 400]):
        with pytest.raises(SystemExit):
            run(NAME, *words)
        assert words[0] in capsys.readouterr().err
