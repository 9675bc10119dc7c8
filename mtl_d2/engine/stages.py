"""The stages of a schedule (SOLVER.MTL.STAGES): what each trains, and from which weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from detectron2.config import CfgNode

from ..meta_arch import MultiTaskFPN
from ..separate_networks import SeparateTaskNetworks
from ..tasks import known_tasks
from .defaults import flat, merge_option

_KEY = "SOLVER.MTL.STAGES"
_NETWORKS = (MultiTaskFPN.__name__, SeparateTaskNetworks.__name__)
_FROM_THE_STAGE_BEFORE = ("MODEL.WEIGHTS", "MODEL.MTL.INIT")
AVERAGE = "average"


@dataclass(frozen=True)
class Stage:
    """A run of the config with some keys of its own.

    Attributes:
        name: of the stage, and of its folder in OUTPUT_DIR.
        cfg: of the run, OUTPUT_DIR and SEED included; what it starts from is in it for the first stage only.
        options: KEY VALUE ... that make it of the config, flat.
        trunk: where joint training follows separate networks: the task whose network gives the backbone, or "average".
    """

    name: str
    cfg: CfgNode
    options: Sequence[Any]
    trunk: str = ""

    @property
    def architecture(self) -> str:
        return self.cfg.MODEL.META_ARCHITECTURE

    @property
    def is_separate(self) -> bool:
        return self.architecture == SeparateTaskNetworks.__name__

    @property
    def tasks(self) -> list[str]:
        return list(self.cfg.MODEL.MTL.TASKS)


def read_stages(cfg: CfgNode) -> list[Stage]:
    """The stages of a config, in their order; [] if it has none.

    Raises:
        ValueError: naming the stage and the key, for what cannot be trained one after the other.
    """
    if cfg.SOLVER.MTL.STAGES and cfg.SOLVER.REFERENCE_WORLD_SIZE:
        raise ValueError(f"SOLVER.REFERENCE_WORLD_SIZE scales the steps of SOLVER, not those of {_KEY}: set it to 0.")
    stages: list[Stage] = []
    for entry in cfg.SOLVER.MTL.STAGES:
        stages.append(_read_stage(cfg, entry, len(stages)))
    names = [stage.name for stage in stages]
    if len(set(names)) < len(names):
        raise ValueError(f"{_KEY} has the names {names}: give each stage a name of its own.")
    for before, stage in zip([None, *stages], stages, strict=False):
        _check_start(stage, before)
    if stages:
        _check_last(stages[-1], cfg)
    return stages


def _read_stage(cfg: CfgNode, entry: Any, index: int) -> Stage:
    if not isinstance(entry, Mapping) or not _is_folder_name(entry.get("NAME")):
        raise ValueError(
            f"{_KEY} has {entry!r}: expected a NAME, such as 'joint', and keys of the config with their values, such "
            "as {NAME: joint, SOLVER.MAX_ITER: 500}."
        )
    where = f"{_KEY}, stage {entry['NAME']!r}"
    own = flat({key: value for key, value in entry.items() if key not in {"NAME", "TRUNK"}})
    options = {
        "SOLVER.MTL.STAGES": [],
        "OUTPUT_DIR": f"{cfg.OUTPUT_DIR}/{entry['NAME']}",
        "SEED": cfg.SEED + index if cfg.SEED >= 0 else cfg.SEED,  # so that images come in another order
        **own,
    }
    stage_cfg = cfg.clone()
    stage_cfg.defrost()
    for key, value in options.items():
        merge_option(stage_cfg, key, value, where)
    stage_cfg.freeze()
    stage = Stage(entry["NAME"], stage_cfg, [word for pair in options.items() for word in pair], entry.get("TRUNK", ""))
    _check_keys(stage, own, where, first=index == 0)
    return stage


def _is_folder_name(name: Any) -> bool:
    return isinstance(name, str) and name.replace("_", "").replace("-", "").isalnum()


def _check_keys(stage: Stage, own: Mapping[str, Any], where: str, *, first: bool) -> None:
    """What can be said of a stage alone."""
    if "OUTPUT_DIR" in own:
        raise ValueError(f"{where} sets OUTPUT_DIR: its folder is its NAME, in that of the run.")
    if not first and (given := [key for key in own if key.startswith(_FROM_THE_STAGE_BEFORE)]):
        raise ValueError(f"{where} sets {given[0]}: only the first stage does, the others go on from the one before.")
    if stage.architecture not in _NETWORKS:
        expected = " or ".join(_NETWORKS)
        raise ValueError(f"{where}: MODEL.META_ARCHITECTURE is {stage.architecture!r}; expected {expected}.")
    unknown = [task for task in stage.tasks if task not in known_tasks()]
    if unknown or not stage.tasks:
        raise ValueError(f"{where}: MODEL.MTL.TASKS is {stage.tasks}; expected some of {known_tasks()}.")


def _check_start(stage: Stage, before: Stage | None) -> None:
    """What a stage says of the one before."""
    where = f"{_KEY}, stage {stage.name!r}"
    joins = before is not None and before.is_separate and not stage.is_separate
    if stage.trunk and not joins:
        raise ValueError(f"{where} sets TRUNK, which is for a joint network after a stage of separate ones.")
    if before is None:
        return
    lost = [task for task in before.tasks if task not in stage.tasks]
    if lost:
        raise ValueError(f"{where} lacks the task {lost[0]!r} of the stage before, whose weights would be lost.")
    if before.is_separate != stage.is_separate and len(stage.tasks) < 2:
        raise ValueError(
            f"{where} has the task {stage.tasks[0]!r} alone, so that there is nothing to join or to separate: name "
            "more in MODEL.MTL.TASKS, or train it without stages."
        )
    if before.is_separate and stage.is_separate and set(stage.tasks) != set(before.tasks):
        raise ValueError(f"{where} has the tasks {stage.tasks}; expected those of the separate networks before it.")
    if joins and stage.trunk not in {AVERAGE, *before.tasks}:
        expected = ", ".join([*before.tasks, AVERAGE])
        raise ValueError(f"{where}: TRUNK is {stage.trunk!r}; expected whose backbone it starts from: {expected}.")


def _check_last(stage: Stage, cfg: CfgNode) -> None:
    """The config without its stages is that of the network that comes out, for evaluation and prediction."""
    for key, found, expected in (
        ("META_ARCHITECTURE", stage.architecture, cfg.MODEL.META_ARCHITECTURE),
        ("MTL.TASKS", stage.tasks, list(cfg.MODEL.MTL.TASKS)),
    ):
        if found != expected:
            raise ValueError(
                f"{_KEY}: MODEL.{key} of the last stage, {stage.name!r}, is {found}, that of the config {expected}: "
                "the last stage trains the config's own network, let the earlier ones differ."
            )
