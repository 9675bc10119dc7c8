import json
import runpy
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pycocotools.mask as mask_util
import pytest

from mtl_d2.data import DatasetError, validate_records
from mtl_d2.data.datasets import datasets_root, register_all
from mtl_d2.data.datasets.shapes import RARE_SCHEMA, SCHEMA, load_shapes
from mtl_d2.data.preflight import preflight
from mtl_d2.data.shapes import Recipe, draw_scene, write_shapes
from mtl_d2.data.shapes_scene import (
    CORNER_PAIRS,
    CORNERS,
    MIN_VISIBLE_PIXELS,
    RARE_CLASS,
    RECIPE_VERSION,
    STUFF_CLASSES,
    STYLES,
    THING,
    THING_CLASSES,
    THING_COLORS,
    VOID,
    _draw_shape,
    _visible_corners,
    semantic_by_class,
)
from mtl_d2.testing import tiny_cfg

RECIPE = Recipe(train=10, val=2, size=64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "shapes"
    assert write_shapes(folder, RECIPE)
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_files_do_not_depend_on_the_number_of_workers(folder, tmp_path):
    write_shapes(tmp_path / "shapes", RECIPE, workers=2)
    assert files(tmp_path / "shapes") == files(folder)


def test_an_image_depends_on_split_seed_and_index_alone():
    image = draw_scene(RECIPE, "train", 3).image
    np.testing.assert_array_equal(draw_scene(replace(RECIPE, train=99), "train", 3).image, image)
    for recipe, split, index in (
        (RECIPE, "val", 3),
        (RECIPE, "train", 4),
        (replace(RECIPE, seed=1), "train", 3),
    ):
        assert (draw_scene(recipe, split, index).image != image).any()


def test_records_pass_every_check(folder):
    for split, count in (("train", 10), ("val", 2)):
        records = load_shapes(folder, split)
        assert len(records) == count
        validate_records(records, SCHEMA, check_files=True)
        assert all(r["edge_source"] == "union" for r in records)


def test_masks_do_not_overlap_and_semantics_agree_with_them(folder):
    for record in load_shapes(folder, "train"):
        semantic = cv2.imread(record["sem_seg_file_name"], cv2.IMREAD_UNCHANGED)
        covered = np.zeros(semantic.shape, int)
        assert STYLES["standard"].instances[0] <= len(record["annotations"]) <= STYLES["standard"].instances[1]
        for annotation in record["annotations"]:
            mask = mask_util.decode(annotation["segmentation"]).astype(bool)
            assert mask.sum() >= MIN_VISIBLE_PIXELS
            assert (semantic[mask] == THING).all()
            y, x = np.nonzero(mask)
            assert annotation["bbox"] == [x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1]
            covered += mask
        assert covered.max() == 1
        assert set(np.unique(semantic[covered == 0])) <= {*range(1, 1 + len(STUFF_CLASSES)), VOID}


def test_a_sample_of_scenes_holds_all_classes_voids_overlaps_and_cuts():
    scenes = [draw_scene(Recipe(), "train", i) for i in range(20)]
    assert {c for s in scenes for c in s.classes} == set(range(len(THING_CLASSES)))
    assert set(np.unique([s.semantic for s in scenes])) == {
        *range(1 + len(STUFF_CLASSES)),
        VOID,
    }
    frames = [np.concatenate([s.instance_ids[[0, -1]].ravel(), s.instance_ids[:, [0, -1]].ravel()]) for s in scenes]
    assert sum(f.any() for f in frames) > 4
    touching = [((a := s.instance_ids)[:, 1:] != a[:, :-1]) & (a[:, 1:] > 0) & (a[:, :-1] > 0) for s in scenes]
    assert sum(t.any() for t in touching) > 4


def test_colour_tells_no_thing_from_another():
    means: dict[int, list] = {}
    for i in range(60):
        scene = draw_scene(RECIPE, "train", i)
        for k, thing in enumerate(scene.classes, start=1):
            means.setdefault(thing, []).append(scene.image[scene.instance_ids == k].mean(0))
    colors = np.array([np.mean(means[thing], axis=0) for thing in range(len(THING_CLASSES))])
    assert np.ptp(colors, axis=0).max() < 25


# Areas in units of the extent squared: a bar of width 2w is 2w long sides, a cross two bars less the square they share.
@pytest.mark.parametrize(
    ("thing", "smallest", "largest"),
    [
        ("ellipse", 0.7 * np.pi / 4, np.pi / 4),
        ("bar", 0.28, 0.42),
        ("ring", 0.7 * (1 - 0.55**2) * np.pi / 4, (1 - 0.4**2) * np.pi / 4),
        ("cross", 2 * 0.28 - 0.28**2, 2 * 0.42 - 0.42**2),
    ],
)
def test_area_of_a_shape_is_that_of_geometry(thing, smallest, largest):
    rng = np.random.default_rng(0)
    masks = [_draw_shape(rng, THING_CLASSES.index(thing), np.array([64, 64]), 60, 128)[0] for _ in range(30)]
    areas = np.array([m.sum() for m in masks]) / 60**2
    assert areas.min() > smallest - 0.02 and areas.max() < largest + 0.02


def test_a_cross_has_four_arms():
    mask, _ = _draw_shape(np.random.default_rng(0), THING_CLASSES.index("cross"), np.array([64, 64]), 100, 128)
    angles = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    around = mask[(64 + 40 * np.sin(angles)).astype(int), (64 + 40 * np.cos(angles)).astype(int)]
    assert (around & ~np.roll(around, 1)).sum() == 4


def test_a_folder_of_the_same_recipe_is_kept(folder):
    before = files(folder)
    assert not write_shapes(folder, RECIPE)
    assert files(folder) == before


def test_a_folder_of_another_recipe_is_refused(folder):
    with pytest.raises(DatasetError, match="recipe.json: found seed 0, expected seed 5; remove"):
        write_shapes(folder, replace(RECIPE, seed=5))


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(DatasetError, match="found files but no recipe.json"):
        write_shapes(tmp_path, RECIPE)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_interrupted_run_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("mtl_d2.data.shapes._write_png", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_shapes(tmp_path / "shapes", RECIPE)
    assert list(tmp_path.iterdir()) == []


def test_a_dataset_of_another_version_is_not_loaded(folder, tmp_path):
    copy = tmp_path / "shapes"
    copy.mkdir()
    recipe = json.loads((folder / "recipe.json").read_text())
    (copy / "recipe.json").write_text(json.dumps({**recipe, "version": 0}))
    with pytest.raises(DatasetError, match=f"recipe.json: 'version': found 0, expected {RECIPE_VERSION}"):
        load_shapes(copy, "train")


def test_a_rare_class_has_its_share_of_the_training_things_and_a_fair_one_of_val():
    recipe = Recipe(size=64, rare_share=0.05)
    rare = THING_CLASSES.index(RARE_CLASS)
    counts = {
        split: np.bincount(
            [c for i in range(150) for c in draw_scene(recipe, split, i).classes], minlength=len(THING_CLASSES)
        )
        for split in ("train", "val")
    }
    shares = {split: count / count.sum() for split, count in counts.items()}
    assert shares["train"][rare] == pytest.approx(0.05, abs=3 * (0.05 * 0.95 / counts["train"].sum()) ** 0.5)
    assert np.delete(shares["train"], rare) == pytest.approx(0.95 / 3, abs=0.06)
    assert shares["val"] == pytest.approx(0.25, abs=0.06)
    for i in range(3):  # of val, the images are those of the set without a rare class
        np.testing.assert_array_equal(draw_scene(recipe, "val", i).image, draw_scene(RECIPE, "val", i).image)


def test_with_a_rare_class_every_thing_class_has_a_semantic_id(tmp_path):
    assert write_shapes(tmp_path / "rare", replace(RECIPE, rare_share=0.3))
    records = load_shapes(tmp_path / "rare", "train", "shapes_rare")
    validate_records(records, RARE_SCHEMA, check_files=True)
    for record in records:
        semantic = cv2.imread(record["sem_seg_file_name"], cv2.IMREAD_UNCHANGED)
        things = np.zeros(semantic.shape, bool)
        for annotation in record["annotations"]:
            mask = mask_util.decode(annotation["segmentation"]).astype(bool)
            assert (semantic[mask] == annotation["category_id"]).all()
            things |= mask
        assert set(np.unique(semantic[~things])) <= {4, 5, 6, VOID}


def test_the_semantics_of_both_sets_agree_beside_the_things():
    scene = draw_scene(RECIPE, "train", 0)
    by_class, beside = semantic_by_class(scene), scene.instance_ids == 0
    expected = np.where(scene.semantic == VOID, VOID, scene.semantic + len(THING_CLASSES) - 1)
    np.testing.assert_array_equal(by_class[beside], expected[beside])


def test_the_files_of_the_other_family_are_refused(folder, tmp_path):
    with pytest.raises(DatasetError, match="'rare_share': found null, expected a number .*--rare-share 0.01"):
        load_shapes(folder, "train", "shapes_rare")
    (tmp_path / "recipe.json").write_text(json.dumps({"version": RECIPE_VERSION, "rare_share": 0.01}))
    with pytest.raises(DatasetError, match="'rare_share': found 0.01, expected null"):
        load_shapes(tmp_path, "train")
    with pytest.raises(DatasetError, match="'style': found null, expected \"easy\" .*--easy --rare-share 0.01"):
        load_shapes(tmp_path, "train", "shapes_easy_rare")


def test_a_folder_of_before_there_were_rare_classes_is_kept(folder, tmp_path):
    recipe = json.loads((folder / "recipe.json").read_text())
    del recipe["rare_share"]
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    assert not write_shapes(tmp_path, RECIPE)


def test_easy_scenes_have_few_large_things_in_the_colours_of_their_class():
    recipe = Recipe(size=96, style="easy")
    for index in range(20):
        scene = draw_scene(recipe, "train", index)
        assert 1 <= len(scene.classes) <= 3
        for i, thing in enumerate(scene.classes, start=1):
            mask = scene.instance_ids == i
            extents = np.ptp(np.argwhere(mask), axis=0)
            assert extents.max() >= 20
            distances = np.linalg.norm(scene.image[mask].mean(0) - np.array(THING_COLORS), axis=1)
            assert distances.argmin() == thing


@pytest.mark.parametrize(
    "option", [{"train": 0}, {"size": 8}, {"seed": -1}, {"rare_share": 1.5}, {"style": "hard"}], ids=str
)
def test_a_number_out_of_range_is_named(option):
    ((name, value),) = option.items()
    with pytest.raises(DatasetError, match=f"{name}: found {value!r}, expected"):
        Recipe(**option)


def test_the_tool_writes_and_says_so(tmp_path, monkeypatch, capsys):
    tool = Path(__file__).parents[2] / "tools" / "make_shapes.py"
    options = [
        "--output",
        str(tmp_path / "s"),
        "--train",
        "2",
        "--val",
        "1",
        "--size",
        "64",
        "--workers",
        "1",
    ]
    monkeypatch.setattr("sys.argv", [str(tool), *options])
    runpy.run_path(str(tool), run_name="__main__")
    assert "2 train and 1 val images" in capsys.readouterr().out
    assert len(list((tmp_path / "s" / "images").iterdir())) == 3
    monkeypatch.setattr("sys.argv", [str(tool), *options, "--seed", "1"])
    with pytest.raises(SystemExit):
        runpy.run_path(str(tool), run_name="__main__")
    assert "recipe.json: found seed 0, expected seed 1" in capsys.readouterr().err


def test_keypoints_are_added_to_a_folder_without_them_as_they_are_in_a_new_one(folder, tmp_path):
    before = files(folder)
    shutil.copytree(folder, tmp_path / "shapes")
    for split in ("train", "val"):
        (tmp_path / "shapes" / f"keypoints_{split}.json").unlink()
    assert not write_shapes(tmp_path / "shapes", RECIPE, workers=2)
    assert files(tmp_path / "shapes") == before
    instances, keypoints = (json.loads(before[f"{kind}_train.json"]) for kind in ("instances", "keypoints"))
    extra = ("keypoints", "num_keypoints")
    plain = [{key: value for key, value in a.items() if key not in extra} for a in keypoints["annotations"]]
    assert plain == instances["annotations"] and keypoints["images"] == instances["images"]
    assert all(c["keypoints"] == list(CORNERS) for c in keypoints["categories"])


def test_keypoints_of_other_instances_are_not_added(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "shapes")
    (tmp_path / "shapes" / "keypoints_val.json").unlink()
    path = tmp_path / "shapes" / "instances_val.json"
    path.write_text(path.read_text().replace('"iscrowd": 0', '"iscrowd": 1'))
    with pytest.raises(DatasetError, match="instances_val.json: found other instances than its recipe draws here"):
        write_shapes(tmp_path / "shapes", RECIPE)


def test_records_are_the_same_but_for_the_keypoints(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "shapes")
    (tmp_path / "shapes" / "keypoints_val.json").unlink()
    plain = load_shapes(tmp_path / "shapes", "val")
    for record, other in zip(load_shapes(folder, "val"), plain, strict=True):
        for annotation, bare in zip(record["annotations"], other["annotations"], strict=True):
            points = np.array(annotation.pop("keypoints")).reshape(4, 3)
            has_corners = THING_CLASSES[annotation["category_id"]] in ("bar", "cross")
            assert annotation == bare and (has_corners or not points[:, 2].any())


@pytest.mark.parametrize("thing", ["bar", "cross"])
def test_corners_are_in_order_at_the_outline_and_swap_in_a_mirror_image(thing):
    rng, size, center = np.random.default_rng(0), 128, np.array([60.0, 70.0])
    mirrored = [CORNERS.index(dict([*CORNER_PAIRS, *((b, a) for a, b in CORNER_PAIRS)])[name]) for name in CORNERS]
    for _ in range(20):
        mask, corners = _draw_shape(rng, THING_CLASSES.index(thing), center, 80, size)
        (left_top, right_top, right_bottom, left_bottom) = corners
        assert len(np.unique(corners, axis=0)) == 4
        assert left_top.sum() < right_bottom.sum() and right_top @ [1, -1] > left_bottom @ [1, -1]
        near = cv2.GaussianBlur(mask.astype(np.float32), (9, 9), 0)[tuple(corners.astype(int).T[::-1])]
        # Of what is around it, a convex corner has a quarter, a concave one three.
        assert (np.abs(near - (0.25 if thing == "bar" else 0.75)) < 0.15).all()
        flipped = np.abs(corners * [1, 1] - [size, 0])
        again = flipped[[flipped.sum(1).argmin(), (flipped @ [1, -1]).argmax()]]
        np.testing.assert_allclose(again, flipped[mirrored[:2]])


def test_hidden_corners_are_not_labelled():
    mask = np.zeros((20, 20), bool)
    mask[5:10, 5:15] = True
    corners = np.array([[5, 5], [15, 5], [15, 16], [-1, 3]], float)  # two at the shape, one apart, one outside
    np.testing.assert_array_equal(np.isnan(_visible_corners(corners, mask)).any(1), [False, False, True, True])
    assert np.isnan(_visible_corners(np.full((4, 2), np.nan), mask)).all()


def test_a_set_without_keypoints_says_how_to_get_them(folder, tmp_path, monkeypatch):
    shutil.copytree(folder, tmp_path / "shapes")
    for split in ("train", "val"):
        (tmp_path / "shapes" / f"keypoints_{split}.json").unlink()
    register_all(tmp_path)
    try:
        cfg = tiny_cfg(("instance", "keypoint"), "shapes_train", **{"MODEL.ROI_HEADS.NUM_CLASSES": 4})
        with pytest.raises(
            DatasetError, match="labels for it; run tools/make_shapes.py again, which adds keypoints_tr"
        ):
            preflight(cfg)
    finally:
        register_all(datasets_root())
