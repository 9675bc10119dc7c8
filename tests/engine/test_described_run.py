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

from mtl_d2.comparison import read_comparison
from mtl_d2.comparison.plan import final_runs, search_runs
from mtl_d2.data import DatasetError
from mtl_d2.data.datasets import resolve_datasets
from mtl_d2.engine import run, setup_cfg
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


def test_a_comparison_gives_its_trainings_the_paths_of_descriptions(descriptions, tmp_path: Path) -> None:
    semantics = descriptions[1]
    (tmp_path / "base.yaml").write_text(tiny_cfg(["sem_seg"]).dump())
    described = {
        "config": "base.yaml",
        "seeds": [1],
        "overrides": {"DATASETS.TRAIN": [semantics], "DATASETS.TEST": [semantics]},
        "references": {"alone": {"MODEL.MTL.TASKS": ["sem_seg"]}},
        "search": {"folds": 3, "held_out": 1, "values": {"SOLVER.BASE_LR": [0.1, 0.2]}},
    }
    (tmp_path / "pets.yaml").write_text(yaml.safe_dump(described))
    comparison = read_comparison(tmp_path / "pets.yaml")
    (final,) = final_runs(comparison, {"alone": {}}).values()
    searched = search_runs(comparison)["alone", 0, 0]
    assert final.test_sets == ("only_semantics", "only_semantics.sample3")
    for name in [name for name in DatasetCatalog.list() if name.startswith("only_semantics")]:
        DatasetCatalog.pop(name)  # as in a process of its own
        MetadataCatalog.pop(name)
    cfgs = [setup_cfg(run.config, run.words) for run in (final, searched)]
    for cfg in cfgs:
        resolve_datasets(cfg)
    assert cfgs[0].DATASETS.TEST == ("only_semantics", "only_semantics.sample3")
    assert cfgs[1].DATASETS.TRAIN == ("only_semantics.rest0of3seed0",)
    assert len(DatasetCatalog.get("only_semantics.rest0of3seed0")) == 2


def test_names_of_classes_are_those_of_the_first_dataset_that_has_them(descriptions, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    semantic = {**LABELS["only_semantics"]["semantic"], "classes": [*"abcd"]}
    other.write_text(yaml.safe_dump({"images": "images", "semantic": semantic}))
    keys = {"DATASETS.TRAIN": [descriptions[1], str(other)], "DATASETS.TEST": descriptions[:1]}
    metadata = find_metadata(tiny_cfg(["instance", "sem_seg"], **keys))
    assert list(metadata.thing_classes) == list(TOY_THING_CLASSES)
    assert list(metadata.stuff_classes) == list(TOY_STUFF_CLASSES)
    DatasetCatalog.pop("other", None)
    MetadataCatalog.pop("other", None)
