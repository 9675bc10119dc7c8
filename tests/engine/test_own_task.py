"""What a task from outside the package brings along reaches config, mapper and command line."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode

from mtl_d2 import TASK_REGISTRY, TaskBranch, register_task
from mtl_d2.engine import build_train_mapper, command_line, setup_cfg
from mtl_d2.testing import tiny_cfg, toy_dataset


@pytest.fixture
def brightness() -> Iterator[type[TaskBranch]]:
    class Brightness(TaskBranch):
        name = "brightness"

        @classmethod
        def add_config(cls, cfg: CfgNode) -> None:
            cfg.MODEL.MTL.BRIGHTNESS = CfgNode({"DEPTH": 2})

        @classmethod
        def build_target(cls, cfg: CfgNode):
            return lambda record, transforms: {"brightness": torch.tensor(record["image_id"])}

    yield register_task(Brightness)
    TASK_REGISTRY._obj_map.pop("brightness")


def test_its_keys_have_defaults_and_are_checked(brightness, tmp_path: Path) -> None:
    assert setup_cfg().MODEL.MTL.BRIGHTNESS.DEPTH == 2
    file = tmp_path / "own.yaml"
    file.write_text("MODEL: {MTL: {BRIGHTNESS: {DEPTH: 3}}}\n")
    assert setup_cfg(str(file)).MODEL.MTL.BRIGHTNESS.DEPTH == 3
    with pytest.raises(ValueError, match=r"BRIGHTNESS.DETPH.*did you mean MODEL.MTL.BRIGHTNESS.DEPTH"):
        setup_cfg("", ["MODEL.MTL.BRIGHTNESS.DETPH", "3"])


def test_its_labels_are_made_only_where_it_is_trained(brightness) -> None:
    from detectron2.data import DatasetCatalog

    with toy_dataset(2) as name:
        record = DatasetCatalog.get(name)[1]
        assert build_train_mapper(tiny_cfg(("sem_seg", "brightness"), name))(record)["brightness"] == 1
        assert "brightness" not in build_train_mapper(tiny_cfg(("sem_seg",), name))(record)
        replaced = build_train_mapper(tiny_cfg(("sem_seg", "brightness"), name), augmentations=[], tasks=())(record)
        assert "sem_seg" not in replaced and "brightness" in replaced


def test_the_command_line_starts_the_processes_that_it_is_asked_for(monkeypatch) -> None:
    started: dict = {}
    monkeypatch.setattr(command_line, "launch", lambda main, count, **options: started.update(count=count, **options))
    command_line.main(["--config-file", "configs/quick/shapes.yaml", "--num-gpus", "2", "SEED", "3"])
    assert (started["count"], started["device"], started["dist_url"]) == (2, "cpu", "auto")
    assert started["args"][0].opts == ["SEED", "3"]


def test_an_error_in_the_config_is_a_sentence_and_starts_nothing(monkeypatch) -> None:
    monkeypatch.setattr(command_line, "launch", lambda *args, **options: pytest.fail("started"))
    with pytest.raises(SystemExit, match=r"--config-file no.yaml does not exist"):
        command_line.main(["--config-file", "no.yaml"])
