"""From the command line to a frozen config and a process that is ready to work."""

import argparse
import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from detectron2.config import CfgNode, get_cfg
from detectron2.engine import DefaultTrainer, default_setup
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from ..config import add_mtl_config, add_part
from ..data.datasets import resolve_datasets
from ..tasks import get_task, known_tasks

_FEW = 12  # keys that an error message lists


def setup_cfg(config_file: str = "", opts: Sequence[Any] = ()) -> CfgNode:
    """Return Detectron2's config with the keys of mtl_d2, a yaml file (with ``_BASE_``) and ``opts`` merged.

    The keys of mtl_d2 are those of its config package, and those that registered tasks add.

    Args:
        config_file: a path; empty for the defaults alone.
        opts: KEY VALUE KEY VALUE ..., with dotted keys.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: an unknown key, a value of another type, or yaml that would build Python objects.
    """
    cfg = get_cfg()
    add_mtl_config(cfg)
    for task in known_tasks():
        get_task(task).add_config(cfg)
        add_part(cfg, task)
    if config_file:
        _merge_file(cfg, config_file)
    if len(opts) % 2:
        raise ValueError(
            f"{list(opts)} at the end of the command is not a list of KEY VALUE pairs (no '=' in between)."
        )
    for key, value in zip(opts[0::2], opts[1::2], strict=True):
        merge_option(cfg, key, value, "the command line")
    return cfg


def setup(args: argparse.Namespace) -> CfgNode:
    """Read the config, start the loggers and seed this process; call it in every process of the job.

    A negative SEED is replaced by one that all ranks share: with ``--resume`` and ``--eval-only`` the earlier run's, so
    that it may be resumed after an evaluation. SOLVER and DATALOADER are scaled if SOLVER.REFERENCE_WORLD_SIZE asks
    for it. Datasets that are named by the path of a description are registered, and named. The config is saved to
    OUTPUT_DIR/config.yaml.

    Args:
        args: of ``detectron2.engine.default_argument_parser()``.
    """
    cfg = setup_cfg(args.config_file, args.opts or ())
    resolve_datasets(cfg)
    check_supported(cfg)
    cfg = DefaultTrainer.auto_scale_workers(cfg, comm.get_world_size())
    cfg.defrost()
    if cfg.SEED < 0:
        cfg.SEED = draw_seed(cfg.OUTPUT_DIR if args.resume or args.eval_only else "")
    cfg.freeze()
    start_logging(cfg, args, cfg.OUTPUT_DIR)
    return cfg


def start_logging(cfg: Any, args: argparse.Namespace, output_dir: str) -> None:
    """Start the loggers, ours too, save the config to ``output_dir`` and seed this process."""
    setup_logger(output_dir, distributed_rank=comm.get_rank(), name="mtl_d2")
    default_setup(cfg, args)


def draw_seed(resumed_dir: str = "") -> int:
    """Return a random seed, the same on all ranks; that of the run in ``resumed_dir`` if there is one.

    A run of stages has its checkpoints in their folders.
    """
    seed = int.from_bytes(os.urandom(4), "little") >> 1
    config = Path(resumed_dir, "config.yaml")
    if resumed_dir and config.is_file() and _has_checkpoint(config.parent):
        earlier = yaml.safe_load(config.read_text())
        seed = earlier.get("SEED", earlier.get("train", {}).get("seed", seed))
    return comm.all_gather(seed)[0]


def _has_checkpoint(output_dir: Path) -> bool:
    return any(True for pattern in ("last_checkpoint", "*/last_checkpoint") for _ in output_dir.glob(pattern))


def check_supported(cfg: CfgNode) -> None:
    """Raise ValueError for what the config asks for and this machine or this engine cannot do."""
    check_device(cfg.MODEL.DEVICE, "MODEL.DEVICE cpu")
    for key, enabled in (
        ("TEST.AUG", cfg.TEST.AUG.ENABLED),
        ("TEST.PRECISE_BN", cfg.TEST.PRECISE_BN.ENABLED),
    ):
        if enabled:
            raise ValueError(f"{key}.ENABLED is True, which mtl_d2 does not do: set it to False.")


def check_device(device: str, remedy: str) -> None:
    """Raise ValueError where ``device`` is a GPU and torch sees none."""
    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"the config's device is {device!r}, but torch sees no GPU here: add {remedy} to the command.")


def _merge_file(cfg: CfgNode, path: str) -> None:
    if not os.path.isfile(path):
        raise FileNotFoundError(f"--config-file {path} does not exist (it is looked up from {os.getcwd()}).")
    try:
        loaded = CfgNode.load_yaml_with_base(path, allow_unsafe=False)
    except yaml.constructor.ConstructorError as error:
        raise ValueError(
            f"{path} (or its _BASE_) holds a tag that builds Python objects, which is not loaded: "
            f"{error.problem} in line {error.problem_mark.line + 1}; write plain yaml values."
        ) from error
    except yaml.YAMLError as error:
        raise ValueError(f"{path} (or its _BASE_) is not yaml: {error}") from error
    _check_keys(cfg, loaded, path)
    try:
        cfg.merge_from_file(path, allow_unsafe=False)
    except (ValueError, AssertionError) as error:
        raise ValueError(f"{path}: {error}") from error


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted keys; an empty one is a value."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        result |= flat(value, f"{name}.") if isinstance(value, Mapping) and value else {name: value}
    return result


def merge_option(cfg: CfgNode, key: str, value: Any, where: str) -> None:
    """Set a key of a config, in place.

    Args:
        key: dotted.
        where: who sets it, for the message of an error.

    Raises:
        ValueError: an unknown key, or a value of another type.
    """
    _check_keys(cfg, {key: value}, where)
    try:
        _merge_option(cfg, key, value)
    except (ValueError, AssertionError) as error:
        raise ValueError(f"{where} sets {key} {value}: {error}") from error


def _merge_option(cfg: CfgNode, key: str, value: Any) -> None:
    *path, name = key.split(".")
    node = cfg
    for part in path:
        node = node[part]
    if name in node:
        cfg.merge_from_list([key, value])
    else:  # yacs lets a file add a key where new ones are allowed, but not the command line
        node[name] = yaml.safe_load(value) if isinstance(value, str) else value


def _check_keys(cfg: CfgNode, loaded: dict[str, Any], where: str) -> None:
    known = dict(_flatten(cfg))
    for key, _ in _flatten(loaded):
        parent = key.rpartition(".")[0]
        if key in known or isinstance(known.get(parent), CfgNode) and known[parent].is_new_allowed():
            continue
        near = difflib.get_close_matches(key, known, n=3) or [k for k in known if k.endswith("." + key.split(".")[-1])]
        hint = f"did you mean {' or '.join(near)}?" if near else "see mtl_d2/config/ and Detectron2's config reference."
        while parent and parent not in known:
            parent = parent.rpartition(".")[0]
        siblings = sorted(known.get(parent) or {})
        if 0 < len(siblings) <= _FEW:
            hint += f" {parent} has {', '.join(siblings)}."
        raise ValueError(f"{where} sets {key}, which is not a config key: {hint}")


def _flatten(node: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in node.items():
        yield prefix + name, value
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{name}.")
