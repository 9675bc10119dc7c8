"""A network put together from the parts of several checkpoints, before it is trained (MODEL.MTL.INIT)."""

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.utils import comm
from torch import Tensor, nn

from ..separate_networks import SeparateTaskNetworks
from .checkpoint import LoadReport
from .parts import find_parts, parameters_of
from .weights_file import WeightsError, fetch, read_checkpoint

logger = logging.getLogger(__name__)

_KEY = "MODEL.MTL.INIT"
_OF_JOINT = ("TRUNK", "NECK", "HEADS")
_BY_TASK = "neck.by_task."  # begins what a neck has for one task
_COUNTER = "num_batches_tracked"  # of batch norms; a frozen one does without


@dataclass(frozen=True)
class Part:
    """A part of a network and the checkpoints that give it.

    Attributes:
        key: of the config, such as "MODEL.MTL.INIT.HEADS.edge".
        files: one, or several whose average is taken.
        prefixes: with which the part's entries begin in a file; "" for all that the network has.
        below: what stands in front of that in the model, such as "networks.edge.".
        optional: with which the entries begin that a file may lack.
    """

    key: str
    files: Sequence[str]
    prefixes: tuple[str, ...]
    below: str = ""
    optional: tuple[str, ...] = ()


def load_initial_parts(cfg: CfgNode, model: nn.Module, report: LoadReport) -> None:
    """:func:`load_parts`, and a check that nothing random is frozen for the whole of a run.

    Args:
        report: of MODEL.WEIGHTS.

    Raises:
        WeightsError: as :func:`load_parts`; or SOLVER.MTL.SCHEDULE.FREEZE holds, from the first step to the last, a
            part that MODEL.WEIGHTS and MODEL.MTL.INIT lack.
    """
    load_parts(cfg, model)
    if not report.path:
        return
    state = model.state_dict()
    given = {key for part in parts_of(cfg, model) for key in state if _is_of(part, key)}
    lacking = {*report.missing, *(key for key, _, _ in report.reinitialised)} - given
    parts, names = find_parts(model), {p: name for name, p in model.named_parameters()}
    for entry in cfg.SOLVER.MTL.SCHEDULE.FREEZE:
        if entry["FROM"] == 0 and entry["TO"] in (-1, cfg.SOLVER.MAX_ITER):
            random = [names[p] for p in parameters_of(parts[entry["PART"]]) if names[p] in lacking]
            if random:
                raise WeightsError(
                    f"SOLVER.MTL.SCHEDULE.FREEZE holds {entry['PART']} in the whole run, but MODEL.WEIGHTS "
                    f"{report.path} lacks {random[0]}, so that it would stay random: name a checkpoint that has it, "
                    f"here or in {_KEY}, or let the part be trained."
                )


def _is_of(part: Part, key: str) -> bool:
    return key.startswith(part.below) and key.removeprefix(part.below).startswith(part.prefixes)


def load_parts(cfg: CfgNode, model: nn.Module) -> list[LoadReport]:
    """Load what MODEL.MTL.INIT names into a model; what it does not name keeps its values.

    Args:
        model: not wrapped for DDP.

    Returns:
        what each part was loaded from.

    Raises:
        WeightsError: a part that the model lacks; a file that is missing, unreadable, lacks the part or has it in
            other shapes. Nothing is loaded then.
    """
    read = _read_parts(cfg, model) if comm.is_main_process() else []
    comm.synchronize()  # what is wrong is said once, by the main process
    reports = []
    for part, values in read or _read_parts(cfg, model):
        kept = [key for key in model.state_dict() if key.startswith(part.optional) and key not in values]
        model.load_state_dict(values, strict=False)
        average = f"the average of {len(part.files)}: " if len(part.files) > 1 else ""
        path = f"{part.key} from {average}{', '.join(part.files)}"
        reports.append(LoadReport(path=path, loaded=len(values), missing=kept))
        logger.info("%s", reports[-1])
    return reports


def _read_parts(cfg: CfgNode, model: nn.Module) -> list[tuple[Part, dict[str, Tensor]]]:
    state = model.state_dict()
    return [(part, read_part(part, state)) for part in parts_of(cfg, model)]


