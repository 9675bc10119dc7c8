"""A run on datasets that DATASETS names by the paths of their descriptions, each with labels of its own."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from mtl_d2.data import DatasetError
from mtl_d2.engine import run
from mtl_d2.engine.record import read_record
from mtl_d2.evaluation.edge_ground_truth import ground_truth_edges
from mtl_d2.predictor.pictures import find_metadata
from mtl_d2.testing import TOY_STUFF_CLASSES, TOY_THING_CLASSES, tiny_cfg, toy_dataset

LABELS = {
    "only_instances": {"instances": "instances.json"},
    "only_semantics": {"semantic": {"folder": "semantic", "classes": list(TOY_STUFF_CLASSES)}},
    "only_edges": {"edges": {"folder": "edges"}},
}


@pytest.fixture
def descriptions(tmp_path: Path) -> Iterator[list[str]]:
    """Three datasets on the same images: instances only, semantics only, edge PNGs only."""
    for folder in ("images", "semantic", "edges"):
        (tmp_path / folder).mkdir()
    content: dict = {"images": [], "annotations": []}
    content["categories"] = [{"id": i, "name": name} for i, name in enumerate(TOY_THING_CLASSES)]
    with toy_dataset(3) as name:
        for record in DatasetCatalog.get(name):
            file_name = f"image {record['image_id']}.png"
            Image.open(record["file_name"]).save(tmp_path / "images" / file_name)
            Image.open(record["sem_seg_file_name"]).save(tmp_path / "semantic" / file_name)
            edges = ground_truth_edges(record) == 1
            Image.fromarray(edges.astype(np.uint8) * 255).save(tmp_path / "edges" / file_name)
            size = {"height": record["height"], "width": record["width"]}
            content["images"].append({"id": record["image_id"], "file_name": file_name, **size})
            for annotation in record["annotations"]:
                keys = {key: annotation[key] for key in ("bbox", "category_id", "segmentation", "iscrowd")}
                number = len(content["annotations"])
                content["annotations"].append({"id": number, "image_id": record["image_id"], **keys})
    (tmp_path / "instances.json").write_text(json.dumps(content))
    for name, keys in LABELS.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump({"images": "images", **keys}))
    yield [str(tmp_path / f"{name}.yaml") for name in LABELS]
    for name in LABELS:
        DatasetCatalog.pop(name, None)
        MetadataCatalog.pop(name, None)


def arguments(tmp_path: Path, train: list[str], test: list[str], **options) -> argparse.Namespace:
    cfg = tiny_cfg(
        **{"OUTPUT_DIR": str(tmp_path / "out"), "SOLVER.MAX_ITER": 2, "MODEL.PANOPTIC_FPN.COMBINE.ENABLED": True}
    )
    (tmp_path / "config.yaml").write_text(cfg.dump())
    opts = ["DATASETS.TRAIN", str(tuple(train)), "DATASETS.TEST", str(tuple(test))]
    return argparse.Namespace(
        config_file=str(tmp_path / "config.yaml"), opts=opts, **{"resume": False, "eval_only": False, **options}
    )


def test_three_disjoint_datasets_train_and_score_each_task_on_its_own(descriptions, tmp_path: Path) -> None:
    results = run.run(arguments(tmp_path, descriptions, descriptions))
    assert {name: set(groups) for name, groups in results.items()} == {
        "only_instances": {"bbox", "segm"},
        "only_semantics": {"sem_seg"},
        "only_edges": {"edge"},
    }
    record = read_record(tmp_path / "out" / "report.json")
    assert record.images == {"only_instances/instance": 3, "only_semantics/sem_seg": 3, "only_edges/edge": 3}
    assert "TRAIN:\n  - only_instances" in (tmp_path / "out" / "config.yaml").read_text()

    # In a process that has read none of the files before: class names come with the records.
    for name in LABELS:
        DatasetCatalog.remove(name)
        MetadataCatalog.pop(name)
    args = arguments(tmp_path, [], descriptions[:1], resume=True, eval_only=True)
    assert run.run(args)["bbox"] == pytest.approx(results["only_instances"]["bbox"], nan_ok=True)


def test_a_missing_description_ends_a_run_but_not_a_prediction(descriptions, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"gone.yaml: cannot be read"):
        run.run(arguments(tmp_path, ["gone.yaml"], []))
    cfg = tiny_cfg(dataset="gone.yaml")
    assert find_metadata(cfg).stuff_classes[0] == "class 0"
    cfg.DATASETS.TEST = (descriptions[1],)
    assert find_metadata(cfg).stuff_classes == list(TOY_STUFF_CLASSES)
