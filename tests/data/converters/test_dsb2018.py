import json

import numpy as np
import pytest
import yaml

from mtl_d2.data import DatasetError
from mtl_d2.data.converters import convert_dataset
from mtl_d2.data.converters.run_lengths import decode_runs
from mtl_d2.evaluation.edge_ground_truth import ground_truth_edges
from tests.data.converters.loading import load, photo, read, train_one_step, write_image

H, W = 48, 65
NAMES = ("0a1", "1b2", "2c3", "3d4")


def disc(*regions) -> np.ndarray:
    mask = np.zeros((H, W), np.uint8)
    for region in regions:
        mask[region] = 255
    return mask


LARGE, SMALL, APART = np.s_[5:25, 5:25], np.s_[15:30, 15:22], np.s_[30:40, 40:60]


@pytest.fixture
def source(tmp_path):
    """Overlapping masks, an image without a nucleus, and images of one nucleus."""
    folder = tmp_path / "dsb2018"
    for name in NAMES:
        image = photo(H, W, 4)
        image[:, :, 3] = 255
        write_image(folder / "stage1_train" / name / "images" / f"{name}.png", image)
        masks = folder / "stage1_train" / name / "masks"
        masks.mkdir()
        if name == "0a1":
            for i, region in enumerate((SMALL, LARGE, APART)):
                write_image(masks / f"{i}.png", disc(region))
            write_image(masks / "3.png", disc())  # a mask without a pixel
            write_image(masks / "4.png", disc(np.s_[32:36, 42:50]))
        elif name != "1b2":
            rgba = np.repeat(disc(APART)[:, :, None], 4, axis=2)
            rgba[:, :, 3] = 255
            write_image(masks / "0.png", rgba)
    (folder / "val.txt").write_text("2c3\n")
    return folder


def convert(source, output, **options):
    options = {"val_list": source / "val.txt"} | options
    return convert_dataset("dsb2018", source, output, **options)


def annotations(output, image_id: int) -> list[tuple]:
    content = json.loads((output / "instances_train.json").read_text())
    return [(a["bbox"], a["area"]) for a in content["annotations"] if a["image_id"] == image_id]


def test_the_smaller_of_overlapping_masks_lies_on_top(source, tmp_path):
    assert convert(source, tmp_path / "out") == {"train": 3, "val": 1}
    assert annotations(tmp_path / "out", 1) == [
        ([15, 15, 7, 15], 15 * 7),
        ([5, 5, 20, 20], 20 * 20 - 10 * 7),
        ([40, 30, 20, 10], 10 * 20 - 4 * 8),
        ([42, 32, 8, 4], 4 * 8),
    ]
    expected = (disc(LARGE, SMALL, APART) > 0).astype(np.uint8)
    assert np.array_equal(read(tmp_path / "out" / "semantic" / "train" / "0a1" / "images" / "0a1.png"), expected)
    assert annotations(tmp_path / "out", 2) == []
    assert annotations(tmp_path / "out", 4) == [([40, 30, 20, 10], 200)]  # its mask has four channels
    content = json.loads((tmp_path / "out" / "instances_train.json").read_text())
    assert [image["file_name"] for image in content["images"]] == [f"{n}/images/{n}.png" for n in ("0a1", "1b2", "3d4")]
    description = yaml.safe_load((tmp_path / "out" / "val.yaml").read_text())
    assert description == {
        "name": "out_val",
        "images": str(source / "stage1_train"),
        "split": "val.txt",
        "instances": "instances_val.json",
        "thing_classes": ["nucleus"],
        "semantic": {
            "folder": "semantic/val",
            "classes": ["background", "nucleus"],
            "stuff": ["background"],
            "ignore_label": 255,
        },
        "edges": {"derive": "instance"},
        "max_dets": 400,
    }


def test_it_is_read_back_and_trained_on(source, tmp_path):
    convert(source, tmp_path / "out")
    train, val = (load(tmp_path / "out" / f"{split}.yaml") for split in ("train", "val"))
    assert [len(r["annotations"]) for r in train] == [4, 0, 1] and len(val) == 1
    edges = ground_truth_edges(train[0])
    assert (edges[17:23, 14] == 1).all()  # left of the smaller: a border between two nuclei
    assert not ground_truth_edges(train[1]).any()
    losses = train_one_step(tmp_path / "out" / "train.yaml", ("instance", "sem_seg", "edge"))
    assert losses["loss_edge"] > 0


def test_run_lengths_count_from_one_down_the_columns():
    mask = decode_runs("1 2 6 1", (4, 3), "x")
    assert np.argwhere(mask).tolist() == [[0, 0], [1, 0], [1, 1]]
    assert decode_runs("12 1", (4, 3), "x")[3, 2]


