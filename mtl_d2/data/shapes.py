"""The synthetic dataset ``shapes``: scenes written once to disk, in the formats of real data."""

import functools
import json
import os
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from tqdm import tqdm

from mtl_d2._orphans import end_with_parent
from mtl_d2.data.masks import encode_mask
from mtl_d2.data.schema import DatasetError
from mtl_d2.data.shapes_scene import (
    CORNERS,
    RECIPE_VERSION,
    STYLES,
    THING_CLASSES,
    Scene,
    make_scene,
    semantic_by_class,
)

SPLITS = ("train", "val")
MIN_SIZE = 32
KEYPOINT_KEYS = ("keypoints", "num_keypoints")
Entry = TypeVar("Entry")


@dataclass(frozen=True)
class Recipe:
    """What the images are a function of; written to recipe.json beside them.

    Attributes:
        train, val: number of images of the split.
        size: side of the images in pixels.
        seed: image i is drawn from (version, split, seed, i) and nothing else.
        version: RECIPE_VERSION; scores on two versions do not compare.
        rare_share: share of RARE_CLASS among the training things; those of val stay alike, so that the class can be
            scored: val's images are those of a recipe without a rare class. Every thing class then has a semantic id
            of its own. None for no rare class.
        style: of STYLES: "standard" or "easy".

    Raises:
        DatasetError: a number is out of range.
    """

    train: int = 1500
    val: int = 200
    size: int = 192
    seed: int = 0
    version: int = RECIPE_VERSION
    rare_share: float | None = None
    style: str = "standard"

    def __post_init__(self) -> None:
        for name, least in (("train", 1), ("val", 1), ("size", MIN_SIZE), ("seed", 0)):
            found = getattr(self, name)
            if found < least:
                raise DatasetError(f"{name}: found {found}, expected {least} or more; correct the option.")
        if self.rare_share is not None and not 0 <= self.rare_share <= 1:
            raise DatasetError(f"rare_share: found {self.rare_share}, expected a share in [0, 1]; correct the option.")
        if self.style not in STYLES:
            raise DatasetError(f"style: found {self.style!r}, expected one of {sorted(STYLES)}; correct the option.")


def draw_scene(recipe: Recipe, split: str, index: int) -> Scene:
    """The scene of image ``index`` of ``split``."""
    key = [recipe.version, SPLITS.index(split), recipe.seed, index]
    return make_scene(
        np.random.default_rng(key),
        recipe.size,
        style=STYLES[recipe.style],
        rare_share=recipe.rare_share if split == "train" else None,
    )


