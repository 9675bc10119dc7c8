"""The description of a converted split."""

import os
from pathlib import Path
from typing import Any

from mtl_d2.data.converters.split import Split


def describe(split: Split, output: Path, *, instances: bool, copied: bool) -> dict[str, Any]:
    """The keys of ``<split>.yaml``.

    Args:
        split: what was converted.
        output: the folder of the description.
        instances: whether there is an instances json.
        copied: whether the images were copied into ``output``.
    """
    content: dict[str, Any] = {
        "name": f"{Path(os.path.abspath(output)).name}_{split.name}",
        "images": f"images/{split.name}" if copied else image_path(split.images, output),
        "split": f"{split.name}.txt",
    }
    if instances:
        content["instances"] = f"instances_{split.name}.json"
        content["thing_classes"] = [split.things[i] for i in sorted(split.things)]
    if split.classes:
        content["semantic"] = {
            "folder": f"semantic/{split.name}",
            "classes": list(split.classes),
            "stuff": list(split.stuff),
            "ignore_label": 255,
        }
    if split.edge_source != "none":
        content["edges"] = {"derive": split.edge_source}
    elif (output / "edges" / split.name).is_dir():
        content["edges"] = {"folder": f"edges/{split.name}"}
    if instances:
        content["max_dets"] = split.max_dets
    return content


def image_path(images: str | os.PathLike, output: str | os.PathLike) -> str:
    """How a description in ``output`` refers to a folder.

    Relative where the folder lies in ``output``, by ${DETECTRON2_DATASETS} where it lies there, so that both may
    be moved together; else absolute.
    """
    path, base = os.path.abspath(images), os.path.abspath(output)
    if _is_within(path, base):
        return os.path.relpath(path, base)
    datasets = os.environ.get("DETECTRON2_DATASETS")
    if datasets:
        root = os.path.abspath(os.path.expanduser(datasets))
        if _is_within(path, root):
            return "/".join(("${DETECTRON2_DATASETS}", os.path.relpath(path, root)))
    return path


def _is_within(path: str, folder: str) -> bool:
    return os.path.commonpath([path, folder]) == folder
