"""What all converters share: going on, never overwriting, processes, copies and the command."""

import functools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from mtl_d2.data import DatasetError
from mtl_d2.data.converters import Item, Labels, Split, write_splits
from mtl_d2.data.converters.describe import image_path
from tests.data.converters.loading import load, photo, read, write_image

ROOT = Path(__file__).parents[3]
H, W, COUNT = 20, 30, 20


def read_labels(item: Item, *, log: Path, broken: int) -> Labels:
    """An image of one row of class 1; the names of those that were read stand in ``log``."""
    if item.image_id == broken:
        raise DatasetError(f"{item.file_name}: broken")
    with open(log, "a") as file:
        file.write(f"{item.file_name}\n")
    sem_seg = np.zeros((H, W), np.uint8)
    sem_seg[item.image_id % H] = 1
    annotation = {
        "category_id": 3,
        "iscrowd": 0,
        "bbox": [0, 0, 5, 5],
        "area": 25,
        "segmentation": [[0, 0, 5, 0, 5, 5]],
    }
    return Labels((H, W), [annotation] * (item.image_id % 3), sem_seg)


@pytest.fixture
def make(tmp_path):
    """``make(broken)``: the split, in which an image may be broken."""
    for i in range(COUNT):
        write_image(tmp_path / "photos" / f"{i:02d}.png", photo(H, W))
    items = [Item(i, f"{i:02d}.png", None) for i in range(COUNT)]

    def make(broken: int = -1) -> Split:
        read = functools.partial(read_labels, log=tmp_path / "log", broken=broken)
        return Split("train", str(tmp_path / "photos"), items, read, {3: "cat"}, ["ground", "cat"], ["ground"], "union")

    return make


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_an_interrupted_conversion_goes_on_and_gives_the_same_files(make, tmp_path):
    write_splits([make()], tmp_path / "whole" / "pets", {})
    (tmp_path / "log").unlink()
    with pytest.raises(DatasetError, match=r"07.png: broken"):
        write_splits([make(broken=7)], tmp_path / "parts" / "pets", {})
    assert not (tmp_path / "parts" / "pets" / "train.yaml").exists()
    journal = tmp_path / "parts" / "pets" / "train.partial.jsonl"
    with open(journal, "ab") as file:
        file.write(b'{"image": {"file_na')  # as a process leaves it that is killed while it writes
    assert write_splits([make()], tmp_path / "parts" / "pets", {}) == {"train": COUNT}
    assert (tmp_path / "log").read_text().split() == [f"{i:02d}.png" for i in range(COUNT)]  # none of them twice
    assert files(tmp_path / "parts") == files(tmp_path / "whole")
    assert len(load(tmp_path / "parts" / "pets" / "train.yaml")) == COUNT


def test_the_files_do_not_depend_on_the_processes(make, tmp_path):
    for jobs in (1, 2):
        write_splits([make()], tmp_path / str(jobs) / "pets", {}, jobs=jobs)
    assert files(tmp_path / "1") == files(tmp_path / "2")


def test_an_error_in_a_process_is_its_sentence_and_keeps_what_is_done(make, tmp_path):
    with pytest.raises(DatasetError, match=r"^19.png: broken$"):
        write_splits([make(broken=19)], tmp_path / "pets", {}, jobs=2)
    assert (tmp_path / "pets" / "train.partial.jsonl").read_text().count("\n") == 1 + 16  # two chunks of eight


def test_what_is_there_is_kept_and_never_overwritten(make, tmp_path):
    output = tmp_path / "pets"
    write_splits([make()], output, {"seed": "1"})
    before = files(output)
    assert write_splits([make(broken=0)], output, {"seed": "1"}) == {}
    with pytest.raises(DatasetError, match=r"train.yaml: was made with seed '1' \(now '2'\); remove what is there"):
        write_splits([make()], output, {"seed": "2"})
    assert files(output) == before