def write_shapes(output: str | os.PathLike, recipe: Recipe, *, workers: int = 1) -> bool:
    """Write images/, semantic/, {instances,keypoints}_{train,val}.json and recipe.json under ``output``.

    Everything is written beside ``output`` first and renamed at the end: an interrupted run leaves no folder
    that looks complete. The files do not depend on ``workers`` (processes). The keypoints' json has the annotations of
    the instances' with the corners of the shapes, see :data:`~.shapes_scene.CORNERS`.

    Returns:
        False if the folder was there already, made by the same recipe; it is kept, and gets the keypoints if it lacks
        them.

    Raises:
        DatasetError: the folder holds something else.
    """
    output = Path(output)
    if _is_made(output, recipe):
        for split in SPLITS:
            _add_keypoints(output, recipe, split, workers)
        return False
    partial = output.with_name(f"{output.name}.partial-{os.getpid()}")
    try:
        for folder in ("images", "semantic"):
            (partial / folder).mkdir(parents=True)
        for split in SPLITS:
            _write_split(partial, recipe, split, workers)
        (partial / "recipe.json").write_text(json.dumps({"name": "shapes", **asdict(recipe)}, indent=1) + "\n")
        os.rename(partial, output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return True


def _is_made(output: Path, recipe: Recipe) -> bool:
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return False
    file = output / "recipe.json"
    if not file.is_file():
        raise DatasetError(f"{output}: found files but no recipe.json, expected an empty folder; choose another.")
    found = json.loads(file.read_text())
    wanted = {"name": "shapes", **asdict(recipe)}
    found = {"style": Recipe.style, **found}  # of before there were styles
    different = [key for key in wanted if found.get(key) != wanted[key]]
    if different:
        raise DatasetError(
            f"{file}: found {_values(found, different)}, expected {_values(wanted, different)}; remove "
            f"{output} to make it anew, or choose another folder."
        )
    return True


def _values(recipe: dict, keys: list[str]) -> str:
    return ", ".join(f"{key} {recipe.get(key)}" for key in keys)


def _write_split(folder: Path, recipe: Recipe, split: str, workers: int) -> None:
    entries = _for_each_scene(functools.partial(_write_scene, folder, recipe, split), recipe, split, workers)
    content = _content(recipe, split, [image for image, _ in entries], [a for _, of_image in entries for a in of_image])
    _write_keypoints(folder / f"keypoints_{split}.json", content)
    for annotation in content["annotations"]:
        for key in KEYPOINT_KEYS:
            del annotation[key]
    (folder / f"instances_{split}.json").write_text(json.dumps(content))


def _add_keypoints(folder: Path, recipe: Recipe, split: str, workers: int) -> None:
    """Write the keypoints beside the instances of a folder that was made without them."""
    path, source = folder / f"keypoints_{split}.json", folder / f"instances_{split}.json"
    if path.exists() or not source.exists():
        return
    drawn = _for_each_scene(functools.partial(_draw_annotations, recipe, split), recipe, split, workers)
    annotations = [a for of_image in drawn for a in of_image]
    content = json.loads(source.read_text())
    new = [{key: value for key, value in a.items() if key not in KEYPOINT_KEYS} for a in annotations]
    if [{**annotation, "id": 0} for annotation in content["annotations"]] != [{**a, "id": 0} for a in new]:
        raise DatasetError(
            f"{source}: found other instances than its recipe draws here, so that their keypoints are not known; "
            f"remove {folder} to make it anew."
        )
    content["annotations"] = [{"id": i, **a} for i, a in enumerate(annotations, start=1)]
    _write_keypoints(path, content)


def _write_keypoints(path: Path, content: dict) -> None:
    """COCO's person_keypoints format: all instances, those without corners with num_keypoints 0."""
    lines = [[i + 1, (i + 1) % len(CORNERS) + 1] for i in range(len(CORNERS))]
    categories = [{**category, "keypoints": list(CORNERS), "skeleton": lines} for category in content["categories"]]
    partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
    partial.write_text(json.dumps({**content, "categories": categories}))
    os.replace(partial, path)


def _for_each_scene(work: Callable[[int], Entry], recipe: Recipe, split: str, workers: int) -> list[Entry]:
    count = getattr(recipe, split)
    if workers <= 1:
        return _collect(map(work, range(count)), split, count)
    cv2.setNumThreads(0)  # here and not in the workers: a forked process hangs when it ends threads it never had
    with ProcessPoolExecutor(workers, initializer=end_with_parent) as pool:
        return _collect(pool.map(work, range(count), chunksize=8), split, count)


def _content(recipe: Recipe, split: str, images: list[dict], annotations: list[dict]) -> dict:
    return {
        "info": {
            "description": f"shapes, synthetic scenes, {split}",
            "version": str(recipe.version),
            "recipe": asdict(recipe),
            "license": "CC0 1.0",
        },
        "licenses": [{"id": 1, "name": "CC0 1.0", "url": "https://creativecommons.org/publicdomain/zero/1.0/"}],
        "categories": [
            {"id": i, "name": name, "supercategory": "shape", "isthing": 1}
            for i, name in enumerate(THING_CLASSES, start=1)
        ],
        "images": images,
        "annotations": [{"id": i, **annotation} for i, annotation in enumerate(annotations, start=1)],
    }


def _collect(entries: Iterable[Entry], split: str, count: int) -> list[Entry]:
    return list(tqdm(entries, desc=f"shapes {split}", total=count, unit="image", disable=None))


def _write_scene(folder: Path, recipe: Recipe, split: str, index: int) -> tuple[dict, list[dict]]:
    """Write image and semantic PNG; return the image entry and its annotations with keypoints, without their ids."""
    scene = draw_scene(recipe, split, index)
    name = f"{split}_{index:05d}.png"
    _write_png(folder / "images" / name, scene.image[:, :, ::-1])
    semantic = scene.semantic if recipe.rare_share is None else semantic_by_class(scene)
    _write_png(folder / "semantic" / name, semantic)
    image = {"id": index + 1, "file_name": name, "height": recipe.size, "width": recipe.size, "license": 1}
    return image, _annotations(scene, index)


def _draw_annotations(recipe: Recipe, split: str, index: int) -> list[dict]:
    return _annotations(draw_scene(recipe, split, index), index)


def _annotations(scene: Scene, index: int) -> list[dict]:
    return [
        {
            **{"image_id": index + 1, "category_id": thing + 1, "iscrowd": 0},
            **encode_mask(scene.instance_ids == i),
            **_coco_keypoints(corners),
        }
        for i, (thing, corners) in enumerate(zip(scene.classes, scene.corners, strict=True), start=1)
    ]


def _coco_keypoints(corners: np.ndarray) -> dict:
    """KEYPOINT_KEYS: x, y in indices of pixels, which are lower by 0.5 than coordinates, and visibility."""
    seen = ~np.isnan(corners[:, :1])
    points = np.hstack([np.where(seen, np.round(corners - 0.5, 3), 0), 2 * seen])
    return {"keypoints": points.flatten().tolist(), "num_keypoints": int(seen.sum())}


def _write_png(path: Path, pixels: np.ndarray) -> None:
    if not cv2.imwrite(str(path), np.ascontiguousarray(pixels)):
        raise OSError(f"{path}: cannot be written; check free space and permissions.")