def runs(mask: np.ndarray) -> str:
    """Written out in another way than it is read: pixel by pixel."""
    positions = [x * mask.shape[0] + y + 1 for x in range(mask.shape[1]) for y in range(mask.shape[0]) if mask[y, x]]
    return " ".join(f"{position} 1" for position in positions)


def as_csv(source, rows: list[str]) -> None:
    for name in NAMES:
        masks = source / "stage1_train" / name / "masks"
        for path in masks.glob("*"):
            path.unlink()
        masks.rmdir()
    (source / "stage1_train_labels.csv").write_text("\n".join(["ImageId,EncodedPixels", *rows]) + "\n")


def test_run_lengths_give_what_masks_give(source, tmp_path):
    convert(source, tmp_path / "masks")
    regions = {"0a1": [SMALL, LARGE, APART, np.s_[32:36, 42:50]], "2c3": [APART], "3d4": [APART]}
    rows = [f"{name},{runs(disc(region))}" for name, of_image in regions.items() for region in of_image]
    as_csv(source, [*rows, "1b2,"])
    convert(source, tmp_path / "csv")
    for name in ("instances_train.json", "instances_val.json", "semantic/train/0a1/images/0a1.png", "val.txt"):
        assert (tmp_path / "csv" / name).read_bytes() == (tmp_path / "masks" / name).read_bytes()


def split_of(source, output, **options) -> list[str]:
    convert(source, output, val_list=None, **options)
    train, val = ((output / f"{split}.txt").read_text().split() for split in ("train", "val"))
    assert sorted(train + val) == [f"{name}/images/{name}.png" for name in NAMES]
    return val


def test_a_seed_draws_the_validation_images(source, tmp_path):
    draws = [split_of(source, tmp_path / str(seed), val_fraction=0.5, seed=seed) for seed in range(6)]
    assert all(len(val) == 2 for val in draws)
    assert draws[0] == split_of(source, tmp_path / "again", val_fraction=0.5, seed=0)
    assert len({tuple(val) for val in draws}) > 1


def _no_masks(source):
    as_csv(source, ["0a1,1 1", "2c3,1 1", "3d4,1 1"])


def _outside(source):
    as_csv(source, [*(f"{name},1 1" for name in NAMES[:3]), f"3d4,{H * W} 2"])


def _odd(source):
    as_csv(source, [*(f"{name},1 1" for name in NAMES[:3]), "3d4,1 2 3"])


def _unknown(source):
    as_csv(source, ["zzz,1 1"])


def _columns(source):
    (source / "stage1_train_labels.csv").write_text("id,runs\n")


def _size(source):
    write_image(source / "stage1_train" / "0a1" / "masks" / "9.png", disc(SMALL).T.copy())


def _no_image(source):
    (source / "stage1_train" / "0a1" / "images" / "0a1.png").unlink()


def _list(source):
    (source / "val.txt").write_text("2c3\nnobody\n")


def _no_list(source):
    (source / "val.txt").unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_no_masks, "1b2: found no folder masks, and no row of the image in stage1_train_labels.csv"),
        (_outside, "image 3d4: EncodedPixels: found '3120 2', expected runs within 1 to 3120"),
        (_odd, "image 3d4: EncodedPixels: found '1 2 3', expected pairs of start and length"),
        (_unknown, "labels.csv: found the ImageId zzz, expected names of folders in stage1_train"),
        (_columns, "labels.csv: found no column EncodedPixels, ImageId"),
        (_size, r"masks/9.png: found 48 x 65 pixels \(width x height\), expected 65 x 48, the size of its image"),
        (_no_image, "0a1.png: no such file, expected an image"),
        (_list, "val.txt: found nobody, expected names of folders in stage1_train"),
        (_no_list, "--val-list: .*val.txt does not exist"),
    ],
)
def test_wrong_input_is_one_sentence(source, tmp_path, spoil, message):
    spoil(source)
    with pytest.raises(DatasetError, match=message):
        convert(source, tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"val_list": None, "val_fraction": 1.0}, "--val-fraction: found 1.0, expected a number above 0 and below 1"),
        ({"val_list": None, "val_fraction": 0.01}, "found no image of the split 'val'"),
        ({"val_list": None, "seed": -1}, "--seed: found -1, expected 0 or more"),
        ({"splits": ["test"]}, "--splits: found test, expected train, val or both"),
    ],
)
def test_wrong_options_are_one_sentence(source, tmp_path, options, message):
    with pytest.raises(DatasetError, match=message):
        convert(source, tmp_path / "out", **options)
