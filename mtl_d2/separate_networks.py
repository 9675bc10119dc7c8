"""One network for each task behind the joint network's interface: what a joint network is to be compared with."""

import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor, nn

from .meta_arch import MultiTaskFPN
from .modeling.panoptic_merge import PanopticMerge
from .tasks import TaskBranch, get_task, known_tasks
from .tasks.base import zero_over
from .tasks.task_log import TaskLog


@META_ARCH_REGISTRY.register()
class SeparateTaskNetworks(nn.Module):
    """A :class:`MultiTaskFPN` of its own for each task, with those tasks that it depends on; nothing is shared.

    Trained together, each network is bit by bit what a run with that task alone, the same seed and the same images
    makes of it: initial weights, random numbers of a step, optimizer and gradient clipping are its own (but a step
    that is left out for a NaN in one network is left out for all). The images are the same where all are labelled for
    all tasks: a run with one task alone leaves out those without its labels. This does not hold with what goes by the
    tasks (FILTER_EMPTY_ANNOTATIONS, REPEAT_THRESHOLD, UNDERSAMPLE_FREQUENT, UNDERSAMPLE_EMPTY and REPEAT_SEM_SEG of
    DATALOADER) or by the labels that they read (INPUT.MTL.CROP_CANDIDATES and COPY_PASTE), nor for an image with a
    broken label of another task.

    As each network has one task, only the prior weights of MODEL.MTL.BALANCER act. A checkpoint has the entries of
    each network below ``networks.<task>.``; one of a joint or a single network is loaded into each of them.

    Args:
        networks: ``{task: its network}``.
        panoptic: merges the answers of the networks for instances and semantics; None for no panoptic output.

    Attributes:
        active_tasks: those whose networks are trained in the steps to come; the others are not computed. None for all.
    """

    @configurable
    def __init__(self, *, networks: Mapping[str, MultiTaskFPN], panoptic: PanopticMerge | None = None) -> None:
        super().__init__()
        for task, network in networks.items():
            network.task_log = TaskLog((task,))  # two networks may have the same tasks, and the log one entry for each
        self.networks = nn.ModuleDict(networks)
        self.branches: dict[str, TaskBranch] = {task: network.branches[task] for task, network in networks.items()}
        self.active_tasks: Collection[str] | None = None
        self.panoptic = panoptic if {"instance", "sem_seg"} <= set(networks) else None

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        tasks = list(cfg.MODEL.MTL.TASKS)
        if not tasks or len(set(tasks)) < len(tasks):
            raise ValueError(f"MODEL.MTL.TASKS is {tasks}: name at least one of {known_tasks()}, and none twice")
        start = torch.get_rng_state()
        networks = {}
        for task in tasks:
            torch.set_rng_state(start)  # so that it gets the initial weights that it would have alone
            networks[task] = MultiTaskFPN(network_cfg(cfg, task))
        return {"networks": networks, "panoptic": PanopticMerge.from_config(cfg) if cfg.MODEL.MASK_ON else None}

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def network_of(self, task: str) -> MultiTaskFPN:
        """The network that answers to a task."""
        return self.networks[task]  # type: ignore[return-value]  # a ModuleDict knows modules

    def task_of(self, loss_name: str) -> str:
        """The task whose network a key of the losses belongs to, see :meth:`forward`."""
        prefix, _, name = loss_name.rpartition(".")
        owners = (task for task, branch in self.branches.items() if loss_name in branch.loss_names)
        return prefix if prefix in self.networks else next(owners, name.removeprefix("loss_"))

    def forward(self, batched_inputs: list[dict[str, Any]]) -> dict[str, Tensor] | list[dict[str, Any]]:
        """The losses of all networks in training, answers otherwise; see :meth:`MultiTaskFPN.forward`.

        Returns:
            in training the flat ``{loss name: scalar}``; the losses of a task that ``<task>`` depends on are
            ``<task>.<loss name>`` there.
        """
        if not self.training:
            return self.inference(batched_inputs)  # type: ignore[return-value]  # postprocessed, so a list
        flat: dict[str, Tensor] = {}
        state = _RandomState(self.device)
        for task, network in self.networks.items():
            if self._is_active(task):
                state.restore()
                flat.update(self._named(task, network(batched_inputs)))
            else:
                flat.update(self._zero_losses(task))
        return flat

    def forward_tasks(
        self, batched_inputs: list[dict[str, Any]]
    ) -> tuple[dict[str, Tensor], dict[str, dict[str, Tensor]], list[str]]:
        """See :meth:`MultiTaskFPN.forward_tasks`; there are no shared features, so that their dict is empty."""
        losses = {task: self._zero_losses(task) for task in self.networks if not self._is_active(task)}
        labelled: list[str] = []
        state = _RandomState(self.device)
        for task in filter(self._is_active, self.networks):
            state.restore()
            _, found, with_label = self.network_of(task).forward_tasks(batched_inputs)
            losses[task] = self._named(task, {name: loss for terms in found.values() for name, loss in terms.items()})
            labelled += [task] if task in with_label else []
        return {}, {task: losses[task] for task in self.networks}, labelled

    def _is_active(self, task: str) -> bool:
        return self.active_tasks is None or task in self.active_tasks

    def _zero_losses(self, task: str) -> dict[str, Tensor]:
        """Zeros that keep every parameter of a network in the graph, and leave its statistics as they are."""
        network = self.network_of(task)
        names = [name for branch in network.branches.values() for name in branch.loss_names]
        return self._named(task, dict.fromkeys(names, zero_over(network.parameters())))

    def _named(self, task: str, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        own = self.branches[task].loss_names
        return {name if name in own else f"{task}.{name}": loss for name, loss in losses.items()}

    @torch.no_grad()
    def inference(
        self, batched_inputs: list[dict[str, Any]], tasks: Iterable[str] | None = None, do_postprocess: bool = True
    ) -> list[dict[str, Any]] | dict[str, list]:
        """The answers to the tasks asked for, by their networks alone; see :meth:`MultiTaskFPN.inference`."""
        wanted = self.with_dependencies(list(self.branches) if tasks is None else list(tasks))
        found = {task: self.network_of(task).inference(batched_inputs, (task,), do_postprocess) for task in wanted}
        if not do_postprocess:
            return {task: outputs[task] for task, outputs in found.items()}  # type: ignore[call-overload]
        answers: list[dict[str, Any]] = [{} for _ in batched_inputs]
        # A task's own answer has its key; those of another's network under the same key are <task>_<key>.
        for task in sorted(found, key=lambda task: len(self.branches[task].depends_on)):
            for answer, part in zip(answers, found[task], strict=True):
                own = cast(dict[str, Any], part)
                answer.update({f"{task}_{key}" if key in answer else key: value for key, value in own.items()})
        for answer in answers:
            if self.panoptic and {"instances", "sem_seg"} <= set(answer):
                answer["panoptic_seg"] = self.panoptic(answer["instances"], answer["sem_seg"])
        return answers

    def with_dependencies(self, wanted: Sequence[str]) -> list[str]:
        """The tasks themselves: what one depends on is in its own network.

        Raises:
            ValueError: a task is not configured.
        """
        for name in wanted:
            if name not in self.branches:
                raise ValueError(f"task {name!r} has no network here: there are those of {sorted(self.branches)}")
        return list(dict.fromkeys(wanted))


def network_cfg(cfg: CfgNode, task: str) -> CfgNode:
    """The config of the network that a task has for itself: with what it depends on, and fixed weights."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.META_ARCHITECTURE = MultiTaskFPN.__name__
    cfg.MODEL.MTL.TASKS = _with_what_it_depends_on(task)
    if cfg.MODEL.MTL.BALANCER.NAME != "equal":  # which takes no prior weights
        cfg.MODEL.MTL.BALANCER.NAME = "fixed"
    cfg.freeze()
    return cfg


def _with_what_it_depends_on(task: str) -> list[str]:
    needed = [name for other in get_task(task).depends_on for name in _with_what_it_depends_on(other)]
    return [*dict.fromkeys(needed), task]


class _RandomState:
    """The global random states (torch with CUDA, numpy, random), from which every network draws as if it were alone.

    The last one leaves them where its draws have come to: in the next step others follow, whatever trains.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        self.states = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002 - heads draw from it

    def restore(self) -> None:
        torch.set_rng_state(self.states[0])
        np.random.set_state(self.states[1])  # noqa: NPY002
        random.setstate(self.states[2])
        if self.cuda is not None:
            torch.cuda.set_rng_state(self.cuda, self.device)