def parts_of(cfg: CfgNode, model: Any) -> list[Part]:
    """The parts that MODEL.MTL.INIT names.

    Raises:
        WeightsError: the model lacks a part.
    """
    options, branches = cfg.MODEL.MTL.INIT, model.branches
    separate = isinstance(model, SeparateTaskNetworks)
    for name in _OF_JOINT if separate else ("NETWORKS",):
        if options[name]:
            expected = "NETWORKS" if separate else "TRUNK, NECK and HEADS"
            raise WeightsError(f"{_KEY}.{name} is not for a {type(model).__name__}, which takes {_KEY}.{expected}.")
    for name in ("HEADS", "NETWORKS"):
        unknown = [task for task in options[name] if task not in branches]
        if unknown:
            raise WeightsError(f"{_KEY}.{name}.{unknown[0]}: no such task in MODEL.MTL.TASKS {list(branches)}.")
    trunk = [Part(f"{_KEY}.TRUNK", tuple(options.TRUNK), ("backbone.",))] if options.TRUNK else []
    neck = [Part(f"{_KEY}.NECK", tuple(options.NECK), ("neck.",), optional=(_BY_TASK,))] if options.NECK else []
    if neck and not any(name.startswith("neck.") for name in model.state_dict()):
        raise WeightsError(f"{_KEY}.NECK: the neck {cfg.MODEL.MTL.NECK.NAME!r} of this network has no weights.")
    heads = [_head(task, file, branches[task].owned_modules) for task, file in options.HEADS.items()]
    networks = [
        Part(f"{_KEY}.NETWORKS.{task}", (file,), ("",), below=f"networks.{task}.")
        for task, file in options.NETWORKS.items()
    ]
    return [*trunk, *neck, *heads, *networks]


def _head(task: str, file: str, modules: Iterable[str]) -> Part:
    of_neck = f"{_BY_TASK}{task}."
    return Part(f"{_KEY}.HEADS.{task}", (file,), (*(f"{name}." for name in modules), of_neck), optional=(of_neck,))


def read_part(part: Part, model_state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The entries of a part, by their names in the model: from its file, or averaged over its files.

    Raises:
        WeightsError: a file is missing, unreadable, lacks the part or has it in other shapes.
    """
    names = [key.removeprefix(part.below) for key in model_state if key.startswith(part.below)]
    wanted = {name: model_state[part.below + name] for name in names if name.startswith(part.prefixes)}
    files = [_read_checked(part, file, wanted) for file in part.files]
    found = dict.fromkeys(name for file in files for name in file)
    return {part.below + name: average([file[name] for file in files if name in file]) for name in found}


def average(values: Sequence[Tensor]) -> Tensor:
    """The mean of several tensors; of counters (``num_batches_tracked``) the largest.

    Running means and variances of batch norms are averaged like weights. The averaged network's own statistics are
    others: it has to be trained on, with norms that are not frozen, before it answers well.
    """
    stacked = torch.stack(list(values))
    if not stacked.is_floating_point():
        return stacked.amax(dim=0)
    return stacked.double().mean(dim=0).to(stacked.dtype)


def _read_checked(part: Part, file: str, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found = _read_weights(file, part.key)
    lacking = [
        name for name in wanted if name not in found and not (name.endswith(_COUNTER) or name.startswith(part.optional))
    ]
    if lacking or not any(name in found for name in wanted):
        lacking = lacking or list(wanted)
        has = sorted({name.split(".")[0] for name in found})
        raise WeightsError(
            f"{part.key}: {file} lacks {len(lacking)} of {len(wanted)} entries, such as {lacking[0]!r}; it has "
            f"{', '.join(has)}. Name a checkpoint of a network with this part and of this architecture."
        )
    for name, value in wanted.items():
        if name in found and found[name].shape != value.shape:
            raise WeightsError(
                f"{part.key}: {name} is {tuple(found[name].shape)} in {file} and {tuple(value.shape)} here: name a "
                "checkpoint of this architecture and with these classes."
            )
    return {name: found[name] for name in wanted if name in found}


def _read_weights(path: str, key: str) -> dict[str, Tensor]:
    try:
        local = fetch(path)
        if not os.path.isfile(local):
            raise FileNotFoundError(f"there is no file {path}; name a checkpoint that was written.")
        return {name: torch.as_tensor(value) for name, value in read_checkpoint(local)["model"].items()}
    except (ValueError, OSError) as error:
        raise WeightsError(f"{key}: {error}") from error