def test_what_others_wrote_is_never_overwritten(make, tmp_path):
    (tmp_path / "pets").mkdir()
    (tmp_path / "pets" / "train.yaml").write_text("images: mine\n")
    with pytest.raises(DatasetError, match="train.yaml: was made with"):
        write_splits([make()], tmp_path / "pets", {})
    (tmp_path / "pets" / "train.yaml").unlink()
    (tmp_path / "pets" / "semantic" / "train").mkdir(parents=True)
    with pytest.raises(DatasetError, match="semantic/train: is there already, and is never overwritten"):
        write_splits([make()], tmp_path / "pets", {})


def test_an_unfinished_conversion_of_something_else_is_refused(make, tmp_path):
    with pytest.raises(DatasetError, match="broken"):
        write_splits([make(broken=3)], tmp_path / "pets", {"seed": "1"})
    with pytest.raises(DatasetError, match=r"train.partial.jsonl: was made with seed '1' \(now '2'\)"):
        write_splits([make()], tmp_path / "pets", {"seed": "2"})


def test_annotations_are_numbered_over_the_split(make, tmp_path):
    write_splits([make()], tmp_path / "pets", {})
    content = yaml.safe_load((tmp_path / "pets" / "instances_train.json").read_text())
    assert [image["id"] for image in content["images"]] == list(range(COUNT))
    owners = [i for i in range(COUNT) for _ in range(i % 3)]
    assert [a["image_id"] for a in content["annotations"]] == owners
    assert [a["id"] for a in content["annotations"]] == list(range(1, len(owners) + 1))


def test_copied_images_need_the_source_no_more(make, tmp_path):
    write_splits([make()], tmp_path / "pets", {}, copy=True)
    (tmp_path / "photos").rename(tmp_path / "gone")
    (tmp_path / "pets").rename(tmp_path / "moved")
    record = load(tmp_path / "moved" / "train.yaml")[5]
    assert record["file_name"] == str(tmp_path / "moved" / "images" / "train" / "05.png")
    assert np.array_equal(read(Path(record["file_name"])), photo(H, W))


def test_two_images_of_one_label_name_are_refused(make, tmp_path):
    split = make()
    items = [*split.items, Item(99, "03.jpg", None)]
    with pytest.raises(DatasetError, match=r"found 03.png and 03.jpg, expected names that differ before their ending"):
        write_splits([Split("train", split.images, items, split.read, {})], tmp_path / "pets", {})


def test_images_are_referred_to_so_that_folders_can_move(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "datasets"))
    output = tmp_path / "datasets" / "pets"
    assert image_path(output / "photos", output) == "photos"
    assert image_path(tmp_path / "datasets" / "coco" / "val", output) == "${DETECTRON2_DATASETS}/coco/val"
    assert image_path(tmp_path / "datasets2", output) == str(tmp_path / "datasets2")
    monkeypatch.delenv("DETECTRON2_DATASETS")
    assert image_path(tmp_path / "datasets" / "coco", output) == str(tmp_path / "datasets" / "coco")


def run(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "tools/convert_dataset.py", *arguments]
    return subprocess.run(command, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False)


def test_the_command_converts_and_says_so(tmp_path):
    for name in "abc":
        write_image(tmp_path / "stage1_train" / name / "images" / f"{name}.png", photo(H, W, 4))
        write_image(tmp_path / "stage1_train" / name / "masks" / "0.png", np.full((H, W), 255, np.uint8))
    arguments = ("dsb2018", str(tmp_path), "--output", str(tmp_path / "out"), "--val-fraction", "0.4", "--jobs", "2")
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{tmp_path}/out/train.yaml: 2 images", f"{tmp_path}/out/val.yaml: 1 images"]
    assert run(*arguments).stdout == f"{tmp_path}/out: all is there already\n"


def test_wrong_input_ends_the_command_with_one_line_and_status_2(tmp_path):
    done = run("coco_panoptic", str(tmp_path / "absent"), "--output", str(tmp_path / "out"))
    assert done.returncode == 2 and not done.stdout
    assert "Traceback" not in done.stderr
    line = done.stderr.splitlines()[-1]
    assert line.startswith("convert_dataset.py coco_panoptic: ") and "panoptic_train2017.json: no such file" in line
