"""Own dataset, fine-tuning, own LazyConfig: each by the command that its file names."""

import json
import re
from pathlib import Path

import torch
from detectron2.modeling import build_model

from mtl_d2.engine import setup_cfg

from .conftest import ROOT, SMALL


def report(folder: Path) -> dict:
    return json.loads((folder / "report.json").read_text())


def test_own_dataset_is_registered_trained_on_and_scored(run, tmp_path: Path) -> None:
    run("examples/own_dataset.py", "--config-file", "examples/own_dataset.yaml", *SMALL, "OUTPUT_DIR", tmp_path)
    record = report(tmp_path)
    assert record["iterations"] == 2
    assert record["images"] == {"instance": 2, "sem_seg": 2, "edge": 2, "panoptic_seg": 2}
    assert "IoU-gravel" in record["results"]["sem_seg"] and "AP-cross" in record["results"]["segm"]


def test_fine_tuning_loads_all_but_the_layers_of_the_classes_and_lists_those(run, tmp_path: Path) -> None:
    config = "examples/finetune_coco.yaml"
    coco = ["MODEL.ROI_HEADS.NUM_CLASSES", "80", "MODEL.SEM_SEG_HEAD.NUM_CLASSES", "54", "MODEL.WEIGHTS", ""]
    torch.manual_seed(0)
    trained = build_model(setup_cfg(str(ROOT / config), [*SMALL, *coco])).state_dict()
    torch.save({"model": trained}, tmp_path / "coco.pth")
    out = tmp_path / "out"
    options = ["MODEL.WEIGHTS", tmp_path / "coco.pth", "SOLVER.BASE_LR", "0.0", "OUTPUT_DIR", out]
    run("tools/train_net.py", "--config-file", config, *SMALL, *options)

    listed = re.findall(r"re-initialised (\S+): \((\d+).* in the file, \((\d+)", (out / "log.txt").read_text())
    predictors = {"roi_heads.box_predictor.cls_score": (81, 5), "roi_heads.box_predictor.bbox_pred": (320, 16)}
    predictors |= {"roi_heads.mask_head.predictor": (80, 4), "sem_seg_head.predictor": (54, 4)}
    expected = {f"{name}.{kind}": counts for name, counts in predictors.items() for kind in ("weight", "bias")}
    assert {key: (int(found), int(wanted)) for key, found, wanted in listed} == expected
    # At a learning rate of 0 what was loaded is what is saved.
    tuned = torch.load(out / "model_final.pth", weights_only=True)["model"]
    same = {key for key in trained if tuned[key].shape == trained[key].shape and torch.equal(tuned[key], trained[key])}
    assert set(trained) - same == set(expected)
    assert report(out)["images"]["instance"] == 2


def test_own_lazy_config_changes_network_optimizer_augmentations_and_evaluators(run, tmp_path: Path) -> None:
    options = [f"train.output_dir={tmp_path}", "train.max_iter=2", "optimizer.lr=0.002"]
    run("tools/train_net.py", "--config-file", "examples/lazy_own.py", *options)
    assert set(report(tmp_path)["results"]) == {"sem_seg", "edge"}
    log = (tmp_path / "log.txt").read_text()
    assert re.search(r"Augmentations in training: \[RandomBrightness.*RandomCrop.*RandomFlip", log)
    state = torch.load(tmp_path / "model_final.pth", weights_only=True)
    assert not [key for key in state["model"] if key.startswith("roi_heads")]
    group = state["trainer"]["optimizer"]["param_groups"][0]
    assert "momentum" in group and group["momentum"] == 0.9


def test_every_example_stands_in_the_readme_with_its_command() -> None:
    readme = (ROOT / "examples" / "README.md").read_text()
    for path in (ROOT / "examples").iterdir():
        if path.suffix in (".py", ".yaml", ".sh"):
            assert f"examples/{path.name}" in readme, path.name
